"""What is a link that clicks may be counted on, and where it leads.

Candidates are the ``href`` of ``<a>`` and ``<area>``, and of VML elements (``<v:roundrect href=…>``: Outlook's buttons)
inside conditional comments. Each is wrapped or skipped, and every skip has a name:

=================== ====================================================================================================
reason              the link is left alone because
=================== ====================================================================================================
opt-out             the tag carries an attribute that says so, see :data:`OPT_OUTS`
empty               nothing but whitespace
template            a placeholder never filled in: ``{{x}}``, ``{%``, ``%%x%%``, ``*|x|*``, ``${x}``, ``<%``, ``[[x]]``
control-characters  it holds control characters other than the tabs and line breaks that browsers remove
fragment            it points into the mail itself: ``#top``
not-http            another scheme: mailto, tel, sms, cid, data, javascript, an app's own
relative            it has no scheme, or ``//host`` only: where it leads depends on the reader (or on ``<base href>``)
malformed           ``http:`` without two slashes or a host, or whitespace in the host: no two programs agree on it
charset             characters outside ASCII in its query, in a document that is not UTF-8: browsers encode those by its
                    charset; or bytes that browsers read by another one
too-long            longer than :data:`MAX_URL_BYTES`
own-host            it leads to a tracking host of ours already
excluded            its host is excluded by configuration
other-tracker       another service counts its clicks (:mod:`.trackers`)
unsubscribe         it is the unsubscribe link: by target, ``rel``, address or text
visible-url         the reader sees the address of another host as its text; phishing filters compare the two
=================== ====================================================================================================

The names are stored and counted: they do not change.
"""

from __future__ import annotations

import enum
import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from .charref import decode_attribute
from .html_scan import Attribute
from .trackers import is_tracking_link

MAX_URL_BYTES: Final = 2000
"""As many as a token carries (:data:`postwake.tokens.MAX_URL_BYTES`)."""


class Skip(enum.StrEnum):
    """Why a link is left alone; the table in the module's docstring explains each."""

    OPT_OUT = "opt-out"
    EMPTY = "empty"
    TEMPLATE = "template"
    CONTROL_CHARACTERS = "control-characters"
    FRAGMENT = "fragment"
    NOT_HTTP = "not-http"
    RELATIVE = "relative"
    MALFORMED = "malformed"
    CHARSET = "charset"
    TOO_LONG = "too-long"
    OWN_HOST = "own-host"
    EXCLUDED = "excluded"
    OTHER_TRACKER = "other-tracker"
    UNSUBSCRIBE = "unsubscribe"
    VISIBLE_URL = "visible-url"


@dataclass(slots=True)  # not frozen: there may be hundreds in a mail
class Link:
    """A wrapped link: its index in the message and the URL a click on it leads to."""

    index: int
    url: str


@dataclass(frozen=True, slots=True)
class LinkRules:
    """What configuration and the message's headers say about links.

    *own_hosts*: our tracking hosts, in lower case, with ``:port`` where the port is not the scheme's own, or with
    ``/path`` where only that is ours.
    *excluded_hosts*: host patterns, ``*`` matching any characters (``*.example.com``: the subdomains).
    *unsubscribe_targets*: the URLs of List-Unsubscribe. *kept*: URLs that the HTML part leaves alone, and why, so that
    the text part does, which has no attributes to say so.
    """

    own_hosts: frozenset[str] = frozenset()
    excluded_hosts: tuple[str, ...] = ()
    skip_visible_url: bool = True
    skip_unsubscribe: bool = True
    unsubscribe_targets: frozenset[str] = frozenset()
    kept: Mapping[str, Skip] = field(default_factory=dict)


OPT_OUTS: Final[Mapping[bytes, frozenset[bytes] | None]] = {
    b"clicktracking": frozenset((b"off",)),  # SendGrid
    b"data-pm-no-track": None,  # Postmark
    b"ses:no-track": None,  # Amazon SES
    b"disable-tracking": frozenset((b"true",)),  # Mailgun
    b"data-msys-clicktrack": frozenset((b"0",)),  # SparkPost
    b"data-mautic-disable-tracking": None,  # Mautic
    b"mautic:disable-tracking": None,  # Mautic before 7
    b"mc:disable-tracking": None,  # Mailchimp Transactional
    b"data-no-track": None,  # ours
}
"""Attributes that say "do not count clicks on this link", in the dialects of the services people come from.

The values (in lower case) that mean it; None where the attribute's presence does, unless its value is ``false``.
"""

SERVICE_ATTRIBUTES: Final = frozenset(
    (
        *(b"ses:tags", b"ses:custom-path"),  # Amazon SES: what its events say of the link; a path for apps
        *(b"data-msys-linkname", b"data-msys-sublink", b"data-msys-unsubscribe"),  # SparkPost: the same, and below
    )
)
"""Attributes that tell a service more of a link that it counts; nobody else reads them, so they go as opt-outs do."""

UNSUBSCRIBES: Final = b"data-msys-unsubscribe"
"""The one of them that, with the value 1, says that the link unsubscribes."""

_C0_AND_SPACE: Final = "".join(map(chr, range(0x21)))
_TAB_AND_NEWLINES: Final = str.maketrans("", "", "\t\n\r")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\N{REPLACEMENT CHARACTER}]")
_DISPUTED: Final = re.compile(r"[\x80-\x9f\ue000-\uf8ff]")
"""C1 controls and characters for private use: what Python makes of bytes that browsers read as something else."""
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*+):")
_HTTP: Final = re.compile(r"https?://([^/?#\\]++)", re.IGNORECASE)
_ODD_SLASHES: Final = re.compile(r"(https?:)(?!//[^/\\])[/\\]{2,}+", re.IGNORECASE)
_USUAL: Final = re.compile(
    r"https?://[0-9A-Za-z][0-9A-Za-z.-]*+(?=[/?#]|\Z)(?:[!-#&-)+-;=-Z\]-z|~]++|%[0-9A-Fa-f]{2})*+"
)
"""What nearly all links are: nothing that is looked for in others can be in them, and a browser changes nothing."""
_TEMPLATE: Final = re.compile(r"\{\{|\}\}|\{%|%%[A-Za-z_][\w.:-]*%%|\*\||\|\*|\$\{|<%|\[\[[^\[\]]*+\]\]")

_UNSUBSCRIBE_URL: Final = re.compile(r"unsub(?:scri|\b|_)|opt[-_]?out\b|email[-_]?preferences|list-manage[^/]*/profile")
# Text in lower case. One alternative per language; the words that mail in it uses for this link. Each begins with a
# letter, so that the search need not try them all at every place.
_UNSUBSCRIBE_TEXT: Final = re.compile(
    r"unsubscri|o(?<!\wo)pt[ -]?out\b|d[ée]sabonn|d[ée]sinscri|abmeld|abbestell|darse de baja|dar de baja|"
    r"cancelar (?:la |mi |a )?(?:suscripci|subscri|inscri)|disiscri|cancella l.iscri|annulla l.iscri|uitschrij|afmeld|"
    r"avregistrer|avprenumerer|avsluta prenumer|peruuta tilaus|odhl[áa]sit|wypisz|zrezygnuj z|leiratkoz|dezabon|"
    r"отписаться|відписатися|退订|取消订阅|取消訂閱|配信停止|購読解除|登録解除|수신거부|구독 취소|"
    r"إلغاء الاشتراك|abonelikten çık"
)
# What never closes goes to the end, so that the time is linear.
_MARKUP: Final = re.compile(rb"<!--(?:.*?-->|.*+)|<[A-Za-z/!?][^>]*+>?", re.DOTALL)
MAX_CONTENT_BYTES: Final = 2000
"""How much of an anchor's content is looked at: a link that says its own address is shorter."""
# With or without scheme and path; not a file's name; a sentence's end after it does not count.
_VISIBLE_URL: Final = re.compile(
    r"(?:https?:/*(?:[^\s/@?#]*+@)?)?"
    r"((?:[\w-]++\.)++(?!(?:js|md|py|pdf|html?|txt|zip|docx?|xlsx?|png|jpe?g)\b)(?:xn--[\w-]++|[^\W\d_]{2,}+)"
    r"|[0-9]{1,3}(?:\.[0-9]{1,3}){3})"
    r"(?::[0-9]++)?(?:[/?#]\S*+|[.,;:!…]?)"
)
# What begins like this is an address whatever the host and whatever follows: filters look no further.
_VISIBLE_SCHEME: Final = re.compile(
    r"https?:[/\\]++(?:[^\s/@?#\\]*+@)?(\[[0-9a-f:.]++\]|[\w-]++(?:\.[\w-]++)*+)",
)
_AROUND: Final = " <>()[]{}\"'«»‹›“”„‘’→➔➜►▶•·*|\u200b\ufeff"


def opt_outs(found: list[Attribute], html: bytes) -> list[Attribute]:
    """Return the attributes of a tag, duplicates included, that ask not to be tracked; empty if none does.

    HTML5 keeps the first of several attributes of one name, so its value decides, and all of that name are returned.
    """
    names = {}
    for attribute in found:
        if attribute.name in OPT_OUTS and attribute.name not in names:
            value = html[attribute.value_start : attribute.value_end].strip().lower()
            meaning = OPT_OUTS[attribute.name]
            names[attribute.name] = value in meaning if meaning is not None else value != b"false"
    return [a for a in found if names.get(a.name)] if names else []


def decode_href(raw: bytes, codec: str) -> str | None:
    """Return the text of an ``href`` as a browser reads it, from its bytes in *codec*; None if they do not tell.

    In a document that is not UTF-8, a browser encodes what is outside ASCII in a query, whether written as bytes or as
    references, in the document's charset, and everywhere else in UTF-8. Which a mail program does, once it has
    converted the document, nobody knows: None. So it is with bytes from 0x80 to 0x9F in ISO-8859, which are letters and
    quotes to browsers, as they read windows-1252, and controls to others; and with the edges of East Asian charsets.
    """
    try:
        text = decode_attribute(raw.decode("ascii" if raw.isascii() else codec))
    except UnicodeDecodeError:
        return None
    if codec == "utf-8" or text.isascii():
        return text
    return text if text.partition("#")[0].partition("?")[2].isascii() and not _DISPUTED.search(text) else None


def clean_url(text: str) -> str:
    """Return *text* as the URL standard reads it: no C0 controls or spaces around it, no tabs or line breaks inside."""
    text = text.strip(_C0_AND_SPACE)
    return text.translate(_TAB_AND_NEWLINES) if "\n" in text or "\r" in text or "\t" in text else text


def url_skip(url: str) -> Skip | None:
    """Return why *url* (from :func:`clean_url`) is not one that can be wrapped, whatever the rules; None if it can."""
    if len(url) <= MAX_URL_BYTES and _USUAL.fullmatch(url):
        return None
    if not url:
        return Skip.EMPTY
    if _TEMPLATE.search(url):
        return Skip.TEMPLATE
    if _CONTROL.search(url):
        return Skip.CONTROL_CHARACTERS
    if url[0] == "#":
        return Skip.FRAGMENT
    scheme = _SCHEME.match(url)
    if scheme is None:
        return Skip.RELATIVE
    if scheme[1].lower() not in ("http", "https"):
        return Skip.NOT_HTTP
    url = _two_slashes(url)
    authority = _HTTP.match(url)
    if authority is None or " " in authority[1] or not host_of(url):
        return Skip.MALFORMED
    if len(url) > MAX_URL_BYTES // 4 and len(browser_url(url).encode()) > MAX_URL_BYTES:
        return Skip.TOO_LONG
    return None


def browser_url(url: str) -> str:
    """Return the absolute http(s) *url* with what a browser changes before it asks.

    That is ``\\`` to ``/``, space to ``%20``, and three or more slashes behind the scheme to two. Everything
    else a browser escapes, it escapes in a redirect's answer as well.
    """
    if "\\" in url or "///" in url:
        url = _two_slashes(url)
        end = min((i for i in (url.find("?"), url.find("#")) if i >= 0), default=len(url))
        url = url[:end].replace("\\", "/") + url[end:]
    return url.replace(" ", "%20")


def _two_slashes(url: str) -> str:
    odd = _ODD_SLASHES.match(url)
    return f"{odd[1]}//{url[odd.end() :]}" if odd else url


def host_of(url: str) -> str:
    """Return the host of an absolute http(s) URL in lower case, without user, port and final dot; empty if none."""
    host, _port = _host_and_port(url)
    return host


def is_own(url: str, own_hosts: frozenset[str]) -> bool:
    """Whether the absolute http(s) *url* leads to one of *own_hosts*, see :class:`LinkRules`."""
    return _is_own(url, *_host_and_port(url), own_hosts)


def _is_own(url: str, host: str, port: str, own_hosts: frozenset[str]) -> bool:
    if host in own_hosts or (port and f"{host}:{port}" in own_hosts):
        return True
    paths = _own_paths(own_hosts).get(host)
    if not paths:
        return False
    rest = url[url.index("//") + 2 :]
    end = min((i for i in (rest.find("?"), rest.find("#")) if i >= 0), default=len(rest))
    path = rest[:end].partition("/")[2]
    return any(path == own or path.startswith(own + "/") for own in paths)


@lru_cache(maxsize=64)
def _own_paths(own_hosts: frozenset[str]) -> dict[str, list[str]]:
    """Return the paths of *own_hosts* that have one, by host."""
    paths: dict[str, list[str]] = {}
    for place in own_hosts:
        host, slash, path = place.partition("/")
        if slash:
            paths.setdefault(host, []).append(path)
    return paths


def rules_skip(url: str, rules: LinkRules) -> Skip | None:
    """Return why *rules* leave the absolute http(s) *url* alone, by its address only; None if they do not."""
    host, port = _host_and_port(url)
    if _is_own(url, host, port, rules.own_hosts):
        return Skip.OWN_HOST
    if url in rules.kept:
        return rules.kept[url]
    if rules.excluded_hosts and _host_pattern(rules.excluded_hosts).match(host):
        return Skip.EXCLUDED
    if is_tracking_link(host, url[url.index("//") + 2 :]):
        return Skip.OTHER_TRACKER
    if rules.skip_unsubscribe and (url in rules.unsubscribe_targets or _UNSUBSCRIBE_URL.search(url.lower())):
        return Skip.UNSUBSCRIBE
    return None


def anchor_skip(content: bytes, rel: bytes, rules: LinkRules, tracking_host: str, codec: str) -> Skip | None:
    """Return why an anchor is left alone for what it says: its *rel* and its *content*, the bytes up to its end tag.

    *tracking_host* is the host that would stand in the link.
    """
    if not (rules.skip_unsubscribe or rules.skip_visible_url):
        return None
    if rules.skip_unsubscribe and b"unsubscribe" in rel.lower():
        return Skip.UNSUBSCRIBE
    text = visible_text(content, codec).lower()
    if not text:
        return None
    if rules.skip_unsubscribe and _UNSUBSCRIBE_TEXT.search(text):
        return Skip.UNSUBSCRIBE
    if rules.skip_visible_url:
        shown = visible_host(text)
        if shown and not _same_site(shown, tracking_host):
            return Skip.VISIBLE_URL
    return None


def visible_text(content: bytes, codec: str) -> str:
    """Return the text a reader sees of an anchor's *content* in *codec*, whitespace collapsed. Long content is cut."""
    content = content[:MAX_CONTENT_BYTES]
    if b"<" in content:
        content = _MARKUP.sub(b"", content)
    text = content.decode(codec, "replace")
    return " ".join(decode_attribute(text).split())


def visible_host(text: str) -> str:
    """Return the host that *text*, in lower case, is the address of, with or without scheme and path; empty if none.

    Quotes, brackets and arrows around it do not count. Where it begins with a scheme, more words may follow.
    """
    if "." not in text and "://" not in text:
        return ""
    text = text.strip(_AROUND)
    match = _VISIBLE_SCHEME.match(text) or _VISIBLE_URL.fullmatch(text)
    return match[1] if match else ""


def _same_site(shown: str, tracking_host: str) -> bool:
    """Whether a filter that compares the shown host with the tracking host finds one site: equal, or its subdomain."""
    site = shown.removeprefix("www.")
    return tracking_host == site or tracking_host.endswith("." + site)


def _host_and_port(url: str) -> tuple[str, str]:
    match = _HTTP.match(url)
    if match is None:
        return "", ""
    authority = match[1].rpartition("@")[2].lower()
    if authority.startswith("["):  # an IPv6 address holds colons
        host, bracket, port = authority.partition("]")
        return host + bracket, port.lstrip(":")
    host, _, port = authority.partition(":")
    return host.rstrip("."), port


@lru_cache(maxsize=64)
def _host_pattern(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(p.lower()) for p in patterns))
