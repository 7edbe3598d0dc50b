"""For the store's tests: a second process that does something to the same store."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

# Sits on the write lock until its standard input is closed.
_SITTER = """
import fcntl, os, sqlite3, sys
path, polite = sys.argv[1], sys.argv[2] == "polite"
if polite:
    lock = os.open(path + "-lock", os.O_RDWR | os.O_CREAT, 0o660)
    fcntl.flock(lock, fcntl.LOCK_EX)
connection = sqlite3.connect(path, isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("INSERT INTO meta VALUES ('sitter', '1')")
print("locked", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
print("let go", flush=True)
"""


class Sitter:
    """Another process that holds the store's write lock."""

    def __init__(self, path: Any, *, polite: bool) -> None:
        command = [sys.executable, "-c", _SITTER, str(path), "polite" if polite else "rude"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "locked\n"

    def let_go(self) -> None:
        """Return when the lock is free."""
        if self._process.poll() is None:
            self._process.communicate(timeout=20)

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def sit_on() -> Iterator[Callable[..., Sitter]]:
    """Have another process hold a store's write lock."""
    sitters = []

    def start(path: Any, *, polite: bool = True) -> Sitter:
        sitters.append(Sitter(path, polite=polite))
        return sitters[-1]

    yield start
    for sitter in sitters:
        sitter.kill()
