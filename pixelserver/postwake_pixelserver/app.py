"""The public Flask application: pixels, links, unsubscribing.

Purpose
    ``/o/<token>.gif`` answers with the pixel, ``/c/<token>`` with a redirect to exactly the signed URL, ``/u/<token>``
    with a page (GET) or an action (POST, RFC 8058). An answer says which hit has to be safe, in the store or in the
    fsynced spool, before it goes out; :mod:`postwake_pixelserver.gateway` sees to that. Nothing here waits.

Security
    Everybody on earth can send anything here. No redirect without a signature, compared in constant time; no request
    body is ever read; nothing of a request is echoed; no cookies; the Host header is not used. The store is written,
    never read: a reader is answered while it is locked, full, purged or gone.

Diagnostics
    One line per failed recording; counters for the rest (:mod:`postwake_pixelserver.measures`). Bad tokens are counted,
    not logged: whoever sends them would be writing our log.

Limits
    An unsubscription that can be recorded nowhere is answered 503, not "done". Opens and clicks are answered anyway.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from postwake.events import EventType, Hit, Who
from postwake.tokens import Privacy, Purpose, Token
from postwake.tracking_id import make_tracking_id
from postwake_pixelserver import destination, pages, peer, privacy
from postwake_pixelserver.answer import Answer, Deed
from postwake_pixelserver.day_key import DayKeys
from postwake_pixelserver.limits import BadTokenLimit
from postwake_pixelserver.live import Live, LiveState
from postwake_pixelserver.measures import Endpoint, Measures
from postwake_pixelserver.who import Verdict

log = logging.getLogger("postwake.pixelserver")

PIXEL = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"  # 43 bytes, transparent
)
NOT_FOUND = b"This link is not valid.\n"
NOT_ALLOWED = b"This address does not answer that method.\n"
UNAVAILABLE = b"We could not save this just now. Please try again in a minute.\n"
ROBOTS = b"User-agent: *\nDisallow: /\n"

_NO_STORE = ("Cache-Control", "no-store")
_NO_INDEX = ("X-Robots-Tag", "noindex, nofollow")
_NO_SNIFF = ("X-Content-Type-Options", "nosniff")
_PLAIN = ("Content-Type", "text/plain; charset=utf-8")
_PIXEL_HEADERS = (
    ("Content-Type", "image/gif"),
    ("Cache-Control", "no-store, no-cache, must-revalidate, private, max-age=0"),
    ("Pragma", "no-cache"),
    ("Expires", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ("Cross-Origin-Resource-Policy", "cross-origin"),  # webmail under COEP shows it, too
    _NO_INDEX,
    _NO_SNIFF,
)
_REDIRECT_HEADERS = (_NO_STORE, ("Referrer-Policy", "no-referrer"), _NO_INDEX)
_PAGE_HEADERS = (
    ("Content-Type", "text/html; charset=utf-8"),
    ("Content-Security-Policy", pages.CONTENT_SECURITY_POLICY),
    ("Vary", "Accept-Language"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
    _NO_STORE,
    _NO_INDEX,
    _NO_SNIFF,
)
_TEXT_HEADERS = (_PLAIN, _NO_STORE, _NO_INDEX, _NO_SNIFF)

_SENTENCE = ".,;:!'\"*|`~)]}>"
"""What mail programs that make links of plain text may take for the end of one; no token holds any of it."""

_PREFETCH_HEADERS = (
    ("HTTP_USER_AGENT", "user-agent"),
    ("HTTP_SEC_PURPOSE", "sec-purpose"),
    ("HTTP_PURPOSE", "purpose"),
    ("HTTP_X_PURPOSE", "x-purpose"),
    ("HTTP_X_MOZ", "x-moz"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What does not change while the server runs."""

    prefixes: tuple[str, ...] = ("",)
    """Path prefixes of the tracking URLs: ``/mail`` where the tracking URL is ``https://host/mail``."""
    proxy_hops: int = 0
    proxies: Sequence[peer.Network] = peer.LOOPBACK


def create_app(
    settings: Settings,
    live: LiveState,
    measures: Measures,
    *,
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    entropy: Callable[[int], bytes] | None = None,
    on_unsubscribe: Callable[[Token], None] | None = None,
    day_keys: DayKeys | None = None,
) -> Flask:
    """Return the application; its answers are to be sent by a :class:`postwake_pixelserver.gateway.Gateway`.

    *on_unsubscribe* is called after an unsubscription was recorded; it must not block. *day_keys* are those that other
    workers use, too.
    """
    app = Flask("postwake_pixelserver", static_folder=None, template_folder=None)
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = False
    app.response_class = Answer
    if entropy is None:
        # Hit IDs have to be different, not secret; asking the kernel for each would give the interpreter's lock away.
        entropy = random.Random(os.urandom(32)).randbytes  # noqa: S311
    server = _Server(settings, live, measures, now_us, entropy, on_unsubscribe, day_keys or DayKeys())

    def route(rule: str, name: str, view: Callable[..., Response], methods: Iterable[str]) -> None:
        for number, prefix in enumerate(dict.fromkeys(settings.prefixes)):
            app.add_url_rule(
                prefix + rule, f"{name}{number}", view, methods=list(methods), provide_automatic_options=False
            )

    route("/o/<token>.gif", "open", server.pixel, ("GET", "HEAD"))
    route("/c/<token>", "click", server.redirect, ("GET", "HEAD"))
    route("/u/<token>", "unsubscribe", server.unsubscribe, ("GET", "HEAD", "POST"))
    route("/healthz", "health", lambda: Answer(200, b"ok\n", _TEXT_HEADERS), ("GET", "HEAD"))
    route("/robots.txt", "robots", lambda: Answer(200, ROBOTS, (_PLAIN,)), ("GET", "HEAD"))

    app.register_error_handler(HTTPException, _failed)
    return app


def _failed(error: HTTPException) -> Response:
    """Answer what no view answers: one constant body each for wrong methods, our own errors, and all the rest."""
    if isinstance(error, MethodNotAllowed):
        allow = ("Allow", ", ".join(sorted(error.valid_methods or ())))
        return Answer(405, NOT_ALLOWED, (*_TEXT_HEADERS, allow))
    if error.code is not None and error.code >= 500:
        return Answer(error.code, UNAVAILABLE, _TEXT_HEADERS)
    return Answer(404, NOT_FOUND, _TEXT_HEADERS)


class _Asked(NamedTuple):
    """What one request says about who makes it."""

    method: str
    client: str
    headers: dict[str, str]


class _Server:
    """The views, and what they share."""

    def __init__(
        self,
        settings: Settings,
        live: LiveState,
        measures: Measures,
        now_us: Callable[[], int],
        entropy: Callable[[int], bytes],
        on_unsubscribe: Callable[[Token], None] | None,
        day_keys: DayKeys,
    ) -> None:
        self._settings = settings
        self._live = live
        self._measures = measures
        self._now_us = now_us
        self._entropy = entropy
        self._on_unsubscribe = on_unsubscribe
        self._day_keys = day_keys
        self._limit = BadTokenLimit()

    def pixel(self, token: str) -> Response:
        """Answer ``/o/<token>.gif``: always with the pixel, whatever happens while recording."""
        started_us = self._now_us()
        deed = None
        try:
            live, content = self._verified(Purpose.OPEN, token)
            if content is None:
                self._measures.request("open", "bad_token")
            else:
                asked = self._asked()
                verdict = live.rules.classify("open", asked.method, asked.headers, asked.client)
                deed = self._deed("open", "pixel", EventType.OPENED, content, "", verdict, asked, started_us)
        except Exception:  # the pixel edge: a reader sees a mail, not our trouble
            self._measures.request("open", "error")
            log.exception("endpoint=open answered=pixel")
        return Answer(200, PIXEL, _PIXEL_HEADERS, deed)

    def redirect(self, token: str) -> Response:
        """Answer ``/c/<token>``: 307 to the signed URL, or 404."""
        started_us = self._now_us()
        live, content = self._verified(Purpose.CLICK, token)
        if content is None:
            return self._bad("click")
        target = destination.location(content.url)
        if target is None:
            self._measures.request("click", "unusable")
            return Answer(404, NOT_FOUND, _TEXT_HEADERS)
        if target in live.denied:
            self._measures.request("click", "denied")
            return Answer(404, NOT_FOUND, _TEXT_HEADERS)
        deed = None
        try:
            asked = self._asked()
            verdict = live.rules.classify("click", asked.method, asked.headers, asked.client)
            deed = self._deed("click", "redirect", EventType.CLICKED, content, content.url, verdict, asked, started_us)
        except Exception:  # the redirect edge: a link works whatever becomes of its counting
            self._measures.request("click", "error")
            log.exception("endpoint=click answered=redirect")
        return Answer(307, b"", (("Location", target), *_REDIRECT_HEADERS), deed)

    def unsubscribe(self, token: str) -> Response:
        """Answer ``/u/<token>``: the page, or, by POST, the deed."""
        started_us = self._now_us()
        _, content = self._verified(Purpose.UNSUBSCRIBE, token)
        if content is None:
            return self._bad("unsubscribe")
        environ = request.environ
        language = pages.choose_language(environ.get("HTTP_ACCEPT_LANGUAGE", ""))
        state: pages.State = "ask"
        if environ["REQUEST_METHOD"] == "POST":
            # Which button it was stands in the query, so that no body has to be read (a body can be slow).
            query = environ.get("QUERY_STRING", "")
            kind, reason, state = _DEEDS.get(query, _ONE_CLICK)
            deed = self._deed(
                "unsubscribe", "503", kind, content, "", Verdict(Who.HUMAN, reason), self._asked(), started_us
            )
            if deed is not None:
                lost = Answer(503, UNAVAILABLE, (*_TEXT_HEADERS, ("Retry-After", "60")))
                then = None
                if kind is EventType.UNSUBSCRIBED and self._on_unsubscribe is not None:
                    then = partial(self._on_unsubscribe, content)
                deed = deed._replace(if_lost=lost, then=then)
        else:
            deed = None
            self._measures.good("unsubscribe", started_us)
        page = pages.unsubscribe_page(state, language)
        return Answer(200, page, (*_PAGE_HEADERS, ("Content-Language", language)), deed)

    def _verified(self, purpose: Purpose, token: str) -> tuple[Live, Token | None]:
        """Return what *token* says if one of our keys signed it, else None; and the state by which that was judged."""
        token = token.rstrip(_SENTENCE)
        live = self._live.current
        content = live.keys.verify(purpose, token)
        if content is None and self._live.follow_keys():
            live = self._live.current
            content = live.keys.verify(purpose, token)
        return live, content

    def _asked(self) -> _Asked:
        environ = request.environ
        settings = self._settings
        client = peer.client_address(
            environ.get("REMOTE_ADDR", ""),
            environ.get("HTTP_X_FORWARDED_FOR", ""),
            settings.proxy_hops,
            settings.proxies,
        )
        headers = {name: environ[key] for key, name in _PREFETCH_HEADERS if key in environ}
        return _Asked(environ["REQUEST_METHOD"], client, headers)

    def _deed(
        self,
        endpoint: Endpoint,
        said: str,
        kind: EventType,
        token: Token,
        url: str,
        verdict: Verdict,
        asked: _Asked,
        at_us: int,
    ) -> Deed | None:
        """Return what has to be made safe before the answer goes out; None if nothing may be recorded."""
        hit = privacy.apply(
            Hit(
                hit_id=make_tracking_id(at_us, self._entropy(10)),
                at_us=at_us,
                type=kind,
                tracking_id=token.tracking_id,
                recipient=token.recipient,
                link=token.link,
                url=url,
                who=verdict.who,
                reason=verdict.reason,
                client=asked.client,
                user_agent=asked.headers.get("user-agent", ""),
                privacy=token.privacy,
            ),
            self._day_keys.of(at_us) if token.privacy is Privacy.PSEUDONYMOUS else b"",
        )
        if hit is None:
            self._measures.recorded(endpoint, "unrecorded", at_us)
            return None
        return Deed(hit, endpoint, said)

    def _bad(self, endpoint: Endpoint) -> Response:
        """Answer a token that is not ours; 429 once a source has sent too many."""
        source = peer.source(self._asked().client)
        if self._limit.exceeded(source, self._now_us()):
            self._measures.request(endpoint, "limited")
            return Answer(429, NOT_FOUND, (*_TEXT_HEADERS, ("Retry-After", "60")))
        self._measures.request(endpoint, "bad_token")
        return Answer(404, NOT_FOUND, _TEXT_HEADERS)


_ONE_CLICK: tuple[EventType, str, pages.State] = (EventType.UNSUBSCRIBED, "one-click", "done")
_DEEDS: dict[str, tuple[EventType, str, pages.State]] = {
    "page=1": (EventType.UNSUBSCRIBED, "page", "done"),
    "again=1": (EventType.RESUBSCRIBED, "page", "undone"),
}
