"""Real worlds for the end-to-end tests: a private Postfix, sinks, every service."""

from __future__ import annotations

import os
import shutil
import smtplib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from postwake.store.connection import open_reader
from postwake_lab.world import World


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here, and say why it cannot run where it cannot."""
    missing = [name for name in ("postfix", "smtp-sink") if shutil.which(name, path="/usr/sbin:/usr/bin") is None]
    reason = f"not installed: {', '.join(missing)}" if missing else "needs root" if os.geteuid() else ""
    for item in items:
        if "e2e" in Path(item.path).parts:
            item.add_marker(pytest.mark.mta)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that Postfix's own user may enter, which pytest's are not."""
    path = Path(tempfile.mkdtemp(prefix="postwake-test-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def make_world(directory: Path) -> Iterator[Callable[..., World]]:
    """Make worlds that are stopped at the end; the services' own log is shown when a test fails."""
    worlds: list[World] = []

    def make(*services: str, domains: dict[str, Any] | None = None, **options: Any) -> World:
        world = World(
            directory / str(len(worlds)) if worlds else directory, domains or {"accept.test": "accept"}, **options
        )
        worlds.append(world)
        world.start(*services)
        return world

    yield make
    for world in worlds:
        world.stop()
        print((world.services.directory / "services.log").read_text(errors="replace")[-4000:])


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """One accepting sink, every service."""
    return make_world()


@pytest.fixture
def send() -> Callable[..., None]:
    """Send messages to a world's Postfix over SMTP in one session."""

    def send_all(world: World, *mails: tuple[bytes, list[str]], sender: str = "news@example.com", **helo: Any) -> None:
        with smtplib.SMTP("127.0.0.1", world.postfix.port, local_hostname="client.test") as client:
            for message, recipients in mails:
                client.sendmail(sender, recipients, message)

    return send_all


@pytest.fixture
def ask() -> Callable[[World, str], list[tuple[Any, ...]]]:
    """Run a query on a world's store."""

    def run(world: World, query: str) -> list[tuple[Any, ...]]:
        with closing(open_reader(world.services.directory / "postwake.db")) as connection:
            return [tuple(row) for row in connection.execute(query)]

    return run
