"""The values of control fields, whatever service's they are: yes or no, tags, JSON.

A reader takes what has been read so far and a field's raw value; :class:`MalformedError` if that is not what the field
takes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from postwake.tokens import Privacy

from .headers import decode_text

MAX_JSON_BYTES = 102_400
"""Longest JSON value that is read: as much as Postfix takes of a header (header_size_limit)."""
MAX_TAGS = 10
"""Most tags a message keeps (SendGrid's and SparkPost's own limit); the rest is dropped."""
MAX_TAG_CHARS = 255
MAX_METADATA = 20
"""Most metadata entries a message keeps."""
MAX_KEY_CHARS = 64
MAX_VALUE_CHARS = 1024

ON = frozenset({"yes", "true", "on", "1", "y", "enable", "enabled"})
OFF = frozenset({"no", "false", "off", "0", "n", "none", "disable", "disabled"})
_KEY = re.compile(r"[^\s\x00-\x1f\x7f]+")


class MalformedError(Exception):
    """A value is not what its field takes."""


@dataclass(slots=True)
class Draft:
    """What has been read so far, by one dialect."""

    opens: list[bool] = field(default_factory=list)
    clicks: list[bool] = field(default_factory=list)
    text: list[bool] = field(default_factory=list)
    unsubscribe: list[bool] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    campaign: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    privacy: Privacy | None = None
    pixel_on_top: list[bool] = field(default_factory=list)
    pixel_mark: str | None = None

    def tag(self, text: str) -> None:
        """Keep a tag."""
        text = _clean(text)[:MAX_TAG_CHARS]
        if text and text not in self.tags and len(self.tags) < MAX_TAGS:
            self.tags.append(text)

    def name_campaign(self, text: str) -> None:
        """Keep the campaign, if none was named before."""
        if self.campaign is None:
            self.campaign = _clean(text)[:MAX_TAG_CHARS] or None

    def note(self, key: str, value: object) -> None:
        """Keep a metadata entry; numbers and the like as JSON writes them."""
        key = _clean(key)[:MAX_KEY_CHARS]
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        if key and key not in self.metadata and len(self.metadata) < MAX_METADATA:
            self.metadata[key] = _clean(text)[:MAX_VALUE_CHARS]


def _clean(text: str) -> str:
    """Return *text* without control characters and halves of surrogate pairs, which JSON can say: it goes into tables,
    terminals and metrics."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(" " if ord(char) < 0x20 or ord(char) == 0x7F else char for char in text).strip()


Reader = Callable[[Draft, bytes], None]


def word(value: bytes) -> str:
    """Return the word that *value* is, in lower case; it may be written as an encoded word."""
    return decode_text(value).strip().lower()


def switch(value: bytes) -> bool:
    """Return whether *value* says yes or no."""
    said = word(value)
    if said in ON:
        return True
    if said in OFF:
        return False
    raise MalformedError(f"{shown(said)}: expected yes or no")


def shown(text: str) -> str:
    """Return *text* for a message, cut."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


def read_opens(draft: Draft, value: bytes) -> None:
    """Whether opens are counted."""
    draft.opens.append(switch(value))


def read_clicks(draft: Draft, value: bytes) -> None:
    """Whether clicks are counted."""
    draft.clicks.append(switch(value))


def read_text(draft: Draft, value: bytes) -> None:
    """Whether clicks in plain text are counted."""
    draft.text.append(switch(value))


def read_unsubscribe(draft: Draft, value: bytes) -> None:
    """Whether a one-click List-Unsubscribe is wanted."""
    draft.unsubscribe.append(switch(value))


def read_tag(draft: Draft, value: bytes) -> None:
    """One tag."""
    draft.tag(decode_text(value))


def read_tags(draft: Draft, value: bytes) -> None:
    """Tags, with commas between them."""
    for text in decode_text(value).split(","):
        draft.tag(text)


def read_campaign(draft: Draft, value: bytes) -> None:
    """The campaign."""
    draft.name_campaign(decode_text(value))


def metadata(key: str) -> Reader:
    """Return what reads a metadata entry whose *key* stands in the field's name."""

    def read(draft: Draft, value: bytes) -> None:
        if not _KEY.fullmatch(key):
            raise MalformedError("no key after the prefix")
        draft.note(key.lower(), decode_text(value))

    return read


def entry(key: str) -> Reader:
    """Return what reads a metadata entry *key*."""

    def read(draft: Draft, value: bytes) -> None:
        draft.note(key, decode_text(value))

    return read


def dropped(draft: Draft, value: bytes) -> None:
    """A field that steers the service itself: nothing to read, but not for the recipient's eyes."""


def json_switch(value: object) -> bool | None:
    """Return a JSON switch: true, false, 1, 0, or one of them as a string; None for anything else: it says nothing."""
    said = str(value).lower() if isinstance(value, bool | int | str) else ""
    return said in ON if said in ON | OFF else None


def append(answers: list[bool], answer: bool | None) -> None:
    """Add *answer* if there is one."""
    if answer is not None:
        answers.append(answer)


def json_object(value: bytes) -> dict[str, object]:
    """Return the JSON object that *value* holds, folded or not, in an encoded word or not."""
    if len(value) > MAX_JSON_BYTES:
        raise MalformedError(f"{len(value)} bytes: at most {MAX_JSON_BYTES} are read")
    text = decode_text(value)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"not JSON: {type(error).__name__}") from None
    if not isinstance(data, dict):
        raise MalformedError("not a JSON object")
    return data
