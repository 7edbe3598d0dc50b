"""Where the parts of a message are: byte spans over the body as it stands, nothing decoded, nothing copied.

RFC 2046 section 5.1. Delimiter lines are matched whole, white space at their end aside, so that a boundary which
starts like another is never mistaken for it. An outer boundary closes what an inner multipart left open; what
follows a closing delimiter is epilogue. One pass over the lines that begin with two hyphens, and every header line
is looked at once: the time is linear in the size of the body, whatever is nested in it.

Where two readers could see two different messages, there is no reading at all: :class:`StructureError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .content import Content, describe
from .headers import Field, read_block

MAX_DEPTH = 32
"""Deepest nesting of multiparts that is followed; mail people write has five or six."""
MAX_PARTS = 1000
"""Most parts that are followed."""


class StructureError(Exception):
    """The message cannot be taken apart safely; *reason* is the name of why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Part:
    """A leaf: ``body[body_start:body_end]`` under the fields of ``body[header_start:header_end]``.

    For a message that is no multipart the header span is empty: its fields are the message's own. The line break
    before a delimiter belongs to the delimiter, not to the part.
    """

    content: Content
    fields: tuple[Field, ...]
    header_start: int
    header_end: int
    body_start: int
    body_end: int
    parents: tuple[str, ...]
    """The types of the multiparts around it, outermost first."""
    path: tuple[int, ...]
    """Its place in each of *parents*, 0 for the first part there."""
    malformed: bool = False
    """Its header block holds something that is no header field, so readers differ about where its body starts."""

    @property
    def position(self) -> int:
        """0 for the first part of its multipart, and for a message that is none."""
        return self.path[-1] if self.path else 0

    def is_shown_with(self, other: Part) -> bool:
        """Whether a reader sees both: not one of them instead of the other (multipart/alternative)."""
        apart = next((i for i, (a, b) in enumerate(zip(self.path, other.path, strict=False)) if a != b), None)
        return apart is None or self.parents[apart] != "multipart/alternative"

    @property
    def is_top(self) -> bool:
        """Whether the part is the whole message, so that its fields are the message's."""
        return not self.parents


@dataclass(slots=True)
class _Frame:
    boundary: bytes
    type: str
    path: tuple[int, ...]
    parts: int = 0


def split(body: bytes, content: Content) -> list[Part]:
    """Return the leaf parts of *body*, whose message says *content* of itself, in order of their place.

    A multipart without a boundary is a leaf, as is every ``message/*`` part, whatever is in it. A missing closing
    delimiter ends the part at the end of the body. StructureError if the nesting is too deep, the parts are too
    many, or a boundary is used where two readers would disagree about it.
    """
    if not content.is_multipart or not content.boundary:
        return [Part(content, (), 0, 0, 0, len(body), (), ())]
    if content.ambiguous or b"\r--" in body:
        raise StructureError("ambiguous-structure")
    splitter = _Splitter(body)
    splitter.push(content, ())
    for start, end in _hyphen_lines(body):
        splitter.line(start, end, body[start + 2 : end].rstrip(b" \t\r"))
    splitter.finish_part(len(body), at_delimiter=False)
    return splitter.leaves


def _hyphen_lines(body: bytes) -> Iterator[tuple[int, int]]:
    """Yield start and end of each line that begins with two hyphens. Looking for substrings is four times as fast as
    an anchored regular expression, and every byte of every message is looked at."""
    start = 0 if body.startswith(b"--") else body.find(b"\n--") + 1
    while start or body.startswith(b"--"):
        end = body.find(b"\n", start)
        end = len(body) if end < 0 else end
        yield start, end
        start = body.find(b"\n--", end) + 1
        if not start:
            return


class _Splitter:
    """The stack of open multiparts, and the leaf being read."""

    def __init__(self, body: bytes) -> None:
        self.leaves: list[Part] = []
        self._body = body
        self._frames: list[_Frame] = []
        self._depth_of: dict[bytes, int] = {}
        self._lines: set[bytes] = set()
        self._open: Part | None = None

    def push(self, content: Content, path: tuple[int, ...]) -> None:
        """Enter a multipart, *path* being its own."""
        boundary = content.boundary
        if len(self._frames) >= MAX_DEPTH:
            raise StructureError("mime-too-deep")
        # "--a--" closes a and would open a boundary called "a--": which of the two, readers decide differently.
        clash = boundary in self._depth_of or boundary + b"--" in self._depth_of
        if clash or (boundary.endswith(b"--") and boundary[:-2] in self._depth_of):
            raise StructureError("ambiguous-structure")
        self._depth_of[boundary] = len(self._frames)
        self._frames.append(_Frame(boundary, content.type, path))
        self._lines |= {b"--" + boundary, b"--" + boundary + b"--"}

    def line(self, start: int, end: int, text: bytes) -> None:
        """Take a line that begins with two hyphens, *text* being what follows them."""
        depth = self._depth_of.get(text)
        closes = False
        if depth is None and text.endswith(b"--"):
            depth = self._depth_of.get(text[:-2])
            closes = True
        if depth is None:
            if b"\r" in text and self._is_delimiter(text[: text.index(b"\r")].rstrip(b" \t")):
                raise StructureError("ambiguous-structure")  # where a bare CR ends a line, this is a delimiter
            return
        self.finish_part(start, at_delimiter=True)
        self._pop_to(depth if closes else depth + 1)
        if not closes:
            self._begin_part(min(end + 1, len(self._body)))

    def _is_delimiter(self, text: bytes) -> bool:
        return text in self._depth_of or (text.endswith(b"--") and text[:-2] in self._depth_of)

    def finish_part(self, end: int, *, at_delimiter: bool) -> None:
        """End the leaf being read at *end*, less the line break that belongs to the delimiter."""
        part = self._open
        if part is None:
            return
        self._open = None
        if at_delimiter and end > part.body_start:
            end -= 1
            if end > part.body_start and self._body[end - 1 : end] == b"\r":
                end -= 1
        self.leaves.append(
            Part(
                part.content,
                part.fields,
                part.header_start,
                part.header_end,
                part.body_start,
                max(part.body_start, end),
                part.parents,
                part.path,
                part.malformed,
            )
        )

    def _pop_to(self, count: int) -> None:
        while len(self._frames) > count:
            frame = self._frames.pop()
            del self._depth_of[frame.boundary]
            self._lines -= {b"--" + frame.boundary, b"--" + frame.boundary + b"--"}

    def _begin_part(self, start: int) -> None:
        """Read the header block that starts after a delimiter line; enter the part if it is a multipart."""
        if len(self.leaves) >= MAX_PARTS:
            raise StructureError("mime-too-many-parts")
        frame = self._frames[-1]
        block = read_block(self._body, start, stop_line=self._lines)
        default = "message/rfc822" if frame.type == "multipart/digest" else "text/plain"
        content = describe([(field.name, field.value) for field in block.fields], default)
        path, frame.parts = (*frame.path, frame.parts), frame.parts + 1
        # RFC 5322's obsolete "Name :" is a field for some programs, and where the text starts for others.
        spaced = any(field.value_start - field.start > len(field.name) + 1 for field in block.fields)
        bare_cr = b"\r" in self._body[block.start : block.end].replace(b"\r\n", b"")
        if content.is_multipart and content.boundary and content.encoding == "identity" and not block.malformed:
            if content.ambiguous or spaced or bare_cr:
                raise StructureError("ambiguous-structure")
            self.push(content, path)
            return
        malformed = block.malformed and not self._ends_at_delimiter(block.body_start)
        parents = tuple(frame.type for frame in self._frames)
        self._open = Part(
            content,
            block.fields,
            block.start,
            block.end,
            block.body_start,
            block.body_start,
            parents,
            path,
            malformed or bare_cr or spaced,
        )

    def _ends_at_delimiter(self, at: int) -> bool:
        """Whether a header block ran into a delimiter or the end: a part without a body, which harms nobody."""
        return at >= len(self._body) or self._body.startswith(b"--", at)


def same_outline(before: Sequence[Part], after: Sequence[Part]) -> bool:
    """Whether two splits found the same parts in the same places of the tree: an edit must never make or end one."""
    return len(before) == len(after) and all(
        old.parents == new.parents and old.path == new.path and old.content.type == new.content.type
        for old, new in zip(before, after, strict=True)
    )
