"""What all tests share: where the corpora are, and what a run was made with."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import lxml.etree
import pytest

from postwake_lab.disks import small_disk


def pytest_report_header() -> str:
    """Say the versions that results depend on."""
    libxml2 = ".".join(map(str, lxml.etree.LIBXML_VERSION))
    return f"sqlite {sqlite3.sqlite_version}, libxml2 {libxml2}"


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of real mails and logs to measure against; skips where there is none."""
    path = Path(os.environ.get("POSTWAKE_CORPORA", Path(__file__).parents[1] / "../shared/corpora"))
    if not path.is_dir():
        pytest.skip(f"no corpora at {path}: set POSTWAKE_CORPORA")
    return path


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Make a small file system of a given size, such as ``2m``; skips where that cannot be done."""
    with contextlib.ExitStack() as made:

        def make(size: str, path: Path = tmp_path / "disk") -> Path:
            if not made.enter_context(small_disk(path, size)):
                pytest.skip("a small tmpfs can only be mounted by root outside of a sandbox")
            return path

        yield make
