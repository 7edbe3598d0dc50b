"""The daemon as a process: signals, workers, sockets, a store that is away, killing."""

from __future__ import annotations

import contextlib
import grp
import http.client
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from postwake.errors import ConfigError
from postwake.events import EventType, State, Who
from postwake.keyfile import add_key
from postwake.store.connection import migrate_file
from postwake.tokens import KeyRing, Purpose, Token
from postwake_pixelserver.daemon import _group
from postwake_pixelserver.relabel import SETTLE_US

URL = "https://example.com/"
COUNT = "SELECT count(*), count(DISTINCT hit_id) FROM event"


def await_true(condition, what: str, timeout_s: float = 20.0) -> None:
    """Poll until *condition* holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_stops_cleanly(make_server) -> None:
    """SIGTERM ends it with status 0, nothing left over, the WAL moved into the file."""
    server = make_server()
    assert server.get(f"/o/{server.token(Purpose.OPEN)}.gif").status == 200
    assert server.stop() == 0
    wal = server.directory / "postwake.db-wal"
    assert not wal.exists() or wal.stat().st_size == 0
    assert server.rows(COUNT) == [(1, 1)]
    with pytest.raises(OSError, match="refused"):
        server.get("/healthz")


def test_reload_reads_the_deny_list_in_place(make_server, tmp_path) -> None:
    """SIGHUP: a denied destination is 404, without closing a connection."""
    denied = tmp_path / "denied"
    denied.write_text("")
    server = make_server(pixelserver={"denied_destinations": str(denied)})
    link = server.token(Purpose.CLICK, URL + "x")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)

    def status(token: str) -> int:
        connection.request("GET", f"/c/{token}", headers={"User-Agent": "x"})
        response = connection.getresponse()
        response.read()
        return response.status

    assert status(link) == 307
    connection.sock.getpeername()
    sock = connection.sock
    denied.write_text(URL + "\n")
    other_link = server.token(Purpose.CLICK, "https://other.example/")
    server.process.send_signal(signal.SIGHUP)
    await_true(lambda: status(link) == 404, "the deny list was not read")
    assert status(other_link) == 307
    assert connection.sock is sock
    denied.write_text("not a destination/\n")
    server.process.send_signal(signal.SIGHUP)
    await_true(lambda: "reload=failed" in server.log(), "a bad list was not reported")
    assert (status(link), status(other_link)) == (404, 307)
    connection.close()
    assert server.stop() == 0


def test_a_mistake_in_own_agents_keeps_the_links(make_server, tmp_path) -> None:
    """``[agent]`` for ``[[agent]]`` is said at the reload, and every worker goes on with the rules it had."""
    agents = tmp_path / "agents.toml"
    agents.write_text("")
    server = make_server(pixelserver={"scanner_agents": str(agents)})
    agents.write_text("[agent]\nname = 'ours'\nwho = 'machine'\nagent = 'Ours'\n")
    server.process.send_signal(signal.SIGHUP)
    server.await_log("reload=failed")
    assert server.get(f"/c/{server.token(Purpose.CLICK, URL)}").status == 307
    assert "Unexpected exit" not in server.log()
    assert server.stop() == 0


@pytest.mark.parametrize("purpose", Purpose)
def test_a_new_key_is_known_as_soon_as_it_is_used(make_server, purpose: Purpose) -> None:
    """A milter that was restarted signs with it before anybody has told this server: no such link is dead."""
    server = make_server()
    old = server.token(purpose, URL)
    add_key(server.directory / "keys", "2026-11-22T06:00:00Z")
    new = server.token(purpose, URL)
    paths = [f"/{purpose}/{token}{'.gif' if purpose is Purpose.OPEN else ''}" for token in (new, old)]
    assert [server.get(path).status for path in paths] == [307 if purpose is Purpose.CLICK else 200] * 2
    if purpose is Purpose.OPEN:  # which is answered in any case
        assert server.rows("SELECT count(*) FROM opens") == [(2,)]
    (server.directory / "keys").write_text("half a line\n")
    assert server.get("/c/nonsense").status == 404
    assert [server.get(path).status for path in paths] == [307 if purpose is Purpose.CLICK else 200] * 2
    for _ in range(5):
        server.get("/c/nonsense")
    assert server.log().count("reload=failed") == 1
    assert server.stop() == 0


def test_revoked_key_kills_its_links(make_server) -> None:
    """Taking a key out of the file and reloading revokes what it signed, and only that."""
    server = make_server()
    old = server.token(Purpose.CLICK, URL)
    keys = server.directory / "keys"
    add_key(keys, "2026-11-22T06:00:00Z")
    new = server.token(Purpose.CLICK, URL)
    lines = [line for line in keys.read_text().splitlines(keepends=True) if not line.startswith("1 ")]
    keys.write_text("".join(lines))
    server.process.send_signal(signal.SIGHUP)
    await_true(lambda: server.get(f"/c/{old}").status == 404, "the key is still believed")
    assert server.get(f"/c/{new}").status == 307
    server.stop()


def test_a_group_that_the_socket_cannot_be_given_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root may give a file to a group it is not in: said at once, with the command; no start that hangs."""
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    monkeypatch.setattr(os, "getgroups", list)
    with pytest.raises(ConfigError, match=r"daemon is not in it: expected `usermod -aG mail daemon`"):
        _group("mail")
    monkeypatch.setattr(os, "getgroups", lambda: [grp.getgrnam("mail").gr_gid])
    assert _group("mail") == grp.getgrnam("mail").gr_gid


@pytest.mark.parametrize("workers", [1, 2])
def test_unix_socket_behind_a_proxy(make_server, workers: int, tmp_path) -> None:
    """On a UNIX socket with one hop the reader is who the proxy says, and the socket is not for everybody."""
    path = tmp_path / "http.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    server = make_server(
        start=False,
        pixelserver={"listen": f"unix:{path}", "proxy_hops": 1, "workers": workers, "socket_group": "daemon"},
    )

    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(str(path))

    def ask(target: str, **headers: str) -> http.client.HTTPResponse:
        with contextlib.closing(Connection("t")) as connection:
            connection.request("GET", target, headers={k.replace("_", "-"): v for k, v in headers.items()})
            response = connection.getresponse()
            response.read()
            return response

    server.await_ready = lambda: await_true(lambda: _answers(ask), "no answer on the socket")
    server.start()
    assert path.stat().st_mode & 0o777 == 0o660
    await_true(lambda: path.stat().st_gid == grp.getgrnam("daemon").gr_gid, "the socket's group")
    for number in range(10):
        token = server.token(Purpose.CLICK, URL, link=number)
        answer = ask(f"/c/{token}", X_Forwarded_For=f"6.6.6.6, 198.51.100.{number}", User_Agent="x")
        assert answer.status == 307
    clients = server.rows("SELECT client FROM event ORDER BY link")
    assert clients == [(f"198.51.100.{number}",) for number in range(10)]
    assert server.stop() == 0
    assert not path.exists()


def _answers(ask) -> bool:
    try:
        return ask("/healthz").status == 200
    except OSError:
        return False


def test_metrics_of_all_workers(make_server, free_port_number) -> None:
    """One listener adds up what every worker did; nothing in it names a person."""
    server = make_server(metrics=f"127.0.0.1:{free_port_number}", pixelserver={"workers": 2})
    for _ in range(20):
        server.get(f"/o/{server.token(Purpose.OPEN)}.gif")
        server.get("/c/nonsense")

    def scrape() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{free_port_number}/metrics") as response:
            return response.read().decode()

    wanted = [
        'postwake_pixel_requests_total{endpoint="open",outcome="good"} 20.0',
        'postwake_pixel_requests_total{endpoint="click",outcome="bad_token"} 20.0',
        'postwake_pixel_hits_total{fate="stored"} 20.0',
        "postwake_pixel_request_seconds_count 20.0",
    ]
    await_true(lambda: all(line in scrape().splitlines() for line in wanted), f"missing in\n{scrape()}")
    text = scrape()
    assert "_created" not in text
    assert 'postwake_build_info{service="pixelserver"' in text
    assert "example" not in text
    assert "127.0.0.1" not in text
    server.stop()


def test_locked_store_keeps_nobody_waiting_and_loses_nothing(make_server) -> None:
    """While another process holds the write lock, readers are answered in time; afterwards every hit is there once."""
    server = make_server(pixelserver={"store_timeout_ms": 300}, store={"busy_timeout_ms": 200})
    server.get(f"/o/{server.token(Purpose.OPEN)}.gif")
    lock = server.lock_store()
    slowest_s = 0.0
    try:
        for number in range(25):
            started = time.monotonic()
            assert server.get(f"/c/{server.token(Purpose.CLICK, URL, link=number)}").status == 307
            assert server.get(f"/o/{server.token(Purpose.OPEN)}.gif").status == 200
            slowest_s = max(slowest_s, time.monotonic() - started)
        assert server.request("POST", f"/u/{server.token(Purpose.UNSUBSCRIBE)}").status == 200
    finally:
        lock.close()
    assert slowest_s < 1.0
    await_true(lambda: server.rows(COUNT) == [(52, 52)], "the spool was not replayed")
    await_true(lambda: not list((server.directory / "spool").glob("*.spool")), "the spool was left")
    assert server.rows("SELECT count(DISTINCT link) FROM event WHERE type = ?", EventType.CLICKED) == [(25,)]
    server.stop()


def test_starts_without_a_store_and_catches_up(make_server) -> None:
    """No store yet: links work, hits wait in the spool, and are in the store once there is one."""
    server = make_server(start=False)
    for path in server.directory.glob("postwake.db*"):
        path.unlink()
    server.start()
    assert server.get(f"/c/{server.token(Purpose.CLICK, URL)}").status == 307
    assert server.get(f"/o/{server.token(Purpose.OPEN)}.gif").status == 200
    assert list((server.directory / "spool").glob("*.spool"))
    migrate_file(server.store)
    await_true(lambda: server.rows(COUNT) == [(2, 2)], "the spool was not replayed")
    server.stop()


def test_neither_store_nor_spool(make_server) -> None:
    """Links and pixels still work; an unsubscription that nobody could remember is not called done."""
    server = make_server(start=False)
    for path in server.directory.glob("postwake.db*"):
        path.unlink()
    (server.directory / "spool").write_text("a file where the directory should be")
    server.start()
    assert server.get(f"/c/{server.token(Purpose.CLICK, URL)}").status == 307
    assert server.get(f"/o/{server.token(Purpose.OPEN)}.gif").status == 200
    answer = server.request("POST", f"/u/{server.token(Purpose.UNSUBSCRIBE)}")
    assert (answer.status, answer.headers["retry-after"]) == (503, "60")
    assert "endpoint=click answered=redirect" in server.log()
    server.stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "stop"])
def test_every_answered_hit_survives_ending(make_server, number: int) -> None:
    """Ended in the middle of a load, again and again: whatever was answered is in the store, once; nobody got a 5xx."""
    server = make_server()
    answered: list[int] = []
    statuses: set[int] = set()
    lock = threading.Lock()
    done = threading.Event()
    numbers = iter(range(10**9))
    ring = server.keys
    tracking_id = os.urandom(16)

    def load() -> None:
        while not done.is_set():
            with lock:
                link = next(numbers)
            token = ring.sign(Purpose.CLICK, Token(tracking_id, 1, link, URL))
            try:
                status = server.get(f"/c/{token}").status
                with lock:
                    statuses.add(status)
                    answered.append(link)
            except (OSError, http.client.HTTPException):
                time.sleep(0.01)

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        before = len(answered)
        await_true(lambda before=before: len(answered) > before + 60, "no load")
        server.stop(number)
        server.start()
    done.set()
    for thread in threads:
        thread.join()
    await_true(
        lambda: {link for (link,) in server.rows("SELECT link FROM event")} >= set(answered),
        "answered hits are missing",
    )
    total, distinct = server.rows(COUNT)[0]
    assert total == distinct
    assert server.rows("SELECT count(*) FROM (SELECT link FROM event GROUP BY link HAVING count(*) > 1)") == [(0,)]
    assert len(answered) > 180
    assert statuses == {307}
    server.stop()


def test_a_killed_worker_is_replaced(make_server) -> None:
    """The parent starts another worker; its readers notice a moment at most."""
    server = make_server()
    children = _workers(server.process.pid)
    assert len(children) == 1
    os.kill(children[0], signal.SIGKILL)
    await_true(lambda: _workers(server.process.pid) not in ([], children), "no new worker")
    await_true(lambda: _quiet(server), "no answer")
    server.stop()


def test_a_killed_worker_is_replaced_while_a_file_is_unusable(make_server, tmp_path) -> None:
    """A mistake that the reload has said is no reason for a worker that takes a dead one's place to give up."""
    denied = tmp_path / "denied"
    denied.write_text("")
    server = make_server(pixelserver={"denied_destinations": str(denied)})
    denied.write_text(URL + "\n")
    link, other = server.token(Purpose.CLICK, URL), server.token(Purpose.CLICK, "https://other.example/")
    server.process.send_signal(signal.SIGHUP)
    await_true(lambda: server.get(f"/c/{link}").status == 404, "the deny list was not read")
    denied.write_text("not a destination/\n")
    children = _workers(server.process.pid)
    os.kill(children[0], signal.SIGKILL)
    await_true(lambda: _workers(server.process.pid) not in ([], children), "no new worker")
    await_true(lambda: _quiet(server), "no answer")
    assert (server.get(f"/c/{link}").status, server.get(f"/c/{other}").status) == (404, 307)
    assert server.stop() == 0


def test_counters_of_a_killed_worker_stay(make_server, free_port_number) -> None:
    """A sum never goes down: Prometheus would take all that the living ever counted for news."""
    server = make_server(pixelserver={"workers": 2}, metrics=f"127.0.0.1:{free_port_number}")

    def opens() -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{free_port_number}/metrics") as response:
            text = response.read().decode()
        found = re.search(
            r'^postwake_pixel_requests_total\{endpoint="open",outcome="good"\} (\S+)$', text, re.MULTILINE
        )
        return float(found[1]) if found else -1.0

    def ask(count: int) -> None:
        for _ in range(count):
            assert server.get(f"/o/{server.token(Purpose.OPEN)}.gif").status == 200

    ask(40)
    await_true(lambda: opens() == 40, "not all were counted")
    before = _workers(server.process.pid)
    os.kill(before[0], signal.SIGKILL)
    await_true(lambda: len(set(_workers(server.process.pid)) - set(before)) == 1, "no new worker")
    assert opens() == 40
    ask(20)
    await_true(lambda: opens() == 60, "what the others counted was lost")
    assert server.stop() == 0


def test_a_killed_parent_takes_its_workers_along(make_server) -> None:
    """No orphan keeps the port."""
    server = make_server()
    children = _workers(server.process.pid)
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait(10)
    await_true(lambda: not any(_lives(pid) for pid in children), "the worker lives on")


def _workers(parent: int) -> list[int]:
    """Return the worker processes of *parent* (multiprocessing's resource tracker is not one)."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in children if "spawn_main" in _command_line(pid)]


def _command_line(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:  # it ended in between
        return ""


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _quiet(server) -> bool:
    try:
        return server.get("/healthz").status == 200
    except OSError:
        return False


def test_taken_address_is_said_at_start(make_server) -> None:
    """A second server on the same address leaves at once instead of sharing the port."""
    from postwake.errors import UnavailableError
    from postwake_pixelserver.daemon import serve

    server = make_server()
    with pytest.raises(UnavailableError, match="expected a free address"):
        serve(server.config(), "test")
    server.stop()


def test_one_port_for_two_listeners_is_said_at_start(make_server) -> None:
    """Metrics where the public is to be served: one sentence, not a panic."""
    from postwake.errors import UnavailableError
    from postwake_pixelserver.daemon import serve

    server = make_server(start=False)
    server.options["metrics"] = f"127.0.0.1:{server.port}"
    with pytest.raises(
        UnavailableError, match=rf"pixelserver.listen 127.0.0.1:{server.port}: .*expected a free address"
    ):
        serve(server.config(), "test")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        pytest.param("file", "Address already in use", id="a file that is no socket"),
        pytest.param("x" * 108, "AF_UNIX path too long", id="longer than a socket's name may be"),
        pytest.param("file/http.sock", "is not a directory", id="below a file"),
    ],
)
def test_socket_that_cannot_be_made_is_said_at_start(make_server, tmp_path, name: str, problem: str) -> None:
    """What granian would answer with a panic is one sentence that names the key, its value and what is wrong."""
    from postwake.errors import UnavailableError
    from postwake_pixelserver.daemon import serve

    (tmp_path / "file").write_text("mine")
    server = make_server(start=False, pixelserver={"listen": f"unix:{tmp_path}/{name}"})
    with pytest.raises(UnavailableError, match=rf"pixelserver\.listen unix:.*{problem}"):
        serve(server.config(), "test")
    assert (tmp_path / "file").read_text() == "mine"


def test_bursts_are_relabeled_in_the_store(make_server) -> None:
    """A sweep becomes a machine's once it has settled, with its earlier open and the old verdicts kept."""
    from postwake.store.connection import WriteLock, open_writer
    from postwake.store.transaction import Transactions
    from postwake_pixelserver import relabel

    server = make_server()
    swept, read = os.urandom(16), os.urandom(16)
    server.get(f"/o/{server.token(Purpose.OPEN, tracking_id=swept)}.gif")
    for link in range(1, 6):
        server.get(f"/c/{server.token(Purpose.CLICK, URL + str(link), tracking_id=swept, link=link)}")
    server.get(f"/o/{server.token(Purpose.OPEN, tracking_id=read)}.gif")
    server.get(f"/c/{server.token(Purpose.CLICK, URL, tracking_id=read, link=1)}")
    server.stop()
    connection = open_writer(server.store)
    transactions = Transactions(connection, WriteLock(server.store))
    now_us = time.time_ns() // 1000

    def turn(at_us: int) -> tuple[int, int]:
        found = relabel.look(connection, at_us)
        for job in relabel.carry_out(found, at_us):
            with transactions.begin() as transaction:
                job(transaction)
        return found.looked, len(found.relabelings)

    assert turn(now_us) == (0, 0)  # not settled yet
    assert turn(now_us + 2 * SETTLE_US) == (8, 6)
    assert turn(now_us + 2 * SETTLE_US) == (0, 0)
    whose = "SELECT who, reason FROM event JOIN message ON message.id = message WHERE tracking_id = ? ORDER BY event.id"
    assert set(server.rows(whose, swept)) == {(Who.MACHINE, "burst")}
    assert set(server.rows(whose, read)) == {(Who.HUMAN, "browser")}
    assert server.rows("SELECT count(*), min(who_before), min(reason_before) FROM relabel") == [
        (6, Who.HUMAN, "browser")
    ]
    engaged = "SELECT opens_human, opens_machine, clicks_human, clicks_machine FROM engagement ORDER BY message"
    assert server.rows(engaged) == [(0, 1, 0, 5), (1, 0, 1, 0)]
    # The log is read late: the delivery turns out to have come after the open and the click.
    with transactions.begin() as transaction:
        message = transaction.execute("SELECT id FROM message WHERE tracking_id = ?", (read,)).fetchone()[0]
        transaction.execute(
            "INSERT INTO delivery (message, recipient, idx, state, at_us, last_attempt_us)"
            " VALUES (?, 'a@example.com', 1, ?, ?, ?)",
            (message, State.SENT, now_us, now_us + 1_000_000),
        )
        transaction.execute(
            "INSERT INTO event (at_us, type, message) VALUES (?, ?, ?)", (now_us, EventType.SENT, message)
        )
    assert turn(now_us + 2 * SETTLE_US) == (1, 2)
    assert set(server.rows(whose, read)) == {(Who.MACHINE, "before-delivery")} | {(None, None)}
    transactions.close()


def test_foreign_key_ring_is_refused(make_server) -> None:
    """Tokens of somebody else's installation are not ours."""
    server = make_server()
    foreign = KeyRing({1: os.urandom(32)}).sign(Purpose.CLICK, Token(os.urandom(16), 1, 0, URL))
    assert server.get(f"/c/{foreign}").status == 404
    server.stop()


def test_faces_the_net_with_its_own_tls(make_server, tmp_path) -> None:
    """With a certificate it speaks TLS by itself, and nothing else on that port."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key -out crt"
    subprocess.run(shlex.split(command), cwd=tmp_path, check=True, capture_output=True)
    options = {"tls_certificate": str(tmp_path / "crt"), "tls_key": str(tmp_path / "key")}
    server = make_server(start=False, pixelserver=options)
    context = ssl.create_default_context(cafile=str(tmp_path / "crt"))
    context.check_hostname = False

    def ask(path: str) -> http.client.HTTPResponse:
        with contextlib.closing(
            http.client.HTTPSConnection("127.0.0.1", server.port, timeout=10, context=context)
        ) as connection:
            connection.request("GET", path, headers={"User-Agent": "x"})
            response = connection.getresponse()
            response.read()
            return response

    server.await_ready = lambda: await_true(lambda: _answers(ask), "no answer over TLS")
    server.start()
    answer = ask(f"/c/{server.token(Purpose.CLICK, URL)}")
    assert (answer.status, answer.headers["location"]) == (307, URL)
    with pytest.raises((OSError, http.client.HTTPException)):
        server.get("/healthz")
    await_true(lambda: "ready=yes" in server.log(), "its own readiness check does not get through TLS")
    assert server.stop() == 0


def test_tracking_url_with_a_path(make_server) -> None:
    """A tracking URL below a path is answered there, and without the path for proxies that cut it off."""
    server = make_server(tracking={"url": "https://www.example.com/mail/x"})
    link = server.token(Purpose.CLICK, URL)
    assert [server.get(f"{prefix}/c/{link}").status for prefix in ("/mail/x", "", "/mail", "/other")] == [
        307,
        307,
        404,
        404,
    ]
    assert b'action="?page=1"' in server.get(f"/mail/x/u/{server.token(Purpose.UNSUBSCRIBE)}").body
    server.stop()
