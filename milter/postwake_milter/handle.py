"""One whole message: is it tracked, what becomes of it, and the event that says so. Pure but for what it is given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from postwake.config import Config
from postwake.events import Accepted, Direction, Requeued
from postwake.networks import Networks
from postwake.tokens import KeyRing, Privacy
from postwake_milter.mint import TokenMint
from postwake_milter.policy import Origin, direction_of, domain_of, tracked_domain
from postwake_milter.rewrite.control import Control
from postwake_milter.rewrite.control_values import word
from postwake_milter.rewrite.engine import Plan, Rewritten, rewrite
from postwake_milter.rewrite.header_changes import HeaderChange
from postwake_milter.rewrite.headers import decode_text, unfold, values
from postwake_milter.rewrite.memory import Memory
from postwake_milter.rewrite.never_touch import STAMP, stamped_id

_FIELDS_ONLY = frozenset(("too-large", "busy"))
"""Why a body is not here though all may be edited: control fields are read, and taken out, as of any other mail."""
MAX_SUBJECT_CHARS = 250
"""Longer subjects are cut in the store; RFC 5322 recommends 78."""


@dataclass(slots=True)
class Envelope:
    """A message as the MTA handed it over."""

    at_us: int
    tracking_id: bytes
    """The ID it gets if it has none."""
    queue_id: str
    host: str
    sender: str
    """Envelope sender without brackets."""
    recipients: tuple[str, ...]
    origin: Origin
    client: str
    fields: Sequence[tuple[bytes, bytes]]
    """Header fields: name, and value with its leading space."""
    body: bytes
    body_skipped: str | None = None
    """Why the body is not here, if it is not: a reason's name."""
    size_bytes: int = 0


@dataclass(slots=True)
class Handled:
    """What the milter does with a message, and what it records."""

    event: Accepted | Requeued
    body: bytes | None = None
    """The new body, None if it stays."""
    header_changes: tuple[HeaderChange, ...] = ()
    outcome: str = "untracked"
    """tracked, untracked or requeued: a metric's label."""
    malformed_controls: int = 0

    def __str__(self) -> str:
        """Return what the log says of it: key=value, and nobody's address."""
        said = f"outcome={self.outcome} tracking_id={self.event.tracking_id.hex()}"
        if not isinstance(self.event, Accepted):
            return said
        if self.event.untracked_reason:
            said += f" reason={self.event.untracked_reason}"
        return f"{said} recipients={len(self.event.recipients)} links={self.event.links} us={self.event.rewrite_us}"


class Handler:
    """Handles messages under one configuration; replaced as a whole when that changes."""

    def __init__(self, config: Config, keys: KeyRing) -> None:
        """Take the checked configuration and the signing keys."""
        self.config = config
        self._keys = keys
        self._internal = Networks(config.mta.internal_networks)
        self._domains = frozenset(config.tracking.sender_domains)
        self._plans: dict[tuple[str, bool], Plan] = {}
        self._memory = Memory(config.milter.remember_bytes)

    def direction(self, origin: Origin) -> Direction:
        """Return which way mail of *origin* goes: inbound mail's body need not even be fetched."""
        return direction_of(origin, self._internal)

    def handle(self, envelope: Envelope) -> Handled:
        """Decide, rewrite, and say what to record. Raises nothing for any message; what it raises is a bug."""
        found = self._look(envelope)
        return found if isinstance(found, Handled) else self._rewrite(envelope, found)

    def unchanged(self, envelope: Envelope, reason: str) -> Handled:
        """Return what is recorded of a message that goes out as it came, because of *reason* if nothing else."""
        found = self._look(envelope)
        if isinstance(found, Handled):
            return found
        return Handled(self._event(envelope, Direction.OUTBOUND, found, None, reason))

    def _look(self, envelope: Envelope) -> str | Handled:
        """Return the tracked domain under which a message is to be rewritten, or what becomes of one that is not."""
        direction = self.direction(envelope.origin)
        # Encoded words stay: a display name may hold an address, which is none there (RFC 2047 section 6.2).
        header_from = unfold(_first(envelope.fields, b"from")).encode("latin-1").decode("utf-8", "replace")
        domain = tracked_domain(envelope.sender, header_from, self._domains)
        reason = self._declined(envelope, direction, domain)
        if reason is not None:
            return Handled(self._event(envelope, direction, domain, None, reason))
        assert domain is not None
        stamped = stamped_id(envelope.fields)
        if stamped is not None:
            return Handled(Requeued(envelope.at_us, stamped, envelope.queue_id), outcome="requeued")
        return domain

    def _declined(self, envelope: Envelope, direction: Direction, domain: str | None) -> str | None:
        if direction is Direction.INBOUND:
            return "inbound"
        if not envelope.sender:
            return "null-sender"
        if domain is None:
            return "sender-not-configured"
        return envelope.body_skipped if envelope.body_skipped not in _FIELDS_ONLY else None

    def _rewrite(self, envelope: Envelope, domain: str) -> Handled:
        tracking = self.config.tracking_for(domain)
        alone = len({recipient.lower() for recipient in envelope.recipients}) == 1
        privacy = effective_privacy(Privacy.parse(tracking.privacy), envelope.fields)
        mint = TokenMint(self._keys, tracking.url, envelope.tracking_id, 1 if alone else 0, privacy)
        body = None if envelope.body_skipped else envelope.body
        plan = self._plan(domain, shared=not alone)
        rewritten = rewrite(envelope.fields, body, plan, mint, self._memory)
        changes = rewritten.header_changes
        if rewritten.tracked:
            changes = (*changes, HeaderChange(STAMP, 0, envelope.tracking_id.hex().encode("ascii")))
        reason = rewritten.untracked_reason
        if reason == "too-large":  # as all mail is whose body is not here
            reason = envelope.body_skipped or reason
        event = self._event(envelope, Direction.OUTBOUND, domain, rewritten, reason, privacy)
        return Handled(
            event,
            rewritten.body,
            changes,
            "tracked" if rewritten.tracked else "untracked",
            len(rewritten.control.malformed),
        )

    def _plan(self, domain: str, *, shared: bool) -> Plan:
        plan = self._plans.get((domain, shared))
        if plan is None:
            plan = self._plans[domain, shared] = replace(make_plan(self.config, domain), shared=shared)
        return plan

    def _event(
        self,
        envelope: Envelope,
        direction: Direction,
        domain: str | None,
        rewritten: Rewritten | None,
        reason: str | None,
        privacy: Privacy = Privacy.FULL,
    ) -> Accepted:
        control = rewritten.control if rewritten is not None else Control()
        metadata = control.metadata
        if len(control.tags) > 1:
            metadata = {"tags": json.dumps(control.tags, ensure_ascii=False), **metadata}
        tracked = rewritten is not None and rewritten.tracked
        return Accepted(
            at_us=envelope.at_us,
            tracking_id=envelope.tracking_id,
            direction=direction,
            queue_id=envelope.queue_id,
            host=envelope.host,
            message_id=unfold(_first(envelope.fields, b"message-id")).strip("<> "),
            sender=envelope.sender,
            domain=domain or domain_of(envelope.sender),
            recipients=envelope.recipients,
            subject=decode_text(_first(envelope.fields, b"subject"))[:MAX_SUBJECT_CHARS],
            tag=control.tags[0] if control.tags else "",
            campaign=control.campaign or "",
            metadata=metadata,
            size_bytes=envelope.size_bytes,
            client=envelope.client,
            sasl_username=envelope.origin.sasl_username,
            tracked=tracked,
            untracked_reason="" if tracked else reason or "nothing-to-track",
            pixels=rewritten.opens if rewritten is not None else 0,
            links=len(rewritten.destinations) if rewritten is not None else 0,
            links_skipped=rewritten.links_skipped if rewritten is not None else {},
            parts_rewritten=rewritten.parts_rewritten if rewritten is not None else 0,
            privacy=privacy,
        )


def make_plan(config: Config, domain: str) -> Plan:
    """Return what *config* wants of mail of the tracked sender *domain*."""
    tracking = config.tracking_for(domain)
    return Plan(
        opens=tracking.opens,
        clicks=tracking.clicks,
        text_clicks=tracking.text_clicks,
        pixel_position=tracking.pixel,
        own_hosts=config.own_hosts(),
        excluded_hosts=tuple(tracking.exclude_hosts),
        skip_visible_url=not tracking.visible_url_links,
        skip_unsubscribe=not tracking.unsubscribe_links,
        allow_dkim_signed=tracking.dkim_signed,
        list_unsubscribe=tracking.list_unsubscribe,
        max_message_bytes=config.milter.max_message_bytes,
    )


def effective_privacy(configured: Privacy, fields: Sequence[tuple[bytes, bytes]]) -> Privacy:
    """Return the most restrictive of *configured* and what the message's own X-Track-Privacy fields ask for."""
    for value in values(fields, b"x-track-privacy"):
        with suppress(ValueError):
            configured = max(configured, Privacy.parse(word(value)))
    return configured


def _first(fields: Sequence[tuple[bytes, bytes]], name: bytes) -> bytes:
    found = values(fields, name)
    return found[0] if found else b""
