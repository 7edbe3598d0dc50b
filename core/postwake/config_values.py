"""What a value of the configuration may be: the types of its keys, each of which says what it expected."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator

_PLAIN_URL = re.compile(r"https?://[A-Za-z0-9._~%:@\[\]-]+(/[A-Za-z0-9._~%/+-]*)?\Z", re.IGNORECASE)


def _network(text: str) -> str:
    ipaddress.ip_network(text)
    return text


def _domain(text: str) -> str:
    if not re.fullmatch(r"[^\s@/*,.][^\s@/*,]*", text):
        raise ValueError("expected a domain such as example.com, without @ and *: subdomains are named one by one")
    return text.lower()


def _tracking_url(text: str) -> str:
    if not text:
        return text
    expected = "expected https://HOST or https://HOST/PREFIX, in ASCII (an international name as xn--…)"
    # What stands here is copied into the HTML and the header fields of other people's mail.
    if not _PLAIN_URL.match(text):
        raise ValueError(expected)
    parts = urlsplit(text)
    try:
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        usable = False
    if not usable or parts.username is not None or parts.password is not None:
        raise ValueError(expected)
    return text.rstrip("/")


def _listener(text: str) -> str:
    if text.startswith("unix:"):
        if not text.removeprefix("unix:").startswith("/"):
            raise ValueError("expected unix:/ABSOLUTE/PATH")
        return text
    parse_listener(text)
    return text


def _tcp_listener(text: str) -> str:
    parse_listener(text)
    return text


def parse_listener(text: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT`` or ``[IPV6]:PORT``; ValueError says what was expected."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError("expected HOST:PORT, such as 127.0.0.1:8025")
    return host.strip("[]"), int(port)


def _mode(text: str) -> str:
    if not (3 <= len(text) <= 4) or any(c not in "01234567" for c in text):
        raise ValueError('expected an octal mode such as "0660"')
    return text


def _mail_address(text: str) -> str:
    # It becomes an argument of sendmail(1) and a header field.
    if not re.fullmatch(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+", text) or text.startswith("-"):
        raise ValueError("expected an address such as you@example.com, in ASCII")
    return text


Network = Annotated[str, AfterValidator(_network)]
Domain = Annotated[str, AfterValidator(_domain)]
TrackingUrl = Annotated[str, AfterValidator(_tracking_url)]
Listener = Annotated[str, AfterValidator(_listener)]
OptionalListener = Annotated[str, AfterValidator(lambda text: text and _tcp_listener(text))]
MailAddress = Annotated[str, AfterValidator(_mail_address)]
OptionalMailAddress = Annotated[str, AfterValidator(lambda text: text and _mail_address(text))]
Mode = Annotated[str, AfterValidator(_mode)]
PrivacyName = Literal["full", "pseudonymous", "anonymous", "off"]
