"""The unsubscribe page in a real browser."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from postwake.tokens import Purpose

CHROMIUM = shutil.which("chromium")
FLAGS = """
--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --window-size=480,800
""".split()  # noqa: SIM905 - as one types them
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


def browse(profile: Path, url: str, *options: str) -> str:
    """Return what Chromium prints."""
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", *options, url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.slow
def test_page_is_rendered(server, tmp_path: Path) -> None:
    """The page (which has no script, and whose policy allows none) is drawn, and nobody is unsubscribed by that."""
    before = server.rows("SELECT count(*) FROM event")
    url = f"http://127.0.0.1:{server.port}/u/{server.token(Purpose.UNSUBSCRIBE)}"
    picture = tmp_path / "page.png"
    browse(tmp_path / "profile", url, f"--screenshot={picture}")
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) > 5000, "an empty page"
    assert server.rows("SELECT count(*) FROM event") == before


@pytest.mark.slow
def test_page_as_the_browser_understands_it(server, tmp_path: Path) -> None:
    """The parsed document has a language, a heading, and one form whose only control is a submit button."""
    url = f"http://127.0.0.1:{server.port}/u/{server.token(Purpose.UNSUBSCRIBE)}"
    document = browse(tmp_path / "profile", url, "--dump-dom", "--lang=en")
    assert '<html lang="' in document
    assert document.count("<form") == 1
    assert document.count("<button") == 1
    assert 'method="post"' in document
    assert "<script" not in document
    assert "tabindex" not in document
