"""What an entity says it is: its Content- fields, read once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from .headers import RawField, parse_parameters, unfold, values

_TYPE = re.compile(r"[!#$&^_.+*%'`{|}~0-9a-z-]+/[!#$&^_.+*%'`{|}~0-9a-z-]+\Z")
_COMMENT = re.compile(r"\([^()]*\)")
_REMEMBERED_BYTES = 500
"""Fields up to this size are read once for all messages that have the same; longer ones would fill the memory."""
_WHITE_TO_SOME = re.compile(r"[\x1c-\x1f\x85\xa0]")
"""Bytes that some programs take for white space, and others for a part of a boundary."""

# Seen in mail beside the five of RFC 2045; all mean "as it stands".
_IDENTITY = frozenset({"", "7bit", "8bit", "binary", "7-bit", "8-bit", "7bits", "8bits", "none"})


@dataclass(frozen=True, slots=True)
class Content:
    """The Content- fields of a message or part, defaults filled in (RFC 2045 section 5.2)."""

    type: str
    """``text/html``, always lower case; ``text/plain`` where there is none, empty where it cannot be read."""
    parameters: dict[str, str]
    encoding: str
    """``identity`` (7bit, 8bit, binary), ``quoted-printable``, ``base64``, or what else was written."""
    disposition: str
    filename: str
    ambiguous: bool
    """Fields or parameters that decide the reading stand there twice and disagree: clients differ."""

    @property
    def charset(self) -> str:
        """The declared charset in lower case, or empty."""
        return self.parameters.get("charset", "").strip("\"' ").lower()

    @property
    def boundary(self) -> bytes:
        """The boundary of a multipart, or empty. RFC 2046: it never ends in white space."""
        return self.parameters.get("boundary", "").rstrip(" \t").encode("latin-1")

    @property
    def is_multipart(self) -> bool:
        """Whether it holds parts."""
        return self.type.startswith("multipart/")


def describe(fields: Sequence[RawField], default_type: str = "text/plain") -> Content:
    """Return what *fields* say of the entity that they head; *default_type* where no Content-Type stands."""
    stated = (
        tuple(values(fields, b"content-type")),
        tuple(values(fields, b"content-transfer-encoding")),
        tuple(values(fields, b"content-disposition")),
    )
    remembered = sum(len(value) for named in stated for value in named) <= _REMEMBERED_BYTES
    return (_read if remembered else _read.__wrapped__)(*stated, default_type)


@lru_cache(maxsize=256)
def _read(
    types: Sequence[bytes], encodings: Sequence[bytes], dispositions: Sequence[bytes], default_type: str
) -> Content:
    parsed = parse_parameters(types[0]) if types else None
    placed = parse_parameters(dispositions[0]) if dispositions else None
    kind = default_type
    parameters: dict[str, str] = {}
    ambiguous = False
    if parsed is not None:
        kind = parsed.value if _TYPE.match(parsed.value) else ""
        parameters = parsed.parameters
        ambiguous = bool(parsed.ambiguous & {"boundary", "charset"}) or len({unfold(value) for value in types}) > 1
        ambiguous = ambiguous or _WHITE_TO_SOME.search(parameters.get("boundary", "")) is not None
    encoding = _encoding(encodings[0]) if encodings else "identity"
    if len({_encoding(value) for value in encodings}) > 1:
        ambiguous = True
    filename = (placed.parameters.get("filename", "") if placed else "") or parameters.get("name", "")
    return Content(kind, parameters, encoding, placed.value if placed else "", filename, ambiguous)


def _encoding(value: bytes) -> str:
    """Return the transfer encoding that *value* names."""
    word = _COMMENT.sub("", unfold(value)).strip(" \t\"'").rstrip(" \t;\"'").lower()
    if word in _IDENTITY:
        return "identity"
    return word
