"""What the views return: an answer that goes out as it was made, and what has to be safe before it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from flask import Response

from postwake.events import Hit
from postwake_pixelserver.measures import Endpoint

ANSWER = "postwake.answer"
"""Where in the WSGI environment a finished :class:`Answer` is found by who asked."""


class Deed(NamedTuple):
    """A hit that has to be in the store or the spool before its answer goes out."""

    hit: Hit
    endpoint: Endpoint
    said: str
    """What is answered in any case, in the word of the log."""
    if_lost: Answer | None = None
    """The other answer, if the hit can be made safe nowhere; None: the same, because a link works whatever happens."""
    then: Callable[[], None] | None = None
    """What follows from the hit once it is safe; must not block."""


class Answer(Response):
    """A response that goes out as it was made.

    Werkzeug would decode and re-encode ``Location`` (``iri_to_uri``), which changes signed URLs, and go over every
    header of every answer, which is a third of a redirect's time. These headers are constants and a checked URL.
    """

    def __init__(
        self, status: int, body: bytes, headers: tuple[tuple[str, str], ...], deed: Deed | None = None
    ) -> None:
        """Take everything but the length, which is that of *body*."""
        super().__init__(status=status)
        self.exact_headers = [*headers, ("Content-Length", str(len(body)))]
        self.body = body
        self.deed = deed

    def __call__(self, environ: Any, start_response: Any) -> Any:  # noqa: ARG002 - WSGI's signature
        """Leave the answer in *environ*: who called knows how to send it."""
        environ[ANSWER] = self
        return []
