"""Control by header fields: what the application asks for, in the dialect it already speaks.

:func:`read_control` reads Postwake's own fields and those of nine sending services (docs/control-headers.md has
the table of fields and values) and says which fields to remove before the mail goes out. Our own fields win over a
service's; among the services, "off" wins over "on", so that a leftover default never tracks mail that asked not to be.

Nothing here raises: a value that cannot be read is ignored, reported in ``malformed``, and removed like the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from postwake.tokens import Privacy

from .headers import Fields, decode_text, unfold

MAX_JSON_BYTES = 102_400
"""Longest JSON value that is read: as much as Postfix takes of a header (header_size_limit)."""
MAX_TAGS = 10
"""Most tags a message keeps (SendGrid's and SparkPost's own limit); the rest is dropped."""
MAX_TAG_CHARS = 255
MAX_METADATA = 20
"""Most metadata entries a message keeps."""
MAX_KEY_CHARS = 64
MAX_VALUE_CHARS = 1024

_ON = frozenset({"yes", "true", "on", "1", "y", "enable", "enabled"})
_OFF = frozenset({"no", "false", "off", "0", "n", "none", "disable", "disabled"})
_MARK = re.compile(r"[!#-%(-;=?-~]{3,64}")
"""A text that stands in HTML as it is: no quotes, spaces, ``&``, ``<`` or ``>``."""
_KEY = re.compile(r"[^\s\x00-\x1f\x7f]+")


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


class _Malformed(Exception):  # noqa: N818 - an answer within this module, not an error of the program
    """A value is not what its field takes."""


@dataclass(slots=True)
class _Draft:
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
        text = _clean(text)[:MAX_TAG_CHARS]
        if text and text not in self.tags and len(self.tags) < MAX_TAGS:
            self.tags.append(text)

    def name_campaign(self, text: str) -> None:
        if self.campaign is None:
            self.campaign = _clean(text)[:MAX_TAG_CHARS] or None

    def note(self, key: str, value: object) -> None:
        """Keep a metadata entry; numbers and the like as JSON writes them."""
        key = _clean(key)[:MAX_KEY_CHARS]
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        if key and key not in self.metadata and len(self.metadata) < MAX_METADATA:
            self.metadata[key] = _clean(text)[:MAX_VALUE_CHARS]


def read_control(fields: Fields) -> Control:
    """Return what *fields* ask for."""
    if _READERS.keys().isdisjoint(fields.by_name) and not any(name.startswith(_PREFIXED) for name in fields.by_name):
        return _NOTHING  # most mail; the rest is not hurried
    own, vendors = _Draft(), _Draft()
    seen: dict[bytes, int] = {}
    remove: list[tuple[bytes, int]] = []
    malformed: list[tuple[str, str]] = []
    for raw_name, value in fields:
        name = raw_name.lower()
        if not name.startswith(b"x-"):
            continue
        seen[name] = seen.get(name, 0) + 1
        reader = _READERS.get(name)
        draft = own if name in _OWN else vendors
        if reader is None:
            for prefix, prefixed in _PREFIXES:
                if name.startswith(prefix):
                    key = raw_name[len(prefix) :].decode("latin-1").strip()
                    draft = own if prefix == b"x-metadata-" else vendors
                    reader = prefixed(key)
                    break
            else:
                continue
        remove.append((raw_name, seen[name]))
        try:
            reader(draft, value)
        except _Malformed as why:
            malformed.append((raw_name.decode("latin-1"), str(why)))
    return Control(
        track_opens=_first(own.opens, vendors.opens),
        track_clicks=_first(own.clicks, vendors.clicks),
        track_text=_first(own.text, vendors.text),
        tags=tuple(dict.fromkeys([*own.tags, *vendors.tags]))[:MAX_TAGS],
        campaign=own.campaign or vendors.campaign,
        metadata=dict(list({**vendors.metadata, **own.metadata}.items())[:MAX_METADATA]),
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


def _clean(text: str) -> str:
    """Return *text* without control characters and halves of surrogate pairs, which JSON can say: it goes into tables,
    terminals and metrics."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(" " if ord(char) < 0x20 or ord(char) == 0x7F else char for char in text).strip()


_Reader = Callable[[_Draft, bytes], None]


def _switch(value: bytes) -> bool:
    word = unfold(value).lower()
    if word in _ON:
        return True
    if word in _OFF:
        return False
    raise _Malformed(f"{_shown(word)}: expected yes or no")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _read_opens(draft: _Draft, value: bytes) -> None:
    draft.opens.append(_switch(value))


def _read_clicks(draft: _Draft, value: bytes) -> None:
    draft.clicks.append(_switch(value))


def _read_text(draft: _Draft, value: bytes) -> None:
    draft.text.append(_switch(value))


def _read_unsubscribe(draft: _Draft, value: bytes) -> None:
    draft.unsubscribe.append(_switch(value))


def _read_tag(draft: _Draft, value: bytes) -> None:
    draft.tag(decode_text(value))


def _read_tags(draft: _Draft, value: bytes) -> None:
    for text in decode_text(value).split(","):
        draft.tag(text)


def _read_campaign(draft: _Draft, value: bytes) -> None:
    draft.name_campaign(decode_text(value))


def _read_privacy(draft: _Draft, value: bytes) -> None:
    try:
        mode = Privacy.parse(unfold(value))
    except ValueError as error:
        raise _Malformed(str(error)) from None
    draft.privacy = mode if draft.privacy is None else max(mode, draft.privacy)


def _metadata(key: str) -> _Reader:
    def read(draft: _Draft, value: bytes) -> None:
        if not _KEY.fullmatch(key):
            raise _Malformed("no key after the prefix")
        draft.note(key.lower(), decode_text(value))

    return read


def _entry(key: str) -> _Reader:
    def read(draft: _Draft, value: bytes) -> None:
        draft.note(key, decode_text(value))

    return read


def _dropped(draft: _Draft, value: bytes) -> None:
    """A field that steers the service itself: nothing to read, but not for the recipient's eyes."""


# --- Postmark ---


def _read_pm_links(draft: _Draft, value: bytes) -> None:
    word = unfold(value).lower()
    if word not in ("none", "htmlandtext", "htmlonly", "textonly", "true", "false"):
        raise _Malformed(f"{_shown(word)}: expected None, HtmlAndText, HtmlOnly or TextOnly")
    draft.clicks.append(word in ("htmlandtext", "htmlonly", "true"))
    draft.text.append(word in ("htmlandtext", "textonly"))


# --- Mailgun ---


def _read_mg_clicks(draft: _Draft, value: bytes) -> None:
    word = unfold(value).lower()
    if word not in _ON | _OFF | {"htmlonly"}:
        raise _Malformed(f"{_shown(word)}: expected yes, no or htmlonly")
    draft.clicks.append(word not in _OFF)
    draft.text.append(word in _ON)


def _read_mg_both(draft: _Draft, value: bytes) -> None:
    _read_mg_clicks(draft, value)
    draft.opens.append(draft.clicks[-1])


def _read_mg_variables(draft: _Draft, value: bytes) -> None:
    for key, content in _json(value).items():
        draft.note(key, content)


def _read_mg_pixel(draft: _Draft, value: bytes) -> None:
    draft.pixel_on_top.append(_switch(value))


# --- Mailjet ---


def _read_mj_opens(draft: _Draft, value: bytes) -> None:
    if unfold(value).lower() != "account_default":
        _read_opens(draft, value)


def _read_mj_clicks(draft: _Draft, value: bytes) -> None:
    if unfold(value).lower() != "account_default":
        _read_clicks(draft, value)


# --- SendGrid ---


def _read_smtpapi(draft: _Draft, value: bytes) -> None:
    data = _json(value)
    category = data.get("category")
    for text in category if isinstance(category, list) else [category]:
        if isinstance(text, str):
            draft.tag(text)
    for name in ("unique_args", "custom_args"):
        arguments = data.get(name)
        if isinstance(arguments, dict):
            for key, content in arguments.items():
                draft.note(key, content)
    filters = data.get("filters")
    if not isinstance(filters, dict):
        return
    clicks = _settings(filters, "clicktrack")
    enabled = _json_switch(clicks.get("enable"))
    # Off is off in text as well; on leaves that to enable_text, and where there is none, to the configuration.
    _append(draft.clicks, enabled)
    _append(draft.text, False if enabled is False else _json_switch(clicks.get("enable_text")))
    opens = _settings(filters, "opentrack")
    _append(draft.opens, _json_switch(opens.get("enable")))
    mark = opens.get("replace")
    if isinstance(mark, str) and _MARK.fullmatch(mark):
        draft.pixel_mark = mark
    _append(draft.unsubscribe, _json_switch(_settings(filters, "subscriptiontrack").get("enable")))
    campaign = _settings(filters, "ganalytics").get("utm_campaign")
    if isinstance(campaign, str):
        draft.name_campaign(campaign)


def _settings(filters: dict[str, object], name: str) -> dict[str, object]:
    chosen = filters.get(name)
    settings = chosen.get("settings") if isinstance(chosen, dict) else None
    return settings if isinstance(settings, dict) else {}


def _json_switch(value: object) -> bool | None:
    """Return a JSON switch: true, false, 1, 0, or one of them as a string; None for anything else: it says nothing."""
    word = str(value).lower() if isinstance(value, bool | int | str) else ""
    return word in _ON if word in _ON | _OFF else None


def _append(answers: list[bool], answer: bool | None) -> None:
    if answer is not None:
        answers.append(answer)


# --- SparkPost ---


def _read_msys(draft: _Draft, value: bytes) -> None:
    data = _json(value)
    campaign = data.get("campaign_id")
    if isinstance(campaign, str):
        draft.name_campaign(campaign)
    tags = data.get("tags")
    for text in tags if isinstance(tags, list) else []:
        if isinstance(text, str):
            draft.tag(text)
    metadata = data.get("metadata")
    if isinstance(metadata, dict):
        for key, content in metadata.items():
            draft.note(key, content)
    options = data.get("options")
    if isinstance(options, dict):
        _append(draft.opens, _json_switch(options.get("open_tracking")))
        _append(draft.clicks, _json_switch(options.get("click_tracking")))
        _append(draft.text, _json_switch(options.get("click_tracking")))


# --- Amazon SES ---


def _read_ses_tags(draft: _Draft, value: bytes) -> None:
    wrong = ""
    for pair in decode_text(value).split(","):
        name, equals, content = pair.strip().partition("=")
        if name.strip() and equals:
            draft.note(name.strip(), content.strip())
            if name.strip().lower() == "campaign":
                draft.name_campaign(content)
        elif pair.strip():
            wrong = pair
    if wrong:
        raise _Malformed(f"{_shown(wrong)}: expected name=value")


# --- Mailchimp Transactional (Mandrill) ---


def _read_mc_track(draft: _Draft, value: bytes) -> None:
    """Read a list of what is tracked; all that it does not name is off, which is how its users turn it off."""
    words = {word.strip().lower() for word in unfold(value).split(",")}
    draft.opens.append("opens" in words)
    draft.clicks.append(not words.isdisjoint(("clicks", "clicks_all", "clicks_htmlonly")))
    draft.text.append(not words.isdisjoint(("clicks", "clicks_all", "clicks_textonly")))


def _read_mc_metadata(draft: _Draft, value: bytes) -> None:
    data = _json(value)
    if "_rcpt" in data:  # for one recipient, perhaps of several
        return
    for key, content in data.items():
        draft.note(key, content)


def _json(value: bytes) -> dict[str, object]:
    """Return the JSON object that *value* holds, folded or not, in an encoded word or not."""
    if len(value) > MAX_JSON_BYTES:
        raise _Malformed(f"{len(value)} bytes: at most {MAX_JSON_BYTES} are read")
    text = decode_text(value)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _Malformed(f"not JSON: {type(error).__name__}") from None
    if not isinstance(data, dict):
        raise _Malformed("not a JSON object")
    return data


_OWN: dict[bytes, _Reader] = {
    b"x-track-opens": _read_opens,
    b"x-track-clicks": _read_clicks,
    b"x-track-text": _read_text,
    b"x-track-unsubscribe": _read_unsubscribe,
    b"x-track-privacy": _read_privacy,
    b"x-tag": _read_tags,
    b"x-campaign": _read_campaign,
}

_STEERING = (
    *(b"x-pm-message-stream", b"x-pm-keepid"),
    *(b"x-mailgun-" + name for name in (b"dkim", b"drop-message", b"sending-ip", b"sending-ip-pool", b"require-tls")),
    *(b"x-mailgun-" + name for name in (b"skip-verification", b"recipient-variables", b"secondary-dkim")),
    *(b"x-mailgun-" + name for name in (b"template-name", b"template-version", b"template-variables")),
    *(b"x-mailgun-" + name for name in (b"deliver-by", b"deliver-within", b"delivery-time-optimize-period")),
    *(b"x-mailgun-" + name for name in (b"time-zone-localize", b"on-behalf-of", b"archive-to", b"suppress-headers")),
    *(b"x-ses-source-arn", b"x-ses-from-arn", b"x-ses-return-path-arn", b"x-ses-tenant"),
    b"x-ses-list-management-options",
    *(b"x-mj-templateid", b"x-mj-templatelanguage", b"x-mj-templateerrorreporting", b"x-mj-templateerrordeliver"),
    *(b"x-mj-vars", b"x-mj-monitoringcategory", b"x-mailjet-deduplicatecampaign", b"x-mailjet-prio"),
    *(b"x-mc-" + name for name in (b"autotext", b"autohtml", b"template", b"mergevars", b"mergelanguage")),
    *(b"x-mc-" + name for name in (b"googleanalytics", b"urlstripqs", b"preserverecipients", b"inlinecss")),
    *(b"x-mc-" + name for name in (b"trackingdomain", b"signingdomain", b"subaccount", b"viewcontentlink")),
    *(b"x-mc-" + name for name in (b"bccaddress", b"important", b"ippool", b"returnpathdomain", b"sendat")),
    *(b"x-mailin-ip", b"x-sib-sandbox"),
)
"""Fields that steer a service and ask nothing of us. Some name other recipients."""

_READERS: dict[bytes, _Reader] = {
    **_OWN,
    b"x-pm-trackopens": _read_opens,
    b"x-pm-tracklinks": _read_pm_links,
    b"x-pm-tag": _read_tag,
    b"x-mailgun-track": _read_mg_both,
    b"x-mailgun-track-opens": _read_opens,
    b"x-mailgun-track-clicks": _read_mg_clicks,
    b"x-mailgun-tag": _read_tag,
    b"x-mailgun-campaign-id": _read_campaign,
    b"x-mailgun-variables": _read_mg_variables,
    b"x-mailgun-track-pixel-location-top": _read_mg_pixel,
    b"x-smtpapi": _read_smtpapi,
    b"x-msys-api": _read_msys,
    b"x-ses-message-tags": _read_ses_tags,
    b"x-ses-configuration-set": _entry("configuration-set"),
    b"x-mailjet-campaign": _read_campaign,
    b"x-mailjet-trackopen": _read_mj_opens,
    b"x-mailjet-trackclick": _read_mj_clicks,
    b"x-mj-customid": _entry("custom-id"),
    b"x-mj-eventpayload": _entry("event-payload"),
    b"x-mc-track": _read_mc_track,
    b"x-mc-tags": _read_tags,
    b"x-mc-metadata": _read_mc_metadata,
    b"x-mc-googleanalyticscampaign": _read_campaign,
    b"x-mailin-tag": _read_tag,
    b"x-mailin-custom": _entry("custom"),
    b"x-postal-tag": _read_tag,
    **dict.fromkeys(_STEERING, _dropped),
}

_PREFIXES: tuple[tuple[bytes, Callable[[str], _Reader]], ...] = (
    (b"x-metadata-", _metadata),
    (b"x-pm-metadata-", _metadata),
)
_PREFIXED = tuple(prefix for prefix, _ in _PREFIXES)
_NOTHING = Control()
