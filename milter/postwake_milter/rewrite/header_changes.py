"""Changes of a message's own header fields, as libmilter takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import unsubscribe
from .control import Control
from .headers import RawField


@dataclass(frozen=True, slots=True)
class HeaderChange:
    """A change of one field, as libmilter takes it.

    *index* is 1-based among the fields of that name (compared without case); 0 adds one at the end. *value* is what
    stands after the colon and one space, folded with bare LF; None deletes. Make the changes in the order given: of
    one name, later fields come first, so that no deletion moves another's index.
    """

    name: bytes
    index: int
    value: bytes | None


def removals(control: Control) -> tuple[HeaderChange, ...]:
    """Return the deletions of the control fields, of each name the last first."""
    return tuple(HeaderChange(name, index, None) for name, index in sorted(control.remove, key=lambda item: -item[1]))


def encoding_change(fields: Sequence[RawField], encoding: bytes) -> list[HeaderChange]:
    """Return the changes that make *encoding* the message's Content-Transfer-Encoding, in every field that says it."""
    names = [name for name, _ in fields if name.lower() == b"content-transfer-encoding"]
    if not names:
        return [HeaderChange(b"Content-Transfer-Encoding", 0, encoding)]
    return [HeaderChange(name, index, encoding) for index, name in enumerate(names, 1)]


def unsubscribe_changes(fields: Sequence[RawField], value: bytes) -> list[HeaderChange]:
    """Return the changes that leave one List-Unsubscribe with *value* and one List-Unsubscribe-Post beside it."""
    changes: list[HeaderChange] = []
    for wanted, new in ((b"List-Unsubscribe", value), (b"List-Unsubscribe-Post", unsubscribe.ONE_CLICK)):
        names = [name for name, _ in fields if name.lower() == wanted.lower()]
        changes += (HeaderChange(names[index - 1], index, None) for index in range(len(names), 1, -1))
        changes.append(HeaderChange(names[0], 1, new) if names else HeaderChange(wanted, 0, new))
    return changes
