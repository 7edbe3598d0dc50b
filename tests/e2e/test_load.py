"""Thousands of messages at twenty sessions, and daemons killed in the middle of them."""

from __future__ import annotations

import json
import smtplib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from postwake_lab import mails
from postwake_lab.reader import fetch, tracked_urls
from postwake_lab.services import children
from postwake_lab.world import World

SESSIONS = 20


def flood(world: World, count: int, *, refused: list[str] | None = None) -> threading.Thread:
    """Send *count* newsletters over twenty sessions from a thread; join it to know that all were accepted."""
    numbers = iter(range(count))
    lock = threading.Lock()
    failures: list[str] = [] if refused is None else refused

    def session() -> None:
        with smtplib.SMTP("127.0.0.1", world.postfix.port, local_hostname="client.test", timeout=120) as client:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                recipient = f"r{number}@accept.test"
                try:
                    client.sendmail("news@example.com", [recipient], mails.newsletter(number, recipient))
                except smtplib.SMTPException as error:
                    failures.append(f"{recipient}: {error}")

    def everybody() -> None:
        sessions = [threading.Thread(target=session) for _ in range(SESSIONS)]
        for thread in sessions:
            thread.start()
        for thread in sessions:
            thread.join()

    thread = threading.Thread(target=everybody)
    thread.start()
    return thread


def resident_kb(pid: int) -> int:
    """Return the resident memory of a process and its children."""
    total = 0
    for process in (pid, *children(pid)):
        fields = Path(f"/proc/{process}/status").read_text().split("VmRSS:")[1].split()
        total += int(fields[0])
    return total


@pytest.mark.slow
def test_5000_messages_at_20_sessions(
    make_world: Callable[..., World], ask: Callable[..., list[tuple[Any, ...]]]
) -> None:
    """All are delivered, each with one message and one sent delivery; no daemon restarts; memory stays flat."""
    world = make_world("milter", "logparse", keep_mail=False)
    milter = world.services.process("milter")
    workers = children(milter.pid)
    refused: list[str] = []

    flood(world, 1000, refused=refused).join()
    warm_kb = resident_kb(milter.pid)
    flood(world, 4000, refused=refused).join()
    world.services.settle("SELECT count(*) FROM delivery WHERE state = 1", 5000, 120)

    assert refused == []
    assert ask(world, "SELECT count(*), sum(tracked) FROM messages") == [(5000, 5000)]
    assert ask(world, "SELECT count(*), count(DISTINCT message) FROM delivery") == [(5000, 5000)]
    assert milter.poll() is None
    assert children(milter.pid) == workers
    assert resident_kb(milter.pid) < warm_kb * 1.25


@pytest.mark.slow
def test_daemons_killed_under_load(make_world: Callable[..., World], ask: Callable[..., list[tuple[Any, ...]]]) -> None:
    """Each daemon killed under load: Postfix refuses nothing, states are complete and single, answered hits stored."""
    world = make_world()
    services = world.services
    answered: set[str] = set()
    refused: list[str] = []
    stop = threading.Event()

    def read_along() -> None:
        seen: set[Path] = set()
        while not stop.is_set():
            for path in list(world.sinks["accept.test"].directory.iterdir()):
                if path in seen or not path.read_bytes().endswith(b"\n\n"):
                    continue
                seen.add(path)
                for pixel in tracked_urls(path.read_bytes().partition(b"\n")[2])[0]:
                    try:
                        if fetch(pixel, timeout_s=5)[0] == 200:
                            answered.add(pixel.rpartition("/")[2])
                    except OSError:
                        pass  # not answered: the server is away
                break
            time.sleep(0.002)

    reader = threading.Thread(target=read_along)
    reader.start()
    load = flood(world, 1500, refused=refused)
    for name in ("milter", "logparse", "pixelserver"):
        time.sleep(1)
        services.kill(name)
        time.sleep(0.5)
        services.start(name)
    load.join()
    try:
        assert refused == []
        world.services.settle("SELECT count(*) FROM delivery WHERE state IN (1, 3)", 1500, 60)
    finally:
        stop.set()
        reader.join()

    # A Postfix before August 2026 that loses its milter between body edit and verdict commits a damaged queue file,
    # says so, and moves it to its queue "corrupt": one of the mails in hand, now and then. The store says it too.
    damaged = ask(world, "SELECT reply FROM deliveries WHERE state = 'bounced'")
    assert set(damaged) <= {("unreadable mail queue entry",)}
    assert len(damaged) <= SESSIONS
    assert len(list((world.postfix.queue / "corrupt").iterdir())) == len(damaged)
    sent = 1500 - len(damaged)
    assert len(world.delivered()) == sent
    assert ask(world, "SELECT count(*), count(DISTINCT recipient) FROM deliveries") == [(1500, 1500)]
    assert ask(world, "SELECT count(*) FROM event WHERE type = 3") == [(sent,)]
    stored = ask(world, "SELECT count(*) FROM event WHERE type = 7")[0][0]
    assert answered
    assert stored >= len(answered)
    report = json.loads(services.command("report", "--json"))
    assert report["states"]["sent"] == sent
    assert sum(report["states"].values()) == 1500
