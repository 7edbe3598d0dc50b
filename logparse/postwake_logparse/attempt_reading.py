"""What an attempt's line means, before anybody asks the store: its reply understood, its delays in microseconds.

Pure, and memoised where texts repeat, so that another process can do it (see :mod:`postwake_logparse.parse_ahead`).
The reply of a successful delivery is not classified.
"""

from __future__ import annotations

from typing import NamedTuple

from postwake.events import EventType
from postwake.reply import Classifier
from postwake.store.counting import domain_of
from postwake.store.dictionary import StoredReply, cut_variable, is_variable
from postwake_logparse.record import BOUNCED, DEFERRED, EXPIRED, SENT, Attempt
from postwake_logparse.resubmitted import is_pipe

MEMO_ENTRIES = 10_000
FAILURES_ENTRIES = 2_000
"""Replies to failed attempts are long, and new each time where the server writes an identifier into them."""


Verdict = tuple["str | None", "str | None", "str | None", "str | None"]
"""Kind, fault, category and provider of a reply: see :class:`~postwake.store.dictionary.StoredReply`."""


class Tried(NamedTuple):
    """An :class:`~postwake_logparse.record.Attempt`, understood; fields that are not told here are as there.

    Plain strings and numbers, so that it crosses a pipe as it is: ``kind`` is the number of an
    :class:`~postwake.events.EventType`, ``key`` the recipient in lower case and ``domain`` its domain, ``to_pipe``
    whether a pipe took it. ``reply`` is the text as the dictionary keeps it, ``reply_part`` what was cut out of it;
    ``rule`` and ``verdict`` are None for what was sent.
    """

    at_us: int
    host: str
    queue_id: str
    recipient: str
    key: str
    domain: str
    original_recipient: str | None
    kind: int
    relay: str
    to_pipe: bool
    agent: str
    reply: str
    code: int | None
    dsn: str | None
    rule: str | None
    verdict: Verdict | None
    reply_part: str | None
    delay_us: int | None
    before_qmgr_us: int | None
    in_qmgr_us: int | None
    connect_us: int | None
    transmit_us: int | None
    next_queue_id: str | None
    sender: str | None
    retry_only: bool
    offset: int


_SENT = int(EventType.SENT)
_EXPIRED = int(EventType.EXPIRED)
_KIND = {DEFERRED: int(EventType.DEFERRED), BOUNCED: int(EventType.BOUNCED), EXPIRED: _EXPIRED}

# NamedTuple's own constructor re-packs its arguments; this makes the same object in a third of the time.
_new = tuple.__new__

_Understood = tuple[str, "int | None", "str | None", "str | None", Verdict, "str | None"]


class _Microseconds(dict[str, int]):
    """Seconds as logged, ``0.12``, to microseconds. Two digits are usual, so a log has some hundred different ones."""

    def __missing__(self, seconds: str) -> int:
        """Convert; raises ValueError for what is no number."""
        if len(self) >= MEMO_ENTRIES:
            self.clear()
        self[seconds] = converted = round(float(seconds) * 1e6)
        return converted


class AttemptReader:
    """Reads attempts."""

    def __init__(self, classifier: Classifier) -> None:
        """Take what classifies replies."""
        self._classifier = classifier
        self._memo: dict[tuple[str, str, str | None, str | None], _Understood] = {}
        self._us = _Microseconds()
        self._heads: dict[str, int] = {}
        """By what stands before the last word: where the first variable word begins, -1 if nothing can be cut."""

    def read(self, attempt: Attempt) -> Tried:
        """Return what *attempt* means."""
        (
            at_us,
            host,
            _,
            queue_id,
            recipient,
            original,
            relay,
            delay_s,
            delays,
            dsn,
            status,
            reply,
            agent,
            _,
            _,
            next_queue_id,
            sender,
            _,
            retry_only,
            offset,
        ) = attempt
        before: int | None = None
        queued: int | None = None
        connecting: int | None = None
        sending: int | None = None
        if delays is not None:
            us = self._us
            try:
                a, b, c, d = delays.split("/")
                before, queued, connecting, sending = us[a], us[b], us[c], us[d]
            except (ValueError, OverflowError):
                before = queued = connecting = sending = None
        if status == SENT:
            kind = _SENT
            code: int | None = None
            rule = verdict = part = None
            text = reply
            if reply:
                text, part = self._cut(reply)
                digits = reply[:3]
                code = int(digits) if digits.isdecimal() else None
        else:
            kind = _KIND[status]
            text, code, dsn, rule, verdict, part = self._understand(attempt)
            if kind != _KIND[DEFERRED] and verdict[2] == "expired":
                kind = _EXPIRED
        key = recipient.lower()
        return _new(
            Tried,
            (
                at_us,
                host,
                queue_id,
                recipient,
                key,
                domain_of(key),
                original,
                kind,
                relay.text,
                relay.ip is None and is_pipe(relay.text),
                agent,
                text,
                code,
                dsn,
                rule,
                verdict,
                part,
                None if delay_s is None else round(delay_s * 1e6),
                before,
                queued,
                connecting,
                sending,
                next_queue_id,
                sender,
                retry_only,
                offset,
            ),
        )

    def expired(self, forced: bool) -> StoredReply:
        """Return the reply of mail that the queue manager gave up, which quotes no server."""
        text = "message expired by force, returned to sender" if forced else "message expired, returned to sender"
        verdict = self._classifier.classify(text, code=None, dsn=None, status=BOUNCED, relay="none")
        return StoredReply(
            text, None, None, verdict.kind, verdict.fault, verdict.category, verdict.provider, verdict.rule
        )

    def _cut(self, reply: str) -> tuple[str, str | None]:
        """As :func:`~postwake.store.dictionary.cut_variable`, quicker for replies that end in what is variable."""
        head, space, last = reply.rpartition(" ")
        if not space or not is_variable(last) or "{}" in last:
            return cut_variable(reply)
        start = self._heads.get(head)
        if start is None:
            if len(self._heads) >= MEMO_ENTRIES:
                self._heads.clear()
            text, part = cut_variable(head)
            start = -1 if "{}" in head else len(head) + 1 if part is None else text.index("{}")
            self._heads[head] = start
        if start < 0:
            return reply, None
        return f"{reply[:start]}{{}}", reply[start:]

    def _understand(self, attempt: Attempt) -> _Understood:
        key = (attempt.reply, attempt.status, attempt.dsn, attempt.relay.host)
        found = self._memo.get(key)
        if found is None:
            if len(self._memo) >= FAILURES_ENTRIES:
                self._memo.clear()
            found = self._memo[key] = self._classify(attempt)
        return found

    def _classify(self, attempt: Attempt) -> _Understood:
        text, part = cut_variable(attempt.reply)
        verdict, code, dsn = self._classifier.judge(
            attempt.reply, dsn=attempt.dsn, status=attempt.status, relay=attempt.relay.text
        )
        found = (verdict.kind, verdict.fault, verdict.category, verdict.provider)
        return text, code, attempt.dsn or dsn, verdict.rule, found, part
