"""Control by header fields: what the application asks for, in the dialect it already speaks.

:func:`read_control` reads Postwake's own fields and those of nine sending services (docs/control-headers.md has
the table of fields and values) and says which fields to remove before the mail goes out. Our own fields win over a
service's; among the services, "off" wins over "on", so that a leftover default never tracks mail that asked not to be.

Nothing here raises: a value that cannot be read is ignored, reported in ``malformed``, and removed like the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from postwake.tokens import Privacy

from .control_dialects import SERVICES
from .control_values import (
    MAX_METADATA,
    MAX_TAGS,
    Draft,
    MalformedError,
    Reader,
    metadata,
    read_campaign,
    read_clicks,
    read_opens,
    read_tags,
    read_text,
    read_unsubscribe,
    word,
)
from .headers import Fields


@dataclass(frozen=True, slots=True)
class Control:
    """What the message asks for; None or empty where it asks for nothing."""

    track_opens: bool | None = None
    track_clicks: bool | None = None
    track_text: bool | None = None
    tags: tuple[str, ...] = ()
    campaign: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    unsubscribe: bool | None = None
    """Whether a one-click List-Unsubscribe is asked for (``X-Track-Unsubscribe``, Mailgun's and SendGrid's switch)."""
    privacy: Privacy | None = None
    pixel_on_top: bool | None = None
    """Where the pixel goes (Mailgun's switch): at the top, or at the bottom."""
    pixel_mark: str | None = None
    """What stands in the HTML where the pixel goes (SendGrid's ``opentrack`` filter)."""
    remove: tuple[tuple[bytes, int], ...] = ()
    """The fields to take out: name as it is written, and which of its name it is (1-based, as libmilter counts)."""
    malformed: tuple[tuple[str, str], ...] = ()
    """Fields that could not be read: name, and why."""


def read_control(fields: Fields) -> Control:
    """Return what *fields* ask for."""
    if _READERS.keys().isdisjoint(fields.by_name) and not any(name.startswith(_PREFIXES) for name in fields.by_name):
        return _NOTHING  # most mail; the rest is not hurried
    own, vendors = Draft(), Draft()
    seen: dict[bytes, int] = {}
    remove: list[tuple[bytes, int]] = []
    malformed: list[tuple[str, str]] = []
    for raw_name, value in fields:
        name = raw_name.lower()
        if not name.startswith(b"x-"):
            continue
        seen[name] = seen.get(name, 0) + 1
        reader = _READERS.get(name)
        if reader is None:
            prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None)
            if prefix is None:
                continue
            reader = metadata(raw_name[len(prefix) :].decode("latin-1").strip())
        draft = own if name in _OWN or name.startswith(_OWN_PREFIX) else vendors
        remove.append((raw_name, seen[name]))
        try:
            reader(draft, value)
        except MalformedError as why:
            malformed.append((raw_name.decode("latin-1"), str(why)))
    return Control(
        track_opens=_first(own.opens, vendors.opens),
        track_clicks=_first(own.clicks, vendors.clicks),
        track_text=_first(own.text, vendors.text),
        tags=tuple(dict.fromkeys([*own.tags, *vendors.tags]))[:MAX_TAGS],
        campaign=own.campaign or vendors.campaign,
        # Ours come first, and are what counts where a service's has the same key.
        metadata=dict(list((own.metadata | vendors.metadata | own.metadata).items())[:MAX_METADATA]),
        unsubscribe=_first(own.unsubscribe, vendors.unsubscribe),
        privacy=own.privacy,
        pixel_on_top=_first(own.pixel_on_top, vendors.pixel_on_top),
        pixel_mark=vendors.pixel_mark,
        remove=tuple(remove),
        malformed=tuple(malformed),
    )


def _first(own: list[bool], vendors: list[bool]) -> bool | None:
    """Return the own answer, else the services'; in either, off wins."""
    for answers in (own, vendors):
        if answers:
            return all(answers)
    return None


def _read_privacy(draft: Draft, value: bytes) -> None:
    try:
        mode = Privacy.parse(word(value))
    except ValueError as error:
        raise MalformedError(str(error)) from None
    draft.privacy = mode if draft.privacy is None else max(mode, draft.privacy)


_OWN: dict[bytes, Reader] = {
    b"x-track-opens": read_opens,
    b"x-track-clicks": read_clicks,
    b"x-track-text": read_text,
    b"x-track-unsubscribe": read_unsubscribe,
    b"x-track-privacy": _read_privacy,
    b"x-tag": read_tags,
    b"x-campaign": read_campaign,
}

_READERS: dict[bytes, Reader] = {**_OWN, **SERVICES}
_OWN_PREFIX = b"x-metadata-"
_PREFIXES = (_OWN_PREFIX, b"x-pm-metadata-")
_NOTHING = Control()
