"""The header fields of the sending services that people come from, and what each asks for.

docs/control-headers.md has the table of fields and values.
"""

from __future__ import annotations

import re

from .control_values import (
    OFF,
    ON,
    Draft,
    MalformedError,
    Reader,
    append,
    dropped,
    entry,
    json_object,
    json_switch,
    read_campaign,
    read_clicks,
    read_opens,
    read_tag,
    read_tags,
    shown,
    switch,
    word,
)
from .headers import decode_text

_MARK = re.compile(r"[!#-%(-;=?-~]{3,64}")
"""A text that stands in HTML as it is: no quotes, spaces, ``&``, ``<`` or ``>``."""


# --- Postmark ---


def _read_pm_links(draft: Draft, value: bytes) -> None:
    said = word(value)
    if said not in ("none", "htmlandtext", "htmlonly", "textonly", "true", "false"):
        raise MalformedError(f"{shown(said)}: expected None, HtmlAndText, HtmlOnly or TextOnly")
    draft.clicks.append(said in ("htmlandtext", "htmlonly", "true"))
    draft.text.append(said in ("htmlandtext", "textonly"))


# --- Mailgun ---


def _read_mg_clicks(draft: Draft, value: bytes) -> None:
    said = word(value)
    if said not in ON | OFF | {"htmlonly"}:
        raise MalformedError(f"{shown(said)}: expected yes, no or htmlonly")
    draft.clicks.append(said not in OFF)
    draft.text.append(said in ON)


def _read_mg_both(draft: Draft, value: bytes) -> None:
    _read_mg_clicks(draft, value)
    draft.opens.append(draft.clicks[-1])


def _read_mg_variables(draft: Draft, value: bytes) -> None:
    for key, content in json_object(value).items():
        draft.note(key, content)


def _read_mg_pixel(draft: Draft, value: bytes) -> None:
    draft.pixel_on_top.append(switch(value))


# --- Mailjet ---


def _read_mj_opens(draft: Draft, value: bytes) -> None:
    if word(value) != "account_default":
        read_opens(draft, value)


def _read_mj_clicks(draft: Draft, value: bytes) -> None:
    if word(value) != "account_default":
        read_clicks(draft, value)


# --- SendGrid ---


def _read_smtpapi(draft: Draft, value: bytes) -> None:
    data = json_object(value)
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
    enabled = json_switch(clicks.get("enable"))
    # Off is off in text as well; on leaves that to enable_text, and where there is none, to the configuration.
    append(draft.clicks, enabled)
    append(draft.text, False if enabled is False else json_switch(clicks.get("enable_text")))
    opens = _settings(filters, "opentrack")
    append(draft.opens, json_switch(opens.get("enable")))
    mark = opens.get("replace")
    if isinstance(mark, str) and _MARK.fullmatch(mark):
        draft.pixel_mark = mark
    append(draft.unsubscribe, json_switch(_settings(filters, "subscriptiontrack").get("enable")))
    campaign = _settings(filters, "ganalytics").get("utm_campaign")
    if isinstance(campaign, str):
        draft.name_campaign(campaign)


def _settings(filters: dict[str, object], name: str) -> dict[str, object]:
    chosen = filters.get(name)
    settings = chosen.get("settings") if isinstance(chosen, dict) else None
    return settings if isinstance(settings, dict) else {}


# --- SparkPost ---


def _read_msys(draft: Draft, value: bytes) -> None:
    data = json_object(value)
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
        append(draft.opens, json_switch(options.get("open_tracking")))
        append(draft.clicks, json_switch(options.get("click_tracking")))
        append(draft.text, json_switch(options.get("click_tracking")))


# --- Amazon SES ---


def _read_ses_tags(draft: Draft, value: bytes) -> None:
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
        raise MalformedError(f"{shown(wrong)}: expected name=value")


# --- Mailchimp Transactional (Mandrill) ---


def _read_mc_track(draft: Draft, value: bytes) -> None:
    """Read a list of what is tracked; all that it does not name is off, which is how its users turn it off."""
    words = {name.strip() for name in word(value).split(",")}
    draft.opens.append("opens" in words)
    draft.clicks.append(not words.isdisjoint(("clicks", "clicks_all", "clicks_htmlonly")))
    draft.text.append(not words.isdisjoint(("clicks", "clicks_all", "clicks_textonly")))


def _read_mc_metadata(draft: Draft, value: bytes) -> None:
    data = json_object(value)
    if "_rcpt" in data:  # for one recipient, perhaps of several
        return
    for key, content in data.items():
        draft.note(key, content)


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

SERVICES: dict[bytes, Reader] = {
    b"x-pm-trackopens": read_opens,
    b"x-pm-tracklinks": _read_pm_links,
    b"x-pm-tag": read_tag,
    b"x-mailgun-track": _read_mg_both,
    b"x-mailgun-track-opens": read_opens,
    b"x-mailgun-track-clicks": _read_mg_clicks,
    b"x-mailgun-tag": read_tag,
    b"x-mailgun-campaign-id": read_campaign,
    b"x-mailgun-variables": _read_mg_variables,
    b"x-mailgun-track-pixel-location-top": _read_mg_pixel,
    b"x-smtpapi": _read_smtpapi,
    b"x-msys-api": _read_msys,
    b"x-ses-message-tags": _read_ses_tags,
    b"x-ses-configuration-set": entry("configuration-set"),
    b"x-mailjet-campaign": read_campaign,
    b"x-mailjet-trackopen": _read_mj_opens,
    b"x-mailjet-trackclick": _read_mj_clicks,
    b"x-mj-customid": entry("custom-id"),
    b"x-mj-eventpayload": entry("event-payload"),
    b"x-mc-track": _read_mc_track,
    b"x-mc-tags": read_tags,
    b"x-mc-metadata": _read_mc_metadata,
    b"x-mc-googleanalyticscampaign": read_campaign,
    b"x-mailin-tag": read_tag,
    b"x-mailin-custom": entry("custom"),
    b"x-postal-tag": read_tag,
    **dict.fromkeys(_STEERING, dropped),
}
"""Fields by their names, lower case, and what reads them."""
