"""Transfer encodings are edited in place: the edit lands, and every line that it does not touch is the same bytes."""

from __future__ import annotations

import base64
import binascii
import contextlib
import quopri
import re
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postwake_milter.rewrite import quoted_layout
from postwake_milter.rewrite.base64_lines import Base64
from postwake_milter.rewrite.html_scan import Edit, apply_edits
from postwake_milter.rewrite.placing import TRANSFER_CHECK_FAILED, TransferError
from postwake_milter.rewrite.quoted_printable import QuotedPrintable
from postwake_milter.rewrite.quoted_style import encode_quoted_printable
from postwake_milter.rewrite.transfer import apply_to, open_body, overlong_line

URL = b"https://t.example/c/AbC=dEf"

# before, the text to replace in it (decoded), its replacement, after
QP_TABLE = [
    pytest.param(b'<a href=3D"x">y</a>\r\n', b"x", b"q", b'<a href=3D"q">y</a>\r\n', id="in-place"),
    pytest.param(
        b"a=3Db\r\nX\r\nc=3dd\r\n", b"X", b"p=q", b"a=3Db\r\np=3Dq\r\nc=3dd\r\n", id="other-lines-keep-their-case"
    ),
    pytest.param(b"=c3=a4 X\n", b"X", b"=", b"=c3=a4 =3d\n", id="lower-case-encoder"),
    pytest.param(b"=C3=A4 X\n", b"X", b"=", b"=C3=A4 =3D\n", id="upper-case-encoder"),
    pytest.param(b"=41=42 X\n", b"X", b"y", b"=41=42 y\n", id="overcautious-spelling-stays"),
    pytest.param(b"one =\r\ntwo X=\r\nthree\r\n", b"X", b"", b"one =\r\ntwo =\r\nthree\r\n", id="soft-breaks-stay"),
    pytest.param(b"X  \r\nnext\r\n", b"X", b"y", b"y  \r\nnext\r\n", id="padding-stays"),
    pytest.param(b"ab X\r\nnext\r\n", b"X", b"", b"ab=20\r\nnext\r\n", id="space-left-at-the-end-is-encoded"),
    pytest.param(b"a\r\nb\r\nc", b"a\r\nb", b"z", b"z\r\nc", id="a-line-break-goes"),
    pytest.param(b"a X", b"X", b"1\r\n2", b"a 1\r\n2", id="a-line-break-comes"),
    pytest.param(b"X=\r\n", b"X", b"y", b"y=\r\n", id="soft-break-at-the-end"),
    pytest.param(b"\xe4 X\r\n", b"X", b"y", b"\xe4 y\r\n", id="raw-eight-bit"),
    pytest.param(
        b"0123456789012345678901234567890123456789=\n01234567890123456789X\n",
        b"X",
        b"a" * 30,
        b"0123456789012345678901234567890123456789=\n01234567890123456789aaaaaaaaaaaaaaaaaaaa=\naaaaaaaaaa\n",
        id="wraps-where-the-original-wraps",
    ),
    pytest.param(
        b"X" + b"=C3=A4" * 12 + b"\r\n",
        b"X",
        b"yyyyy",
        b"yyyyy" + b"=C3=A4" * 11 + b"=\r\n=C3=A4\r\n",
        id="never-breaks-a-character",
    ),
]


@pytest.mark.parametrize(("before", "old", "new", "after"), QP_TABLE)
def test_quoted_printable_edit(before: bytes, old: bytes, new: bytes, after: bytes) -> None:
    """An edit changes the physical lines that it touches, in the encoder's own habits, and no others."""
    opened = open_body(before, "quoted-printable")
    at = opened.decoded.index(old)

    assert apply_to(opened, [Edit(at, at + len(old), new)]) == after


@pytest.mark.parametrize(
    "encoded",
    [b'<a href="x">', b"a=", b"=\r=\n", b"=4", b"=G0", b"==", b"a =3", b"= x\r\n"],
    ids=repr,
)
def test_quoted_printable_that_decodes_differently_is_refused(encoded: bytes) -> None:
    """Programs read a bare equals sign differently: such a part is not opened (a soft break at the end is fine)."""
    if encoded == b"a=":
        assert open_body(encoded, "quoted-printable").decoded == b"a"
        return
    with pytest.raises(TransferError, match="malformed-quoted-printable"):
        open_body(encoded, "quoted-printable")


def test_padding_is_no_content() -> None:
    """White space at the end of an encoded line is dropped from the content, before soft breaks as well (rule 3)."""
    assert open_body(b"a \t\r\nb= \nc \n", "quoted-printable").decoded == b"a\r\nbc\n"


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"aGVsbG8=\r\n-- \r\nfooter", "malformed-base64"),
        (b"aGVs\r\nbG8=aGVs", "malformed-base64"),
        (b"aGVsb", "malformed-base64"),
        (b"aGVsbG8==", "malformed-base64"),
        (b"aGV-bG8=", "malformed-base64"),
    ],
    ids=["footer", "two-in-a-row", "one-digit-left", "too-much-padding", "url-alphabet"],
)
def test_base64_that_decodes_differently_is_refused(encoded: bytes, reason: str) -> None:
    """Base64 with anything in it but digits, white space and right padding is not opened."""
    with pytest.raises(TransferError, match=reason):
        open_body(encoded, "base64")


@pytest.mark.parametrize(
    "encoded",
    [b"", b"\r\n", b"aGVsbG8", b" aGVs bG8=\r\n\r\n", b"aGVs\nbG8gd29ybGQ=\n", b"aGVsbG8gd29ybA=\r\n=\r\n"],
    ids=["empty", "blank", "no-padding", "spaces", "short-lines", "padding-on-two-lines"],
)
def test_base64_is_the_same_without_edits(encoded: bytes) -> None:
    """Nothing to change means the same bytes, however they are laid out."""
    assert apply_to(open_body(encoded, "base64"), []) == encoded


def test_base64_keeps_what_precedes_and_its_layout() -> None:
    """Lines before the first changed quantum are the same bytes; those after have the original's length and ending."""
    text = bytes(range(65, 91)) * 10
    encoded = b"\n".join(base64.b64encode(text)[at : at + 60] for at in range(0, 400, 60)) + b"\n\n"
    opened = open_body(encoded, "base64")
    after = apply_to(opened, [Edit(100, 101, b"!!")])

    assert after.startswith(encoded[:134])  # 33 quanta, 132 digits, two line breaks
    assert {len(line) for line in after.rstrip(b"\n").split(b"\n")[:-1]} == {60}
    assert after.endswith(b"\n\n")
    assert base64.b64decode(after) == text[:100] + b"!!" + text[101:]


def test_unknown_encoding_is_refused() -> None:
    """An encoding that mail does not have is not guessed at."""
    with pytest.raises(TransferError, match="unknown-transfer-encoding"):
        open_body(b"", "x-uuencode")


@pytest.mark.parametrize(
    ("line", "at", "new", "overlong"),
    [
        (b"a" * 998, 5, b"", False),
        (b"a" * 998, 5, b"b", True),
        (b"a" * 997 + b"\r\n", 5, b"b", False),
        (b"a" * 998 + b"\r\n" + b"b", 1000, b"c", False),
        (b"b\r\n" + b"a" * 998, 0, b"c", False),
        (b"a" * 500 + b"\r\n" + b"a" * 900, 1400, b"b" * 100, True),
        (b"x", 0, b"\n" + b"b" * 999 + b"\n", True),
    ],
    ids=[
        "fits",
        "one-too-long",
        "crlf-does-not-count",
        "untouched-line-long",
        "next-line-long",
        "at-the-end",
        "inside",
    ],
)
def test_overlong_line(line: bytes, at: int, new: bytes, overlong: bool) -> None:
    """Only a line that an edit touches counts, and 998 octets are allowed on it."""
    assert overlong_line(line, [(at, at)], [new]) is overlong


# --- Properties ---

TEXT = st.lists(
    st.sampled_from(
        [b"a", b"B ", b"=", b"\t", b" ", b"\xc3\xa4", b"\xff", b"\r\n", b"\n", b"\r", b".", b"<a href='u'>", b"x" * 80]
    ),
    max_size=60,
).map(b"".join)
REPLACEMENT = st.sampled_from([b"", b"q", URL * 5, b"ends in space ", b"\xe9=", b"two\r\nlines"])


@st.composite
def edited(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, int, bytes]]]:
    """A text and edits in it, as offsets."""
    text = draw(TEXT)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    spans = [(a, b) for a, b in list(pairwise(cuts))[::2]]
    return text, [(a, b, draw(REPLACEMENT)) for a, b in spans]


def _legal(decoded: bytes, spans: list[tuple[int, int, bytes]]) -> list[Edit]:
    """Edits in order that leave every CRLF in one piece."""
    edits: list[Edit] = []
    for start, end, new in spans:
        inside = any(decoded[at - 1 : at + 1] == b"\r\n" for at in (start, end) if 0 < at < len(decoded))
        if not inside and end <= len(decoded) and (not edits or start > edits[-1].end):
            edits.append(Edit(start, end, new))
    return edits


@settings(max_examples=300, deadline=None)
@given(edited(), st.sampled_from(["own", "library"]))
def test_quoted_printable_property(case: tuple[bytes, list[tuple[int, int, bytes]]], encoder: str) -> None:
    """Editing the encoded bytes is editing the decoded ones; untouched lines are the same bytes, in order."""
    text, spans = case
    encoded = encode_quoted_printable(text, b"\r\n") if encoder == "own" else quopri.encodestring(text)
    opened = open_body(encoded, "quoted-printable")
    edits = _legal(opened.decoded, spans)
    after = apply_to(opened, edits)

    wanted = apply_edits(opened.decoded, edits)
    assert _lf(open_body(after, "quoted-printable").decoded) == _lf(wanted)
    unpadded = re.sub(rb"[ \t]+(?=\r?\n|\Z)", b"", after)
    assert _lf(quopri.decodestring(unpadded)) == _lf(wanted)  # the library takes padding for content
    touched = _touched_lines(encoded, edits)
    rest = iter(after.split(b"\n"))
    for number, line in enumerate(encoded.split(b"\n")):
        if number not in touched:
            assert any(line == other for other in rest), (number, line)


def _lf(data: bytes) -> bytes:
    """Line breaks alone: a new line break is written in the style of the others."""
    return data.replace(b"\r\n", b"\n")


def _touched_lines(encoded: bytes, edits: list[Edit]) -> set[int]:
    """The numbers of the physical lines an edit has to do with, its neighbours on either side included."""
    touched: set[int] = set()
    at = 0
    *ended, last = encoded.split(b"\n")
    for number, line in enumerate([*(text + b"\n" for text in ended), last]):
        text = re.sub(rb"[ \t]*\r?\n\Z|[ \t]+\Z", b"", line)
        length = len(quopri.decodestring(text))
        if not text.endswith(b"="):
            length += len(line[len(text) :].lstrip(b" \t"))  # its line break
        if any(edit.start <= at + length and edit.end >= at for edit in edits):
            touched.add(number)
        at += length
    return touched


@settings(max_examples=200, deadline=None)
@given(edited(), st.sampled_from([60, 64, 75, 76]), st.sampled_from([b"\n", b"\r\n"]))
def test_base64_property(case: tuple[bytes, list[tuple[int, int, bytes]]], width: int, eol: bytes) -> None:
    """Editing the encoded bytes is editing the decoded ones; lines before the first edit are the same bytes."""
    text, spans = case
    digits = binascii.b2a_base64(text, newline=False)
    encoded = eol.join(digits[at : at + width] for at in range(0, len(digits), width)) + eol
    opened = open_body(encoded, "base64")
    edits = _legal(text, spans)
    after = apply_to(opened, edits)

    assert base64.b64decode(after) == apply_edits(text, edits)
    if edits:
        digits_kept = edits[0].start // 3 * 4
        kept = digits_kept // width * (width + len(eol))
        assert after[:kept] == encoded[:kept]
    assert max(len(line.rstrip(b"\r")) for line in after.split(b"\n")) <= 76


@settings(max_examples=200, deadline=None)
@given(TEXT, st.sampled_from([b"\n", b"\r\n"]))
def test_encoding_whole_text(text: bytes, eol: bytes) -> None:
    """What is newly encoded decodes to what it was, in lines of at most 76 octets."""
    encoded = encode_quoted_printable(text, eol)

    assert quopri.decodestring(encoded) == text
    assert open_body(encoded, "quoted-printable").decoded == text
    assert max(len(line.rstrip(b"\r")) for line in encoded.split(b"\n")) <= 76


# --- Time ---

GROWING = {
    "equals": lambda n: b"=3D" * n,
    "soft-breaks": lambda n: b"=\r\n" * n,
    "spaces": lambda n: b" " * n,
    "spaces-and-letter": lambda n: b" " * n + b"x\r\n",
    "empty-lines": lambda n: b"\r\n" * n,
    "one-line": lambda n: b"a=C3=A4" * n,
    "padding": lambda n: b"a \r\n" * n,
}


@pytest.mark.parametrize("shape", GROWING)
def test_quoted_printable_time_is_linear(shape: str) -> None:
    """Eight times the input takes at most some twenty times as long, whatever its shape."""

    def seconds(size: int) -> float:
        data = GROWING[shape](size)
        best = float("inf")
        for _ in range(3):
            begun = time.process_time()
            opened = open_body(data, "quoted-printable")
            half = len(opened.decoded) // 2
            with contextlib.suppress(TransferError):
                apply_to(opened, [Edit(half, half, URL), Edit(len(opened.decoded), len(opened.decoded), URL)])
            best = min(best, time.process_time() - begun)
        return best

    assert seconds(80_000) < 20 * seconds(10_000) + 0.05


@pytest.mark.parametrize("shape", ["digits", "one-a-line", "spaces"])
def test_base64_time_is_linear(shape: str) -> None:
    """Eight times the input takes at most some twenty times as long, whatever its shape."""
    make = {
        "digits": lambda n: b"QUJD" * n,
        "one-a-line": lambda n: b"Q\nU\nJ\nD\n" * n,
        "spaces": lambda n: b" " * n + b"QUJD",
    }[shape]

    def seconds(size: int) -> float:
        data = make(size)
        best = float("inf")
        for _ in range(3):
            begun = time.process_time()
            opened = open_body(data, "base64")
            apply_to(opened, [Edit(len(opened.decoded) // 2, len(opened.decoded) // 2, URL)])
            best = min(best, time.process_time() - begun)
        return best

    assert seconds(160_000) < 20 * seconds(20_000) + 0.05


@pytest.mark.parametrize("text", [b"a=20b\r\nc", b"a=20b\r\n"])
def test_a_line_break_is_not_cut_in_half(text: bytes) -> None:
    """An edit that ends between CR and LF is refused, in the last line of a body as well."""
    with pytest.raises(TransferError, match="edit-inside-line-break"):
        apply_to(open_body(text, "quoted-printable"), [Edit(0, 4, b"x")])


@pytest.mark.parametrize(
    ("encoding", "at"),
    [
        pytest.param("quoted-printable", 0, id="before what is edited"),
        pytest.param("quoted-printable", 150, id="behind it"),
        pytest.param("base64", 0, id="base64"),  # where all that follows is encoded anew
    ],
)
def test_kept_lines_that_do_not_say_what_they_should(encoding: str, at: int) -> None:
    """Lines that would stay are proved to say what was read from them, before anything is put between them."""
    content = b"a line of text\r\n" * 20
    encode = quopri.encodestring if encoding == "quoted-printable" else base64.encodebytes
    opened = open_body(encode(content), encoding)
    assert isinstance(opened, QuotedPrintable | Base64)
    opened.decoded = opened.decoded[:at] + b"?" + opened.decoded[at + 1 :]
    with pytest.raises(TransferError, match=TRANSFER_CHECK_FAILED):
        opened.place([(100, 104)])


@pytest.mark.parametrize("damage", [b"", b"?", b"=3D", b"\r\n"], ids=["nothing", "a letter", "an escape", "a break"])
def test_new_lines_that_do_not_say_what_is_meant(damage: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that are wrapped anew are decoded and compared each time: a mistake in the wrapping lets nothing out."""
    lay_out = quoted_layout._lay_out

    def damaged(*arguments: Any) -> Any:
        layout = lay_out(*arguments)
        layout._anew[0] = damage + layout._anew[0]
        return layout

    monkeypatch.setattr(quoted_layout, "_lay_out", damaged)
    place = open_body(b"one=20line\r\nand another that is edited\r\nand a third", "quoted-printable").place([(14, 21)])
    if not damage:
        assert place.fill([b"none"]) == b"one=20line\r\nand none that is edited\r\nand a third"
        return
    with pytest.raises(TransferError, match=TRANSFER_CHECK_FAILED):
        place.fill([b"none"])


def test_a_new_line_that_lost_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line without its break would run into the next, which is not looked at again."""
    wrap = quoted_layout._wrap

    def unended(style: Any, content: bytes, gaps: Any, tail: bytes, pieces: Any, *, soft: bool) -> None:
        wrap(style, content, gaps, b"=" + tail + b"=0D=0A", pieces, soft=soft)

    monkeypatch.setattr(quoted_layout, "_wrap", unended)
    place = open_body(b"one=20line\r\nand another that is edited\r\nand a third", "quoted-printable").place([(14, 21)])
    with pytest.raises(TransferError, match=TRANSFER_CHECK_FAILED):
        place.fill([b"none"])
