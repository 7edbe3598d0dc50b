"""Which charsets are edited as bytes."""

from __future__ import annotations

import pytest

from postwake_milter.rewrite.charsets import _SAFE, editable

TABLE = [
    ("utf-8", "\u00e4".encode(), (True, None)),
    ("utf8", b"\xef\xbb\xbfx", (True, None)),
    ("utf-8", b"\xe4", (False, "charset-mismatch")),
    ("", b"ascii", (True, None)),
    ("", "\u00e4".encode(), (True, None)),
    ("", b"\xe4", (False, "charset-undeclared")),
    ("us-ascii", b"\xe4", (False, "charset-mismatch")),
    ("us-ascii", b"x", (True, None)),
    ("iso-8859-1", b"\xe4", (False, None)),
    ("iso-8859-15", b"x", (True, None)),
    ("windows-1252", b"\x93x\x94", (False, None)),
    ("windows-1252", b"\x81", (False, "charset-mismatch")),
    ("koi8-r", b"\xc1", (False, None)),
    ("gb2312", "\u4e2d\u570b".encode("gb18030"), (False, None)),
    ("shift_jis", "\u8868".encode("shift_jis"), (False, None)),
    ("big5", b"\xff", (False, "charset-mismatch")),
    ("utf-16", b"\xff\xfeh\x00", (False, "charset-not-ascii")),
    ("utf-16", b"hello", (False, "charset-not-ascii")),
    ("utf-8", b"h\x00i\x00", (False, "charset-not-ascii")),
    ("utf-7", b"+AGE-", (False, "charset-not-ascii")),
    ("iso-2022-jp", b"\x1b$B!!\x1b(B", (False, "charset-not-ascii")),
    ("", b"\x1b$B!!\x1b(B", (False, "charset-not-ascii")),
    ("hz-gb-2312", b"~{!!~}", (False, "charset-not-ascii")),
    ("cp037", b"\xc8", (False, "charset-not-ascii")),
    ("ebcdic-cp-us", b"\xc8", (False, "charset-not-ascii")),
    ("johab", b"x", (False, "charset-not-ascii")),
    ("rot13", b"x", (False, "charset-not-ascii")),
    ("idna", b"x", (False, "charset-not-ascii")),
    ("no-such-charset", b"x", (False, "charset-unknown")),
    ("\x00", b"x", (False, "charset-unknown")),
    ("x" * 10_000, b"x", (False, "charset-unknown")),
    ("_iso-2022-jp$esc", b"x", (False, "charset-unknown")),
]


@pytest.mark.parametrize(("charset", "data", "answer"), TABLE, ids=[f"{row[0][:20]!r}-{row[1][:8]!r}" for row in TABLE])
def test_editable(charset: str, data: bytes, answer: tuple[bool, str | None]) -> None:
    """A declared charset must be known, ASCII-compatible and true of the bytes; an undeclared one must be UTF-8."""
    assert editable(charset, data) == answer


@pytest.mark.parametrize("name", sorted(_SAFE))
def test_markup_means_itself_in_every_listed_charset(name: str) -> None:
    """In each charset of the list, the bytes of markup and URLs decode to ASCII, alone and behind other characters."""
    ascii_bytes = bytes(range(0x20, 0x7F)) + b"\t\r\n"
    kept = ascii_bytes.decode(name).replace("\u00a5", "\\").replace("\u203e", "~")
    assert kept == ascii_bytes.decode("ascii")
    for lead in range(0x80, 0x100):
        for markup in b"<>\"'=&":
            try:
                text = bytes((lead, markup)).decode(name)
            except UnicodeDecodeError:
                continue  # such bytes do not round-trip and are never edited
            assert chr(markup) in text, (hex(lead), chr(markup))
