"""The unsubscribe page: one question, one button, in the reader's language, without script.

The state (``ask``, ``done``, ``undone``) is what the request was, never what the store says: the page answers while
the store is locked, full or gone. Nothing on it is loaded from anywhere, and nothing in it comes from a request.
"""

from __future__ import annotations

import base64
import hashlib
import tomllib
from functools import lru_cache
from importlib import resources
from typing import Literal

from jinja2 import Environment
from markupsafe import Markup
from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header

State = Literal["ask", "done", "undone"]

_STYLE = (
    "body{font:1.125rem/1.5 system-ui,sans-serif;margin:0;color:#1b1b1b;background:#fff}"
    "main{max-width:34rem;margin:12vh auto;padding:0 1.25rem}"
    "h1{font-size:1.6rem;line-height:1.25}"
    "button{font:inherit;font-weight:600;min-height:3rem;padding:.6rem 1.5rem;border:2px solid #0b4f9e;"
    "border-radius:.4rem;background:#0b4f9e;color:#fff;cursor:pointer}"
    "button.quiet{background:transparent;color:#0b4f9e}"
    "button:focus-visible{outline:3px solid #d46b00;outline-offset:3px}"
    ".note{color:#555;font-size:1rem}"
    "@media(prefers-color-scheme:dark){body{color:#eee;background:#16181b}"
    ".note{color:#b5b5b5}button{border-color:#8cbcff;background:#8cbcff;color:#10131a}"
    "button.quiet{background:transparent;color:#8cbcff}}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@lru_cache(maxsize=1)
def languages() -> dict[str, dict[str, str]]:
    """Return the words of the page by language; English first."""
    text = (resources.files("postwake_pixelserver") / "languages.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@lru_cache(maxsize=256)
def choose_language(accept_language: str) -> str:
    """Return the best of our languages for an ``Accept-Language`` value (RFC 9110 section 12.5.4); English if none."""
    accepted = parse_accept_header(accept_language[:200], LanguageAccept)
    return accepted.best_match(languages().keys(), default="en") or "en"


@lru_cache(maxsize=64)
def unsubscribe_page(state: State, language: str) -> bytes:
    """Return the page as UTF-8 HTML."""
    source = (resources.files("postwake_pixelserver") / "templates" / "unsubscribe.html").read_text(encoding="utf-8")
    words = languages()[language]
    heading = {"ask": words["title"], "done": words["done_title"], "undone": words["undone_title"]}[state]
    template = Environment(autoescape=True, trim_blocks=True).from_string(source)
    # The style sheet is ours and holds no quotation marks or angle brackets.
    style = Markup(_STYLE)  # noqa: S704
    return template.render(state=state, language=language, words=words, heading=heading, style=style).encode("utf-8")
