"""Several worker processes on one address, one store and one spool directory."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import urllib.request

from postwake.events import EventType
from postwake.tokens import Purpose

URL = "https://example.com/"


def makers(server) -> set[int]:
    """Return the processes that have made the spool files."""
    return {int(path.name.split("-")[1]) for path in server.spooled()}


def test_one_worker_replays_what_all_have_spooled(make_server, await_true, free_port_number: int) -> None:
    """Each worker has a spool file, a killed one's too; all are replayed, each event by one worker, and counted so."""
    listener = f"127.0.0.1:{free_port_number}"
    server = make_server(
        pixelserver={"workers": 2, "store_timeout_ms": 200},
        store={"busy_timeout_ms": 100},
        metrics=listener,
    )

    def metric(name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", _scrape(listener), re.MULTILINE)
        return float(found[1]) if found else -1.0

    tracking_id = os.urandom(16)
    answered = 0
    with contextlib.closing(server.lock_store()):
        while len(makers(server)) < 2 or answered < 20:
            assert answered < 500, "one worker answered everything"
            token = server.token(Purpose.CLICK, URL, tracking_id=tracking_id, link=answered)
            assert server.get(f"/c/{token}").status == 307
            answered += 1
        killed = min(makers(server))
        os.kill(killed, signal.SIGKILL)
    server.await_replay()
    await_true(lambda: metric("postwake_spool_replayed_total") >= answered, "the replay was not counted")
    assert metric("postwake_spool_replayed_total") == answered
    stored = server.rows("SELECT link FROM event WHERE type = ? ORDER BY link", EventType.CLICKED)
    assert stored == [(link,) for link in range(answered)]
    assert server.rows("SELECT clicks_human FROM engagement") == [(answered,)]
    assert metric("postwake_spool_bad_lines_total") == 0
    assert server.stop() == 0


def _scrape(listener: str) -> str:
    with urllib.request.urlopen(f"http://{listener}/metrics") as response:
        return str(response.read().decode())
