"""What a log line says, as values: the records that the line grammars hand to the correlator.

One class per kind of statement an MTA makes about a message. All are named tuples, because a busy log makes
hundreds of thousands of them a second. Dispatch on the class. Shared by Postfix and Exim:

``at_us``
    when the MTA wrote the line, microseconds since 1970 UTC.
``host``
    the log line's host name; empty when the line has none (Exim's own files).
``program``
    who wrote it: see :class:`Program`.
``queue_id``
    Postfix queue ID or Exim message ID; empty for a mail refused before it had one (``NOQUEUE``).
``offset``
    where the line starts, in bytes from the start of the block given to ``parse_block``; 0 for single entries.

A field that the line does not have is ``None``; a field that is there and empty (``from=<>``) is ``""``.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

SENT = "sent"
DEFERRED = "deferred"
BOUNCED = "bounced"
EXPIRED = "expired"


class Program(NamedTuple):
    """The writer of a line, from its syslog tag.

    ``tag`` as logged (``postfix/relay/smtp``); ``instance`` its first part (``postfix``, ``postfix-out``), which is a
    hint only, since master.cf may name single services of one instance; ``service`` its last part (``smtp``), empty
    when the line does not tell (a bare body).
    """

    tag: str
    instance: str
    service: str


class Relay(NamedTuple):
    """Where an attempt went: ``text`` as logged, and its parts where it has them.

    ``name[ip]:port`` gives all three; ``name[private/dovecot-lmtp]`` a socket path in ``ip``'s place, so ``ip`` is
    None there and ``socket`` is set; ``local``, ``virtual``, ``dovecot`` give ``host`` alone; ``none`` gives nothing.
    """

    text: str
    host: str | None
    ip: str | None
    port: str | None
    socket: str | None


class Client(NamedTuple):
    """Where a message came from: smtpd's ``client=`` line, or pickup's ``uid= from=`` line (local submission).

    ``orig_queue_id`` is the queue ID this mail had before: a content filter handed it back with XFORWARD, or the
    operator requeued it (pickup's ``orig_id=``).
    """

    at_us: int
    host: str
    program: Program
    queue_id: str
    client_name: str | None
    client_ip: str | None
    sasl_method: str | None
    sasl_username: str | None
    sasl_sender: str | None
    orig_queue_id: str | None
    orig_client: str | None
    uid: int | None
    sender: str | None
    offset: int


class MessageId(NamedTuple):
    """Cleanup's ``message-id=`` line. ``message_id`` has no angle brackets; ``resent`` for ``resent-message-id=``."""

    at_us: int
    host: str
    program: Program
    queue_id: str
    message_id: str
    resent: bool
    offset: int


class Queued(NamedTuple):
    """The queue manager took the message up: ``from=<>, size=, nrcpt= (queue active)``. Repeated at every retry."""

    at_us: int
    host: str
    program: Program
    queue_id: str
    sender: str
    size_bytes: int
    nrcpt: int
    offset: int


class Arrival(NamedTuple):
    """Exim's ``<=`` line: Client, MessageId and Queued in one.

    ``parent_id`` is ``R=``, the message that this one (a bounce, a delay warning) is about. ``recipients`` from
    ``for …`` (log_selector +received_recipients), else None. ``fake_reject``: ``(=``, taken but the client was told no.
    """

    at_us: int
    host: str
    program: Program
    queue_id: str
    sender: str
    client_name: str | None
    client_ip: str | None
    helo: str | None
    protocol: str | None
    sasl_method: str | None
    sasl_username: str | None
    local_user: str | None
    size_bytes: int | None
    message_id: str | None
    subject: str | None
    parent_id: str | None
    recipients: tuple[str, ...] | None
    fake_reject: bool
    offset: int


class Attempt(NamedTuple):
    """One delivery attempt for one recipient, with its outcome.

    ``status`` is ``sent``, ``deferred``, ``bounced`` or ``expired`` (soft_bounce's ``SOFTBOUNCE`` is ``deferred``: the
    mail is retried).
    ``agent`` is the kind of delivery agent: Postfix's service (``smtp lmtp local virtual pipe error discard qmgr
    cleanup …``, empty if unknown) or, for Exim, ``smtp lmtp local pipe file autoreply discard error``.
    ``transport`` is Exim's ``T=``, ``sender`` its ``F=``. ``reply`` is the text in parentheses or after the colon, as
    logged (Exim's escapes undone). ``next_queue_id`` is what ``queued as X`` or ``forwarded as X`` or Exim's ``OK
    id=X`` named: the next hop's ID, which may or may not be one of ours. ``retry_only``: Exim noted that it is not time
    yet (``retry time not reached``): nothing was tried.
    """

    at_us: int
    host: str
    program: Program
    queue_id: str
    recipient: str
    original_recipient: str | None
    relay: Relay
    delay_s: float | None
    delays_text: str | None
    dsn: str | None
    status: str
    reply: str
    agent: str
    tls: str | None
    conn_use: int | None
    next_queue_id: str | None
    sender: str | None
    transport: str | None
    retry_only: bool
    offset: int

    @property
    def delays_s(self) -> tuple[float, float, float, float] | None:
        """Postfix's ``delays=a/b/c/d`` in seconds: before the queue manager, in it, connecting, transmitting."""
        if self.delays_text is None:
            return None
        parts = self.delays_text.split("/")
        if len(parts) != 4:
            return None
        try:
            return float(parts[0]), float(parts[1]), float(parts[2]), float(parts[3])
        except ValueError:
            return None


class QueueExpired(NamedTuple):
    """The queue manager gave up: every delivery that is still open has expired. ``forced``: with postsuper -e."""

    at_us: int
    host: str
    program: Program
    queue_id: str
    sender: str | None
    forced: bool
    offset: int


class HostSaid(NamedTuple):
    """One host's refusal or a lost connection, without a recipient's status: part of an attempt, nobody's fate."""

    at_us: int
    host: str
    program: Program
    queue_id: str
    relay: Relay
    reply: str
    offset: int


class NonDelivery(NamedTuple):
    """The bounce service sent a notice about a message, under a queue ID of its own.

    ``notice`` is ``non-delivery``, ``delay`` or ``delivery-status``; ``audience`` ``sender`` or ``postmaster``.
    """

    at_us: int
    host: str
    program: Program
    queue_id: str
    notice: str
    audience: str
    new_queue_id: str
    offset: int


class Removed(NamedTuple):
    """The MTA is done with the message (Postfix ``removed``, Exim ``Completed``): nothing more will follow."""

    at_us: int
    host: str
    program: Program
    queue_id: str
    offset: int


class Deleted(NamedTuple):
    """Taken out of the queue undelivered: by the operator (``by``, if told), or by Exim's timeout_frozen_after."""

    at_us: int
    host: str
    program: Program
    queue_id: str
    by: str | None
    text: str
    offset: int


class Held(NamedTuple):
    """The message stays in the queue until someone acts: Postfix's hold, Exim's Frozen."""

    at_us: int
    host: str
    program: Program
    queue_id: str
    text: str
    offset: int


class Released(NamedTuple):
    """A held message may be delivered again: released from hold, requeued, unfrozen."""

    at_us: int
    host: str
    program: Program
    queue_id: str
    text: str
    offset: int


class Rejected(NamedTuple):
    """A mail, or one recipient of it, was refused or silently discarded on the way in.

    ``action``: ``reject``, ``milter-reject``, ``proxy-reject``, ``discard``, ``milter-discard``. ``stage`` is the SMTP
    command (``RCPT``, ``MAIL``, ``END-OF-MESSAGE``, ``header`` …). ``code`` is None where the line has an enhanced code
    alone.
    """

    at_us: int
    host: str
    program: Program
    queue_id: str
    action: str
    stage: str
    client_name: str | None
    client_ip: str | None
    code: int | None
    dsn: str | None
    text: str
    sender: str | None
    recipient: str | None
    protocol: str | None
    helo: str | None
    offset: int


class Probe(NamedTuple):
    """The answer to an address verification probe (``deliverable``, ``undeliverable``): no mail was delivered."""

    at_us: int
    host: str
    program: Program
    queue_id: str
    recipient: str
    relay: Relay
    status: str
    dsn: str | None
    reply: str
    offset: int


Record: TypeAlias = (
    Client
    | MessageId
    | Queued
    | Arrival
    | Attempt
    | QueueExpired
    | HostSaid
    | NonDelivery
    | Removed
    | Deleted
    | Held
    | Released
    | Rejected
    | Probe
)
