"""Which charsets are edited as bytes."""

from __future__ import annotations

import encodings

import pytest

from postwake_milter.rewrite.charsets import _SAFE, editable, find_codec
from postwake_milter.rewrite.headers import decode_text

TABLE = [
    ("utf-8", "\u00e4".encode(), "utf-8"),
    ("utf8", b"\xef\xbb\xbfx", "utf-8"),
    ("utf8mb4", "\u00e4".encode(), "utf-8"),
    ("unicode-1-1-utf-8", "\u00e4".encode(), "utf-8"),
    ("utf-8", b"\xe4", "charset-mismatch"),
    ("", b"ascii", "utf-8"),
    ("", "\u00e4".encode(), "utf-8"),
    ("", b"\xe4", "charset-undeclared"),
    ("unknown-8bit", "\u00e4".encode(), "utf-8"),
    ("x-unknown", b"\xe4", "charset-undeclared"),
    ("us-ascii", b"\xe4", "charset-mismatch"),
    ("us-ascii", b"x", "utf-8"),
    ("iso-8859-1", b"\xe4", "iso8859-1"),
    ("iso_8859-1:1987", b"\xe4", "iso8859-1"),
    ("iso-8859-15", b"x", "iso8859-15"),
    ("iso-8859-8-i", b"\xe0", "iso8859-8"),
    ("windows-1252", b"\x93x\x94", "cp1252"),
    ("x-cp1252", b"\x93", "cp1252"),
    ("windows-1252", b"\x81", "charset-mismatch"),
    ("windows-874", b"\xa1", "cp874"),
    ("x-mac-roman", b"\xa1", "mac-roman"),
    ("koi8-r", b"\xc1", "koi8-r"),
    ("gb2312", "\u4e2d\u570b".encode("gb18030"), "gb18030"),
    ("shift_jis", "\u8868".encode("shift_jis"), "cp932"),
    ("x-sjis", "\u2460".encode("cp932"), "cp932"),
    ("windows-31j", "\u2460".encode("cp932"), "cp932"),
    ("big5", b"\xff", "charset-mismatch"),
    ("utf-16", b"\xff\xfeh\x00", "charset-not-ascii"),
    ("utf-16", b"hello", "charset-not-ascii"),
    ("utf-8", b"h\x00i\x00", "charset-not-ascii"),
    ("utf-7", b"+AGE-", "charset-not-ascii"),
    ("iso-2022-jp", b"\x1b$B!!\x1b(B", "charset-not-ascii"),
    ("iso-2022-jp", b"x", "iso2022_jp"),
    ("iso-2022-kr", b"\x0ex\x0f", "charset-not-ascii"),
    ("", b"\x1b$B!!\x1b(B", "charset-not-ascii"),
    ("us-ascii", b"\x1b$B!!\x1b(B", "charset-not-ascii"),
    ("hz-gb-2312", b"~{!!~}", "charset-not-ascii"),
    ("", b"~{!!~}", "charset-not-ascii"),
    ("utf-8", b"<p>~{x}", "utf-8"),
    ("cp037", b"\xc8", "charset-not-ascii"),
    ("ebcdic-cp-us", b"\xc8", "charset-not-ascii"),
    ("johab", b"x", "charset-not-ascii"),
    ("rot13", b"x", "charset-unknown"),
    ("idna", b"x", "charset-unknown"),
    ("unicode_escape", b"x", "charset-unknown"),
    ("no-such-charset", b"x", "charset-unknown"),
    ("\x00", b"x", "charset-unknown"),
    ("x" * 10_000, b"x", "charset-unknown"),
    ("_iso-2022-jp$esc", b"x", "charset-unknown"),
]


@pytest.mark.parametrize(("charset", "data", "answer"), TABLE, ids=[f"{row[0][:20]!r}-{row[1][:8]!r}" for row in TABLE])
def test_editable(charset: str, data: bytes, answer: str) -> None:
    """A declared charset must be known, ASCII-compatible and true of the bytes; an undeclared one must be UTF-8."""
    codec, reason = editable(charset, data)
    assert (reason or codec) == answer
    assert bool(codec) is (reason is None)


def test_unknown_names_leave_no_trace() -> None:
    """Names that someone makes up are not remembered: Python would keep each that it looked for, for ever."""
    for number in range(50):
        assert find_codec(f"x-made-up-{number}") is None
        decode_text(b"=?x-made-up-%d?q?a?=" % number)
    assert not [name for name in encodings._cache if "made" in name]  # type: ignore[attr-defined]


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
