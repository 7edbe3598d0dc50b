"""Lines of quoted-printable that an edit touches, wrapped anew around what is put in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from struct import Struct

from .placing import TRANSFER_CHECK_FAILED, Gaps, TransferError
from .quoted_style import SHAPE, Line, Style, guard_space, is_plain

Item = bytes | int | Line


@dataclass(slots=True)
class Run:
    """Neighbouring physical lines that are wrapped anew, and the encoded bytes before them, which stay."""

    before: bytes
    items: list[Item]
    """What the lines say, encoded but not wrapped: bytes, the number of a replacement, or the end of a logical line."""


class Lines:
    """The placement of spans in quoted-printable.

    What the lines between the runs say has been proved; :meth:`fill` proves the runs. No line depends on another,
    whatever its break, so that whole lines can be decoded apart.
    """

    def __init__(
        self, runs: Sequence[Run], rest: bytes, style: Style, contents: Gaps, decode: Callable[[bytes], bytes]
    ) -> None:
        """*contents*: what the runs say, one behind the other."""
        self._runs = runs
        self._rest = rest
        self._style = style
        self._contents = contents
        self._decode = decode
        self._layouts: dict[bytes, _Layout] = {}

    def fill(self, replacements: Sequence[bytes]) -> bytes:
        """Return the encoded bytes with *replacements* in their places, wrapped as the original is."""
        style = self._style
        # Where a line is broken depends on what is escaped, and on nothing else that is in it.
        shape = b"\n".join(replacements).translate(SHAPE)
        layout = self._layouts.get(shape)
        if layout is None:
            layout = _lay_out(style, self._runs, self._rest, replacements)
            if len(self._layouts) < _MAX_LAYOUTS and not layout.breaks:
                self._layouts[shape] = layout
        filled, anew = layout.fill(replacements, style)
        meant = [style.break_lines(new) for new in replacements] if layout.breaks else replacements
        if self._decode(anew) != self._contents.fill(meant):
            raise TransferError(TRANSFER_CHECK_FAILED)
        return filled


_MAX_LAYOUTS = 2
"""Of one placement: a link's URL has the same length in every message, or one of two."""


class _Layout:
    """How the lines of all runs are wrapped, for whatever is escaped where these replacements are.

    Of a newsletter's thousands that is the same for all: what is left to be done for one is done without a loop.
    """

    __slots__ = ("_anew", "_cut", "_escaped", "_whole", "breaks")

    def __init__(self, whole: _Pieces, anew: _Pieces, escaped: Sequence[int], breaks: Collection[int]) -> None:
        """*escaped*: the numbers of the replacements that are spelt otherwise than they are; *breaks*: of those with
        line breaks, whose very bytes are in the layout."""
        self._cut = Struct("".join([f"{length}s" for length in whole.lengths])).unpack
        self._whole = whole.between
        self._anew = anew.between
        self._escaped = escaped
        self.breaks = breaks

    def fill(self, replacements: Sequence[bytes], style: Style) -> tuple[bytes, bytes]:
        """Return all lines with *replacements* in their places, and those of the runs alone."""
        encoded = [*replacements]
        for number in self._escaped:
            encoded[number] = b"" if number in self.breaks else style.encode(encoded[number])
        cut = self._cut(b"".join(encoded))
        whole, anew = self._whole.copy(), self._anew.copy()
        whole[1::2] = anew[1::2] = cut
        return b"".join(whole), b"".join(anew)


class _Pieces:
    """Encoded bytes of which some are to be cut from the replacements, one after the other: of those, the lengths."""

    __slots__ = ("between", "lengths")

    def __init__(self) -> None:
        self.between: list[bytes] = [b""]
        """All else, with room for what is cut at every second place."""
        self.lengths: list[int] = []

    def add(self, data: bytes) -> None:
        """Add bytes."""
        self.between[-1] += data

    def leave(self, length: int) -> None:
        """Leave room for the next *length* bytes of the replacements."""
        self.between += (b"", b"")
        self.lengths.append(length)

    def extend(self, more: _Pieces) -> None:
        """Add *more*."""
        self.between[-1] += more.between[0]
        self.between += more.between[1:]
        self.lengths += more.lengths


def _lay_out(style: Style, runs: Sequence[Run], rest: bytes, replacements: Sequence[bytes]) -> _Layout:
    """Return how *runs* are wrapped with *replacements* in their places, or with any others of their shape."""
    whole, anew = _Pieces(), _Pieces()
    escaped = [number for number, new in enumerate(replacements) if not is_plain(new)]
    breaks = {number for number in escaped if b"\n" in replacements[number]}
    for run in runs:
        pieces = _Pieces()
        content = b""
        gaps = [0]  # where in the content they begin and end
        for item in run.items:
            if isinstance(item, bytes):
                content += item
            elif isinstance(item, Line):
                _wrap(style, content, gaps, item.tail, pieces, soft=item.soft)
                content, gaps = b"", [0]
            elif item in breaks:
                first, *more = replacements[item].replace(b"\r\n", b"\n").split(b"\n")
                content += style.encode(first)
                for text in more:
                    _wrap(style, content, gaps, style.eol, pieces, soft=False)
                    content, gaps = style.encode(text), [0]
            else:
                gaps.append(len(content))
                content += style.encode(replacements[item]) if item in escaped else replacements[item]
                gaps.append(len(content))
        if not pieces.between[-1].endswith(b"\n") and (rest or run is not runs[-1]):
            raise TransferError(TRANSFER_CHECK_FAILED)
        anew.extend(pieces)
        whole.add(run.before)
        whole.extend(pieces)
    whole.add(rest)
    return _Layout(whole, anew, escaped, breaks)


def _wrap(style: Style, content: bytes, gaps: Sequence[int], tail: bytes, pieces: _Pieces, *, soft: bool) -> None:
    """Add the logical line *content*, wrapped, and its *tail* to *pieces*, with room for what is in its *gaps*."""
    content = content if soft else guard_space(content, style)
    stops = [*style.breaks(content, soft=soft), len(content)]
    at_stop = 0
    for number, (at, end) in enumerate(pairwise((*gaps, len(content)))):
        while at < end:
            if at == stops[at_stop]:
                pieces.add(b"=" + style.eol)
                at_stop += 1
            stop = min(end, stops[at_stop])
            if number % 2:
                pieces.leave(stop - at)
            else:
                pieces.add(content[at:stop])
            at = stop
    pieces.add(tail)
