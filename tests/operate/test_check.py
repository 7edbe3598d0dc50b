"""Every failure is made to happen, and ``postwake check`` says what is wrong and what to do."""

from __future__ import annotations

import contextlib
import grp
import os
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from postwake_lab.disks import fill
from postwake_lab.services import Services
from postwake_operate.access import Identity
from postwake_operate.check_milter import confinement, negotiate
from postwake_operate.check_web import Scrape

MILTERS = "{ unix:postwake/milter.sock, default_action=accept }"
Make = Callable[..., Any]


@pytest.fixture
def it(beside: Make) -> Any:
    """A Postfix with our milter in its configuration, everything in order but for the services, which do not run."""
    return beside(
        main={"smtpd_milters": MILTERS, "non_smtpd_milters": MILTERS, "enable_long_queue_ids": "yes"},
    )


@pytest.fixture
def listening(it: Any) -> Iterator[socket.socket]:
    """A socket where the milter's should be, mode and group right, nobody accepting."""
    it.socket.parent.mkdir()
    shutil.chown(it.socket.parent, group="postfix")
    it.socket.parent.chmod(0o750)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(it.socket))
        shutil.chown(it.socket, group="postfix")
        it.socket.chmod(0o660)
        listener.listen(8)
        yield listener


def test_configuration_missing(beside: Make) -> None:
    """Status 78, and nothing else is looked at."""
    it = beside(ready=False)
    done = it.run("check", "--json")
    assert done.returncode == 78
    assert "no such configuration file" in done.stdout


def test_configuration_wrong(it: Any) -> None:
    """Each problem by its key."""
    it.config.write_text('[milter]\nworkers = "two"\nspeed = 1\n')
    status, found, _ = it.check()["configuration"]
    assert status == "fail"
    assert "milter.workers" in found
    assert "milter.speed: unknown key" in found


def test_in_order_but_for_the_services(it: Any) -> None:
    """What does not depend on a service running is ok."""
    found = it.check()
    for name in (
        *("configuration", "keys", "store", "store integrity", "store permissions", "disk", "clock", "spool"),
        *("smtpd_milters", "non_smtpd_milters", "milter order", "default action", "queue IDs"),
    ):
        assert found[name][0] == "ok", (name, found[name])


def test_socket_gone(it: Any) -> None:
    """The milter does not run."""
    status, found, advice = it.check()["milter socket"]
    assert (status, "not there" in found) == ("fail", True)
    assert "systemctl status postwake-milter" in advice


def test_socket_left_over(it: Any, listening: socket.socket) -> None:
    """A file that nobody listens on any more."""
    listening.close()
    found = it.check()
    assert found["milter answers"][:2] == ("fail", f"{it.socket}: nobody listens there: the milter does not run")
    assert "milter for postfix" not in found  # modes are not what is in the way


def test_socket_served_by_something_else(it: Any, listening: socket.socket) -> None:
    """It answers, but is no milter."""

    def greet() -> None:
        with contextlib.suppress(OSError):
            while True:
                with listening.accept()[0] as connection, contextlib.suppress(ConnectionError):
                    connection.sendall(b"220 mail.example.com ESMTP Postfix\r\n")
                    connection.recv(100)

    thread = threading.Thread(target=greet)
    thread.start()
    try:
        assert "what answers there is no milter" in it.check()["milter answers"][1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_socket_that_does_not_answer(it: Any, listening: socket.socket) -> None:
    """A milter that hangs is not waited for for ever."""
    with pytest.raises(TimeoutError):
        negotiate(it.socket, patience_s=0.05)


@pytest.mark.parametrize(
    ("directory_mode", "socket_mode", "reached"), [(0o750, 0o660, "ok"), (0o700, 0o660, "fail"), (0o750, 0o600, "fail")]
)
@pytest.mark.usefixtures("listening")
def test_socket_modes(
    it: Any, monkeypatch: pytest.MonkeyPatch, directory_mode: int, socket_mode: int, reached: str
) -> None:
    """Postfix's own user tries it from within the queue directory; what is in its way is named with owner and mode."""
    monkeypatch.setattr("postwake_operate.check_milter.PATIENCE_S", 0.05)
    it.socket.parent.chmod(directory_mode)
    it.socket.chmod(socket_mode)
    status, found, _ = it.check()["milter for postfix"]
    assert status == reached
    if reached == "fail":
        assert "postfix cannot connect" in found
        assert "Permission denied" in found
        assert "root:postfix 0" in found


def test_socket_open_to_everybody(it: Any, listening: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may write to it can have links signed."""
    it.socket.chmod(0o666)
    monkeypatch.setattr("postwake_operate.check_milter.negotiate", lambda _path: 6)
    assert it.check()["milter socket"][0] == "warn"


@pytest.mark.parametrize(
    ("mode", "word"),
    [(0o644, "lets everyone read"), (0o660, "expected 0640 or less"), (None, "cannot read the signing keys")],
)
def test_keys(it: Any, mode: int | None, word: str) -> None:
    """Missing, readable by everyone, writable by the group."""
    keys = it.directory / "keys"
    keys.unlink() if mode is None else keys.chmod(mode)
    status, found, advice = it.check()["keys"]
    assert status == "fail"
    assert word in found
    assert ("restore" in advice) == (mode is None)  # a new key would not bring the links of sent mail back
    assert "chmod 0640" in advice or mode is None


def test_log_missing(it: Any) -> None:
    """No file where logparse.path points."""
    assert it.check()["log"][:2] == ("fail", f"{it.postfix.log}: not there")


def test_log_unreadable(it: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log parser's user may not read it: what is in the way is named with owner and mode."""
    reader = Identity("postwake-logparse", 64_321, frozenset({grp.getgrnam("adm").gr_gid}))
    monkeypatch.setattr("postwake_operate.access.service", lambda *_: reader)
    it.postfix.log.write_text("")
    it.postfix.log.chmod(0o600)
    status, found, advice = it.check()["log"]
    assert (status, found) == (
        "fail",
        f"postwake-logparse cannot read {it.postfix.log}: {it.postfix.log} is root:root 0600",
    )
    assert "logrotate" in advice
    shutil.chown(it.postfix.log, group="adm")
    it.postfix.log.chmod(0o640)
    assert it.check()["log"][0] == "ok"
    it.postfix.log.parent.chmod(0o700)
    assert f"{it.postfix.log.parent} is root:root 0700" in it.check()["log"][1]


def test_log_silent_while_mail_waits(it: Any) -> None:
    """Mail in the active queue is tried, and a try is logged: silence means another log."""
    it.postfix.log.write_text("")
    old = time.time() - 3600
    os.utime(it.postfix.log, (old, old))
    assert it.check()["log moves"][0] == "ok"
    active = it.postfix.queue / "active"
    active.mkdir(exist_ok=True)
    (active / "4F2A81B3C5").write_text("")
    status, found, _ = it.check()["log moves"]
    assert (status, found) == ("fail", "last written 60 min ago, with 1 messages in the queue")


def test_journal(it: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Followed instead of a file: who may read it, whether mail is in it, and whether it goes on while mail waits."""
    it.write_config(logparse='source = "journal"\n')
    tools = it.directory / "tools"
    tools.mkdir()
    tool = tools / "journalctl"
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)

    def journal_says(text: str) -> None:
        tool.write_text(f"#!/bin/sh\necho '{text}'\n")
        tool.chmod(0o755)

    journal_says("")
    assert it.check()["log"][:2] == ("fail", "the journal: nothing of mail in it")
    an_hour_ago_us = (int(time.time()) - 3600) * 1_000_000
    journal_says(f'{{"__REALTIME_TIMESTAMP": "{an_hour_ago_us}", "MESSAGE": "x"}}')
    found = it.check()
    assert found["log"][0] == found["log moves"][0] == "ok"
    active = it.postfix.queue / "active"
    active.mkdir(exist_ok=True)
    (active / "4F2A81B3C5").write_text("")
    assert it.check()["log moves"][0] == "fail"
    stranger = Identity("postwake-logparse", 64_321, frozenset({64_321}))
    monkeypatch.setattr("postwake_operate.access.service", lambda *_: stranger)
    status, said, advice = it.check()["log"]
    assert (status, "may not read the journal" in said) == ("fail", True)
    assert "usermod -aG systemd-journal postwake-logparse" in advice


def test_beside_exim(it: Any) -> None:
    """Where only Exim's log is followed nothing is asked of milter, keys and pixel server."""
    it.config.write_text(
        f'[store]\npath = "{it.store}"\nspool_dir = "{it.directory}/spool"\n'
        f'[logparse]\npath = "{it.postfix.log}"\nmta = "exim"\n'
    )
    it.postfix.log.write_text("")
    found = it.check()
    assert found["tracking"][0] == "skip"
    assert not {"keys", "milter socket", "pixel server", "smtpd_milters", "metrics milter"} & found.keys()
    assert found["log"][0] == found["store"][0] == "ok"


def execute(it: Any, sql: str, *values: Any) -> None:
    """Change the store behind our own back."""
    with contextlib.closing(sqlite3.connect(it.store)) as connection, connection:
        connection.execute(sql, values)


def test_clock_jumped(it: Any) -> None:
    """An event of tomorrow, and a log that is read as tomorrow's."""
    it.postfix.log.write_text("")
    tomorrow_us = (int(time.time()) + 86_400) * 1_000_000
    execute(it, "INSERT INTO event (at_us, type) VALUES (?, 1)", tomorrow_us)
    execute(it, "INSERT INTO cursor VALUES ('file', '{}', ?)", tomorrow_us)
    found = it.check()
    assert found["clock"][:2] == ("fail", "the newest event is 24 h in the future")
    assert "timedatectl" in found["clock"][2]
    assert found["log stamps"][:2] == ("fail", "the newest line read says 24 h from now")


def test_the_newest_line_read(it: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's cursors know its time to the hour, the log parser's metrics to the second."""
    it.postfix.log.write_text("")
    now_us = int(time.time()) * 1_000_000
    execute(it, "INSERT INTO cursor VALUES ('file', '{}', ?)", now_us // 3_600_000_000 * 3_600_000_000)
    assert it.check()["log stamps"][1].startswith("newest line read: up to ")
    known = Scrape("ok", values={"postwake_log_last_line_timestamp_seconds": now_us / 1e6 - 5})
    monkeypatch.setattr("postwake_operate.check_log.scrape", lambda _listener: known)
    assert it.check()["log stamps"][1] in ("newest line read: 5 s old", "newest line read: 6 s old")


def test_store_missing(it: Any) -> None:
    """With the command that makes one."""
    it.store.unlink()
    status, found, advice = it.check()["store"]
    assert status == "fail"
    assert "no store there" in found
    assert "postwake db migrate" in advice


def test_store_of_another_release(it: Any) -> None:
    """A newer schema is refused with a clear word."""
    execute(it, "PRAGMA user_version = 999")
    assert "schema version 999 is newer" in it.check()["store"][1]


def test_store_corrupt(it: Any) -> None:
    """Damaged pages are found, a file that is no database too; the other checks go on."""
    data = bytearray(it.store.read_bytes())
    data[4096 * 4 : 4096 * 8] = b"\xff" * 4096 * 4
    it.store.write_bytes(data)
    status, found, advice = it.check()["store integrity"]
    assert (status, "damaged" in found) == ("fail", True)
    assert "A damaged store" in advice
    it.store.write_bytes(b"not a database, whatever its name says. " * 500)
    found = it.check()
    assert found["store"][0] == found["store integrity"][0] == "fail"
    assert found["spool"][0] == "ok"


def test_disk_full(it: Any, beside: Make, make_disk: Callable[..., Path]) -> None:
    """Little room beside the store, on a real small disk."""
    disk = make_disk("2m", it.directory / "disk")
    shutil.copy(it.store, disk / "postwake.db")
    it.config.write_text(it.config.read_text().replace(str(it.store), str(disk / "postwake.db")))
    status, found, advice = it.check()["disk"]
    assert status == "fail"
    assert "expected 67.1 MB or more" in found
    assert "postwake db purge" in advice


def test_a_full_disk_is_no_damage(it: Any, make_disk: Callable[..., Path]) -> None:
    """SQLite cannot open a store without room for its log; nobody is told to restore a backup because of that."""
    disk = make_disk("2m", it.directory / "disk")
    shutil.copy(it.store, disk / "postwake.db")
    it.config.write_text(it.config.read_text().replace(str(it.store), str(disk / "postwake.db")))
    fill(disk)
    found = it.check()
    for name in ("store", "store integrity"):
        status, what, advice = found[name]
        assert status == "fail"
        assert "0 bytes are free on its disk" in what
        assert "damaged" not in what + advice
    for verb in (("db", "check"), ("report",)):
        done = it.run(*verb)
        assert done.returncode == 75
        assert "0 bytes are free on its disk" in done.stderr
        assert "damaged" not in done.stderr


def test_spool_waiting(it: Any) -> None:
    """Events that nobody replays, and lines that nobody can."""
    spool = it.directory / "spool"
    spool.mkdir()
    waiting = spool / "milter-1-1.spool"
    waiting.write_text("{}\n")
    assert it.check()["spool"][0] == "ok"
    old = time.time() - 3600
    os.utime(waiting, (old, old))
    assert it.check()["spool"][:2] == ("fail", "1 files, 3 bytes, the oldest waits for 60 min")
    (spool / "milter-1-1.bad").write_text("?\n")
    assert it.check()["spool"][0] == "warn"


def test_spool_that_services_cannot_write(it: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found before the store is locked and events are lost."""
    spool = it.directory / "spool"
    spool.mkdir(mode=0o755)
    stranger = Identity("postwake-milter", 64_321, frozenset({64_321}))
    monkeypatch.setattr("postwake_operate.access.service", lambda *_: stranger)
    status, found, advice = it.check()["spool"]
    assert (status, f"postwake-milter cannot write {spool}" in found) == ("fail", True)
    assert f"chgrp postwake {spool}" in advice


def test_backup(it: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """None asked for, none yet, one of last night, an old one, a directory that the nightly unit cannot write."""
    directory = it.directory / "backup"
    text = it.config.read_text()
    it.config.write_text(f"{text}[backup]\nkeep = 0\n")
    assert it.check()["backup"][0] == "skip"
    it.config.write_text(f'{text}[backup]\ndirectory = "{directory}"\n')
    assert "none yet" in it.check()["backup"][1]
    directory.mkdir(mode=0o700)
    made = directory / "postwake-20261125T221506Z.db"
    made.write_text("")
    assert it.check()["backup"][0] == "ok"
    os.utime(made, (time.time() - 3 * 86_400,) * 2)
    assert it.check()["backup"][:2] == ("warn", f"{directory}: the newest is 3 days old")
    stranger = Identity("postwake-logparse", 64_321, frozenset({64_321}))
    monkeypatch.setattr("postwake_operate.access.service", lambda *_: stranger)
    status, _, advice = it.check()["backup"]
    assert (status, f"chown postwake-logparse {directory}" in advice) == ("fail", True)


class Stranger(BaseHTTPRequestHandler):
    """Another program's web server."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"It works!")

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("number", [0, 1], ids=["pixel server", "metrics milter"])
def test_port_taken(it: Any, number: int) -> None:
    """Somebody else answers where a service of ours should."""
    name = ("pixel server", "metrics milter")[number]
    assert "Connection refused" in it.check()[name][1]
    server = HTTPServer(("127.0.0.1", it.ports[number]), Stranger)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        status, found, advice = it.check()[name]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert status == "fail"
    assert "somebody else answers there" in found
    assert "ss -ltnp" in advice


@pytest.mark.parametrize(
    ("main", "name", "word"),
    [
        ({"smtpd_milters": ""}, "smtpd_milters", "our milter is not in it"),
        ({"non_smtpd_milters": "inet:localhost:8891"}, "non_smtpd_milters", "sendmail(1) stays untracked"),
        ({"smtpd_milters": f"inet:localhost:8891, {MILTERS}"}, "milter order", "inet:localhost:8891 signs before"),
        ({"smtpd_milters": "unix:postwake/milter.sock"}, "default action", "tempfail: mail is refused"),
        ({"smtpd_milters": "{ unix:postwake/milter.sock"}, "smtpd_milters", "closing brace"),
        ({"enable_long_queue_ids": "no"}, "queue IDs", "short"),
    ],
)
def test_postfix_configuration(beside: Make, main: dict[str, str], name: str, word: str) -> None:
    """Each thing that can be wrong in main.cf."""
    good = {"smtpd_milters": MILTERS, "non_smtpd_milters": MILTERS, "enable_long_queue_ids": "yes"}
    status, found, advice = beside(main={**good, **main}).check()[name]
    assert status in ("fail", "warn")
    assert word in found
    assert advice


def test_postfix_stopped_and_running(it: Any, beside: Make) -> None:
    """Each instance is said to run or not; how to start it is named with its own configuration directory."""
    status, found, advice = it.check()["postfix"]
    assert status == "fail"
    assert found == f"{it.postfix.config}: master does not run: no mail is taken or delivered"
    assert f"postfix -c {it.postfix.config} start" in advice
    other = beside(name="other")
    it.postfix.start()
    assert it.check()["postfix"] == ("ok", f"{it.postfix.config}: master runs", "")
    assert "mail system is" not in it.postfix.log.read_text(), "looking at it writes nothing into its log"
    assert other.check()["postfix"][0] == "fail"
    it.postfix.stop()
    assert it.check()["postfix"][0] == "fail"


def test_whether_postfix_runs_is_for_root_to_know(it: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not ask says so, and does not call it stopped."""
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    status, found, _ = it.check()["postfix"]
    assert (status, found) == ("skip", f"{it.postfix.config}: only root is told whether it runs")


def test_confinement(tmp_path: Path) -> None:
    """SELinux and AppArmor are named where they are in force, with how to look."""
    assert list(confinement(tmp_path)) == []
    (tmp_path / "fs/selinux").mkdir(parents=True)
    (tmp_path / "fs/selinux/enforce").write_text("1")
    (tmp_path / "kernel/security/apparmor").mkdir(parents=True)
    (tmp_path / "kernel/security/apparmor/profiles").write_text(
        "/usr/lib/postfix/sbin/smtpd (enforce)\nother (enforce)\n"
    )
    assert [(item.name, item.status) for item in confinement(tmp_path)] == [("selinux", "warn"), ("apparmor", "warn")]


def test_everything_runs(it: Any, directory: Path) -> None:
    """With the services running nothing fails and the exit status is 0."""
    services = Services(
        directory / "services", it.postfix.log, it.socket, it.ports[0], (it.ports[1], it.ports[2], it.ports[3])
    )
    it.config = services.config
    it.postfix.log.write_text("")
    try:
        services.start()
        it.postfix.start()
        found = it.check()
    finally:
        services.close()
    assert {name: item for name, item in found.items() if item[0] in ("fail", "warn")} == {}
    assert found["milter answers"] == ("ok", "milter protocol version 6", "")
    assert found["metrics milter"][0] == found["pixel server"][0] == found["log parser"][0] == "ok"


def test_table_for_people(it: Any) -> None:
    """One line a finding, the advice below it, nothing that moves the cursor."""
    it.config.write_text(it.config.read_text().replace('keys"', 'keys\\u001b[31m"'))
    done = it.run("check", "--offline")
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert any(line.startswith("fail  keys") for line in lines)
    assert any(line.lstrip().startswith("→ restore") for line in lines)
