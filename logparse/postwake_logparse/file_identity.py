"""Which file is this? Device, inode and what its first line says.

A name is no identity (logs are renamed), an inode neither (its number is given to the next file once the old one is
deleted: Filebeat and others skipped whole logs over that). The first line is: it carries a time stamp. Both together
decide, and the last bytes before our position confirm it, so that a file which was emptied and has grown past our
offset again is never taken for the old one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import NamedTuple, Self

from postwake.errors import DataError

FINGERPRINT_BYTES = 256
"""Long enough for stamp, host, process and queue ID of a first line, short enough to be there after one write."""

_STATE_VERSION = 1


class Fingerprint(NamedTuple):
    """A hash of some bytes, and of how many (a growing file has the old bytes as a prefix)."""

    length: int
    digest: str

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Return the fingerprint of all of *data*."""
        return cls(len(data), hashlib.blake2b(data, digest_size=16).hexdigest())

    def matches(self, data: bytes) -> bool:
        """Tell whether *data* starts with the bytes this was made of."""
        return len(data) >= self.length and self.of(data[: self.length]) == self

    def __str__(self) -> str:
        return f"{self.length}-{self.digest}"


def first_line_head(head: bytes) -> bytes | None:
    r"""Return the bytes that identify a file: its first line with the ``\n``, at most 256 bytes of it.

    *head* is the start of the uncompressed content, 256 bytes if there are that many. None as long as the first line
    is shorter than that and has no ``\n``: the identity is provisional, nothing can have been read from it either.
    """
    newline = head.find(b"\n", 0, FINGERPRINT_BYTES)
    if newline >= 0:
        return head[: newline + 1]
    return head[:FINGERPRINT_BYTES] if len(head) >= FINGERPRINT_BYTES else None


def fingerprint_of_head(head: bytes) -> Fingerprint | None:
    """Return the fingerprint of a file that starts with *head*, or None while it is provisional."""
    identifying = first_line_head(head)
    return None if identifying is None else Fingerprint.of(identifying)


@dataclasses.dataclass(frozen=True, slots=True)
class FileState:
    """The position in a followed file: what a file source's cursor says."""

    device: int = 0
    inode: int = 0
    fingerprint: Fingerprint | None = None
    tail: Fingerprint | None = None
    """Of the last bytes before ``offset`` (256, or all there are); None at offset 0."""
    offset: int = 0
    """Of the next unread byte, in uncompressed bytes."""
    generation: int = 0
    skipping: bool = False
    """Whether the next byte belongs to a line that is being discarded because it is too long."""
    mtime_us: int = 0
    """When the file had last been written to as we last read from it: a rotated file with a later time is news."""
    begin: int = 0
    """Where reading of this file began: what is before it was there already when following started at the end."""
    finished: tuple[str, ...] = ()
    """Fingerprints of the files that were read to their end before this one, latest last."""

    def to_json(self) -> str:
        """Return the state as the JSON text that a cursor holds."""
        fields = {
            "v": _STATE_VERSION,
            "device": self.device,
            "inode": self.inode,
            "fingerprint": self.fingerprint,
            "tail": self.tail,
            "offset": self.offset,
            "generation": self.generation,
            "skipping": self.skipping,
            "mtime_us": self.mtime_us,
            "begin": self.begin,
            "finished": self.finished,
        }
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def from_json(cls, source: str, text: str) -> Self:
        """Read the state of *source* from a cursor's *text*; :class:`~postwake.errors.DataError` if it is not one."""
        try:
            fields = json.loads(text)
            version = fields["v"]
            if version != _STATE_VERSION:
                raise DataError(
                    f"the stored position of {source} has version {version!r}: expected {_STATE_VERSION}; "
                    "it was written by another release of Postwake"
                )
            return cls(
                device=int(fields["device"]),
                inode=int(fields["inode"]),
                fingerprint=_fingerprint(fields["fingerprint"]),
                tail=_fingerprint(fields["tail"]),
                offset=int(fields["offset"]),
                generation=int(fields["generation"]),
                skipping=bool(fields["skipping"]),
                mtime_us=int(fields["mtime_us"]),
                begin=int(fields["begin"]),
                finished=tuple(str(entry) for entry in fields["finished"]),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"the stored position of {source} is not one of a file: {text[:200]!r} ({error!r})"
            ) from None


def holds_what_was_read(state: FileState, pread: Callable[[int, int], bytes]) -> bool:
    """Tell whether a file holds, up to the offset, what had been read when *state* was saved.

    *pread* reads it: size and offset in uncompressed bytes. Meant for states with a fingerprint.
    """
    if state.fingerprint is None or not state.fingerprint.matches(pread(FINGERPRINT_BYTES, 0)):
        return False
    if state.tail is None:
        return True
    tail = pread(state.tail.length, state.offset - state.tail.length)
    return len(tail) == state.tail.length and state.tail.matches(tail)


def _fingerprint(pair: list[object] | None) -> Fingerprint | None:
    if pair is None:
        return None
    length, digest = pair
    return Fingerprint(int(str(length)), str(digest))
