"""Whose log is it? Postfix or Exim, told from its lines."""

from __future__ import annotations

import re
from collections.abc import Iterator

from postwake_logparse.exim import MESSAGE_ID, EximGrammar
from postwake_logparse.postfix import PostfixGrammar
from postwake_logparse.postfix_rare import QUEUE_ID
from postwake_logparse.postfix_shapes import SERVICES
from postwake_logparse.record import Record
from postwake_logparse.shapes import Tally
from postwake_logparse.stamp import StampReader

# So much of a log is looked at: enough to get past other programs' lines, little enough to do again for every block.
LOOK_AT_BYTES = 256 * 1024

_SERVICE = "|".join(sorted(re.escape(service) for service in SERVICES))
_POSTFIX = re.compile(
    rf"(?:^|[ >])(?:postfix[^ /\[:]*/[^ \[:]+|[^ \[:]+/(?:{_SERVICE}))(?:\[[0-9]+\]:? |: )"
    rf"|^{QUEUE_ID}: (?:to|from|client|uid|message-id)="
    rf"|<[0-9]+>1 [^ ]+ [^ ]+ (?:postfix[^ ]*|[^ ]+/(?:{_SERVICE})) ".encode(),
    re.MULTILINE,
)
_EXIM = re.compile(
    rf"(?:^|[ >])exim[^ \[\]:/]*\[[0-9]+\]: "
    rf"|<[0-9]+>1 [^ ]+ [^ ]+ exim[^ /]* "
    rf"|^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}} [0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}(?:\.[0-9]+)?(?: [+-][0-9]{{4}})? "
    rf"(?:\[[0-9]+\] )?"
    rf"(?:(?:{MESSAGE_ID}) |Start queue run|End queue run|exim [0-9]|cwd=|H=|SMTP |TLS )".encode(),
    re.MULTILINE,
)


def detect_mta(data: bytes) -> str | None:
    """``postfix`` or ``exim``, whichever wrote more lines of ``data``; None if neither wrote any."""
    head = data[:LOOK_AT_BYTES]
    postfix = len(_POSTFIX.findall(head))
    exim = len(_EXIM.findall(head))
    if postfix == exim == 0:
        return None
    return "postfix" if postfix >= exim else "exim"


class AutoGrammar:
    """A grammar that finds out for itself, at the first block that tells, and stays with it."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._postfix = PostfixGrammar()
        self._exim = EximGrammar()
        # One account, whoever reads.
        self._postfix.tally = self._exim.tally = self.tally
        self.mta: str | None = None

    def parse_block(self, data: bytes, clock: StampReader) -> Iterator[Record]:
        """As the grammars' own; a block that tells nothing is read as Postfix's."""
        if self.mta is None:
            self.mta = detect_mta(data)
        grammar = self._exim if self.mta == "exim" else self._postfix
        return grammar.parse_block(data, clock)

    def parse_entry(
        self, body: str, *, at_us: int, host: str, tag: str, pid: str = "", offset: int = 0
    ) -> Record | None:
        """As the grammars' own, decided for each entry by its syslog identifier: a journal holds everybody's."""
        if tag.startswith("exim"):
            return self._exim.parse_entry(body, at_us=at_us, host=host, tag=tag, pid=pid, offset=offset)
        return self._postfix.parse_entry(body, at_us=at_us, host=host, tag=tag, pid=pid, offset=offset)


def open_grammar(mta: str) -> PostfixGrammar | EximGrammar | AutoGrammar:
    """The grammar for ``postfix``, ``exim`` or ``auto``. Raises ValueError for anything else."""
    if mta == "postfix":
        return PostfixGrammar()
    if mta == "exim":
        return EximGrammar()
    if mta == "auto":
        return AutoGrammar()
    raise ValueError(f"mta is {mta!r}: expected postfix, exim or auto")
