"""A session's own bookkeeping; what it says to an MTA is tested over the socket (daemon/)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from postwake_milter.adapter import ACCEPT, CONTINUE, Application, Session
from postwake_milter.handle import Envelope, Handled, Handler
from postwake_milter.shared_stats import SharedStats


class Context:
    """Libmilter's side: an MTA that says nothing."""

    def getsymval(self, name: str) -> None:
        """Return no macro."""

    def setsymlist(self, stage: int, names: str) -> None:
        """Take the macros' names."""


@pytest.mark.parametrize(
    ("end", "fails"),
    [
        pytest.param(Session.abort, False, id="given-up"),
        pytest.param(Session.close, False, id="hung-up"),
        pytest.param(Session.eom, False, id="handled"),
        pytest.param(Session.eom, True, id="failed"),
    ],
)
def test_on_its_way_from_mail_to_the_end(
    make_handler: Callable[..., Handler], end: Callable[[Session], int], fails: bool
) -> None:
    """A session counts as having a message on its way as long as it has one, however that ends: rows wait for it."""
    handler = make_handler()

    def process(envelope: Envelope) -> Handled:
        if fails:
            raise RuntimeError("a bug")
        return handler.unchanged(envelope, "error")

    application = Application(handler, process, SharedStats(1).worker(0))
    session = Session(application)
    session._ctx = Context()
    session.negotiate([0x1FF, 0x1FFFFF, 0, 0])
    session.connect("client.test", 4, ("127.0.0.1", 25))
    for _ in range(2):
        assert not application.begun
        session.envfrom_bytes(b"<news@example.com>")
        session.envrcpt_bytes(b"<ada@accept.test>")
        assert application.begun == {session}
        assert end(session) in (ACCEPT, CONTINUE)
    assert not application.begun
