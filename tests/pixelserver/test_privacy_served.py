"""Privacy as it is served: what two workers and a purge leave in the file, looked for in its bytes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from postwake.store.person import forget
from postwake.store.purge import Limits, purge
from postwake.tokens import Privacy, Purpose
from postwake.tracking_id import make_tracking_id

URL = "https://example.com/page"
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 OnlyThisReader/7.3"
DAY_US = 86_400_000_000


def everywhere(server) -> bytes:
    """Return every byte that the server keeps: the store's files, the spool, its log."""
    paths = [*server.directory.glob("postwake.db*"), *server.directory.glob("spool/*"), server.directory / "log"]
    return b"".join(path.read_bytes() for path in paths)


def test_pseudonyms_of_two_workers(make_server, tmp_path: Path) -> None:
    """All workers give one reader one pseudonym; address and agent are nowhere; the key ends with the server."""
    server = make_server(start=False, pixelserver={"workers": 2})
    server.environment["RUNTIME_DIRECTORY"] = str(tmp_path)
    server.start()
    for number in range(24):
        token = server.token(Purpose.CLICK, f"{URL}{number}", privacy=Privacy.PSEUDONYMOUS)
        assert server.request("GET", f"/c/{token}", {"User-Agent": AGENT}).status == 307
    sql = "SELECT event.client, text FROM event JOIN user_agent ON user_agent.id = user_agent"
    ((client, agent),) = set(server.rows(sql))
    assert len(server.rows(sql)) == 24
    assert client.startswith("~")
    assert agent.startswith("~")
    (key,) = tmp_path.glob("*/pseudonyms-*")
    assert key.stat().st_mode & 0o077 == 0
    kept = everywhere(server)
    assert key.read_bytes() not in kept
    assert b"OnlyThisReader" not in kept
    assert b"127.0.0.1\x00" not in kept.replace(b"listen=127.0.0.1", b"")
    assert server.stop() == 0
    assert list(tmp_path.iterdir()) == []


def test_the_key_of_a_killed_server_goes_with_the_next_start(make_server, tmp_path: Path) -> None:
    """``kill -9`` leaves the day's key behind; the next start removes it, and no living server's."""
    beside = make_server(start=False)
    beside.environment["TMPDIR"] = str(tmp_path)
    beside.start()
    (living,) = tmp_path.iterdir()
    server = make_server(start=False)
    server.environment["TMPDIR"] = str(tmp_path)
    server.start()
    token = server.token(Purpose.OPEN, privacy=Privacy.PSEUDONYMOUS)
    assert server.get(f"/o/{token}.gif").status == 200
    (key,) = tmp_path.glob("*/pseudonyms-*")
    server.stop(signal.SIGKILL)
    assert key.exists()
    server.start()
    assert not key.parent.exists()
    assert living.is_dir()
    assert (server.stop(), beside.stop()) == (0, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [Privacy.ANONYMOUS, Privacy.OFF])
def test_nothing_of_the_reader(make_server, mode: Privacy) -> None:
    """In modes anonymous and off no byte of address or agent is kept, and no recipient of a hit."""
    server = make_server()
    for purpose, path in ((Purpose.OPEN, "/o/{}.gif"), (Purpose.CLICK, "/c/{}")):
        token = server.token(purpose, URL if purpose is Purpose.CLICK else "", recipient=5, privacy=mode)
        assert server.request("GET", path.format(token), {"User-Agent": AGENT}).status in (200, 307)
    rows = server.rows("SELECT client, user_agent, recipient_idx FROM event")
    assert rows == ([(None, None, 0)] * 2 if mode is Privacy.ANONYMOUS else [])
    assert b"OnlyThisReader" not in everywhere(server)
    server.stop()


def test_links_outlive_purging_and_forgetting(make_server) -> None:
    """A link, a pixel and the unsubscribe page of mail that was purged, or whose reader was forgotten, work on."""
    server = make_server()
    old = make_tracking_id(time.time_ns() // 1000 - 40 * DAY_US, os.urandom(10))
    link = f"/c/{server.token(Purpose.CLICK, URL, tracking_id=old)}"
    rest = (
        f"/o/{server.token(Purpose.OPEN, tracking_id=old)}.gif",
        f"/u/{server.token(Purpose.UNSUBSCRIBE, tracking_id=old)}",
    )

    def works() -> None:
        answer = server.get(link)
        assert (answer.status, answer.headers["location"]) == (307, URL)
        assert [server.get(path).status for path in rest] == [200, 200]

    works()
    assert server.rows("SELECT count(*) FROM message") == [(1,)]
    forget(server.store, "ann@example.net", os.urandom(8), pause=lambda _: None)
    works()
    server.get(f"/c/{server.token(Purpose.CLICK, URL)}")  # the newest is never purged: its number would be used again
    limit_us = time.time_ns() // 1000 - 30 * DAY_US
    purge(server.store, Limits(limit_us, None, None), pause=lambda _: None)
    works()
    assert server.rows("SELECT count(*) FROM message WHERE tracking_id = ?", old) == [(0,)]
    assert server.stop() == 0
