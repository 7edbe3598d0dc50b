"""Which charsets may be edited as bytes, and whether a body is in the charset that it declares.

Markup and URLs are found and replaced as ASCII bytes. That is right in a charset where those bytes mean ASCII
wherever a scanner looks for them: every single-byte charset that extends ASCII, UTF-8, and the East Asian multi-byte
ones (the second byte of a character is never one of ``<>"'=&``). It is wrong in UTF-16 and UTF-32, in the stateful
ones (UTF-7, ISO-2022-*, HZ) and in EBCDIC. So the list below says yes by name, and everything else is left alone.
"""

from __future__ import annotations

import codecs
import re
from encodings.aliases import aliases

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

# Charsets of mail that Python has no name for: labels of WHATWG Encoding, and names that mailers got wrong often.
_LABELS = {
    "utf_8": "unicode11utf8 unicode20utf8 unicode-1-1-utf-8 x-unicode20utf8 utf8mb4",
    "cp932": "x-sjis windows-31j",
    "euc_jp": "x-euc-jp",
    "gbk": "x-gbk",
    "big5": "x-x-big5",
    "cp949": "windows-949 ks_c_5601-1989",
    "cp874": "windows-874 dos-874",
    "iso8859_8": "iso-8859-8-i iso-8859-8-e csiso88598i csiso88598e logical visual",
    "koi8_r": "koi koi8",
    "koi8_u": "koi8-ru",
    "mac_roman": "x-mac-roman",
    "mac_cyrillic": "x-mac-cyrillic x-mac-ukrainian",
    **{f"cp{page}": f"x-cp{page} win-{page}" for page in range(1250, 1259)},
}
_NO_CHARSETS = frozenset(
    ("base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec", "mbcs")
)
_UNDECLARED = frozenset(("unknown-8bit", "x-unknown", "unknown", "default", "none"))
"""What mailers write that do not know (RFC 1428 for the first)."""
_SEPARATORS = str.maketrans("", "", "-_ .:")


def _codecs_by_label() -> dict[str, str]:
    known = {name: name for name in (*_SAFE, *aliases.values()) if name not in _NO_CHARSETS}
    known |= {label: name for label, name in aliases.items() if name not in _NO_CHARSETS}
    known |= {label: name for name, labels in _LABELS.items() for label in labels.split()}
    return {label.translate(_SEPARATORS): name for label, name in known.items()}


_CODECS = _codecs_by_label()

# ISO-2022 and its like: ASCII as long as nothing shifts out of it.
_SHIFTING = frozenset(
    ("iso2022_jp", "iso2022_jp_1", "iso2022_jp_2", "iso2022_jp_2004", "iso2022_jp_3", "iso2022_jp_ext", "iso2022_kr")
)
_SHIFT = re.compile(rb"[\x0e\x0f\x1b\x80-\xff]")
# ISO-2022's escapes and HZ's switch: plain text in no charset, but found where another is declared, or none.
_ESCAPE = re.compile(rb"\x1b[$(%.&]")
_SWITCH = b"~{"


def find_codec(charset: str) -> str | None:
    """Return Python's codec for the charset that mail calls *charset*, in lower case; None if it is unknown.

    Where senders use a larger set under a smaller one's name, it is the larger one's.

    What Python does not know never gets to codecs.lookup(): it would look for a module of that name on disk, and
    remember for ever that there is none, for every name that anybody cares to make up.
    """
    label = _CODECS.get(charset.translate(_SEPARATORS))
    if label is None:
        return None
    name = codecs.lookup(label).name
    return _WIDER.get(name, name)


def editable(charset: str, data: bytes) -> tuple[str, str | None]:
    """Return the codec that *data* is in, and the reason not to edit it as bytes, or None.

    *charset* is the declared one in lower case, or empty. A declared charset must be in the list above, and the data
    must decode and encode back to the same bytes in it. Undeclared, the data must be UTF-8; so it is called where it
    is ASCII, and nothing else was declared.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")) or b"\x00" in data:
        return "", "charset-not-ascii"
    if charset in _UNDECLARED:
        charset = ""
    is_ascii = data.isascii()
    # The bytes that begin them are found many times faster than a pattern.
    if is_ascii and ((b"\x1b" in data and _ESCAPE.search(data)) or (not charset and _SWITCH in data)):
        return "", "charset-not-ascii"
    if not charset:
        return ("utf-8", None) if is_ascii or is_utf8(data) else ("", "charset-undeclared")
    name = find_codec(charset)
    if name is None:
        return "", "charset-unknown"
    if name not in _SAFE:
        return (name, None) if name in _SHIFTING and not _SHIFT.search(data) else ("", "charset-not-ascii")
    if name in ("utf-8", "utf-8-sig", "ascii"):
        matches = is_ascii or (name != "ascii" and is_utf8(data))
        return ("utf-8", None) if matches else ("", "charset-mismatch")
    return (name, None) if is_ascii or _round_trips(data, name) else ("", "charset-mismatch")


def is_utf8(data: bytes) -> bool:
    """Whether *data* is well-formed UTF-8, as ASCII is."""
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
