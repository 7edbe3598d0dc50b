"""Which charsets may be edited as bytes, and whether a body is in the charset that it declares.

Markup and URLs are found and replaced as ASCII bytes. That is right in a charset where those bytes mean ASCII
wherever a scanner looks for them: every single-byte charset that extends ASCII, UTF-8, and the East Asian multi-byte
ones (the second byte of a character is never one of ``<>"'=&``). It is wrong in UTF-16 and UTF-32, in the stateful
ones (UTF-7, ISO-2022-*, HZ) and in EBCDIC. So the list below says yes by name, and everything else is left alone.
"""

from __future__ import annotations

import codecs
import re

# Names as codecs.lookup() gives them, which folds the many spellings. Not here on purpose: johab (second bytes
# include < and =), cp864 (percent sign moved), and Python's codecs that are no charsets (punycode, rot13, ...).
_SAFE = frozenset(
    {
        "ascii",
        "utf-8",
        "utf-8-sig",
        *(f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)),
        *(f"cp{page}" for page in (1250, 1251, 1252, 1253, 1254, 1255, 1256, 1257, 1258, 874, 1125)),
        *(f"cp{page}" for page in (437, 720, 737, 775, 850, 852, 855, 857, 858, 860, 861, 862, 863, 865, 866, 869)),
        *("koi8-r", "koi8-t", "koi8-u", "ptcp154", "kz1048", "tis-620", "hp-roman8"),
        *("mac-roman", "mac-cyrillic", "mac-greek", "mac-iceland", "mac-latin2", "mac-turkish", "mac-croatian"),
        *("gb2312", "gbk", "gb18030", "big5", "big5hkscs", "cp950", "cp949", "euc_kr", "euc_jp"),
        *("euc_jis_2004", "euc_jisx0213", "shift_jis", "shift_jis_2004", "shift_jisx0213", "cp932"),
    }
)

# What browsers and mail clients take these for (WHATWG Encoding, names and labels): senders use the larger set
# under the smaller one's name. Python's own gb2312 would call much real mail undecodable.
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949", "big5": "big5hkscs"}

# ISO-2022 escapes, HZ's switch, and UTF-16 seen as bytes: none is plain text whatever the header says.
_STATEFUL = re.compile(rb"\x1b[$(%.&]|~\{")


def editable(charset: str, data: bytes) -> tuple[bool, str | None]:
    """Return whether *data* is UTF-8 (ASCII included), and the reason not to edit it as bytes, or None.

    *charset* is the declared one in lower case, or empty. A declared charset must be in the list above, and the data
    must decode and encode back to the same bytes in it. Undeclared, the data must be UTF-8.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")) or b"\x00" in data:
        return False, "charset-not-ascii"
    # The two bytes that begin them are found many times faster than the pattern.
    maybe_stateful = b"\x1b" in data or b"~{" in data
    if maybe_stateful and _STATEFUL.search(data) and (data.isascii() or charset.startswith(("iso-2022", "hz"))):
        return False, "charset-not-ascii"
    if charset:
        name = _lookup(charset)
        if name is None:
            return False, "charset-unknown"
        if name not in _SAFE:
            return False, "charset-not-ascii"
        if data.isascii():
            return True, None
        if name in ("utf-8", "utf-8-sig"):
            utf8 = _is_utf8(data)
            return utf8, None if utf8 else "charset-mismatch"
        return False, None if _round_trips(data, _WIDER.get(name, name)) else "charset-mismatch"
    if data.isascii() or _is_utf8(data):
        return True, None
    return False, "charset-undeclared"


def _lookup(charset: str) -> str | None:
    try:
        return codecs.lookup(charset).name
    except (LookupError, ValueError):
        return None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _round_trips(data: bytes, codec: str) -> bool:
    try:
        return data.decode(codec).encode(codec) == data
    except UnicodeError:
        return False
