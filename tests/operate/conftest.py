"""For the operator's tests: private Postfix instances and a configuration beside each."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from postwake.keyfile import add_key
from postwake.store.connection import migrate_file
from postwake_cli.main import main
from postwake_lab.ports import free_ports
from postwake_lab.postfix import Postfix


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a real Postfix, and say why it cannot run where it cannot."""
    reason = "needs root" if os.geteuid() else ""
    if shutil.which("postfix", path="/usr/sbin:/usr/bin") is None:
        reason = "not installed: postfix"
    for item in items:
        if "beside" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.mta)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that Postfix's own user may enter, which pytest's are not."""
    path = Path(tempfile.mkdtemp(prefix="postwake-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@dataclass
class Beside:
    """A Postfix (not running) with everything of ours in one directory beside it."""

    directory: Path
    postfix: Postfix
    config: Path
    ports: list[int] = field(default_factory=list)

    @property
    def main_cf(self) -> Path:
        """Return main.cf."""
        return self.postfix.config / "main.cf"

    @property
    def socket(self) -> Path:
        """Return where the milter's socket belongs."""
        return self.postfix.queue / "postwake" / "milter.sock"

    @property
    def store(self) -> Path:
        """Return the store."""
        return self.directory / "postwake.db"

    def write_config(self, **sections: str) -> None:
        """Write the configuration; further lines by section."""
        texts: dict[str, str] = {
            "store": f'path = "{self.store}"\nspool_dir = "{self.directory}/spool"\n',
            "tracking": 'url = "http://127.0.0.1:1"\nsender_domains = ["example.com"]\n'
            + f'keys = "{self.directory}/keys"\n',
            "milter": f'socket = "{self.socket}"\nsocket_group = "postfix"\n',
            "logparse": f'path = "{self.postfix.log}"\n',
            "pixelserver": f'listen = "127.0.0.1:{self.ports[0]}"\n',
            "metrics": "".join(
                f'{name} = "127.0.0.1:{port}"\n'
                for name, port in zip(("milter", "logparse", "pixelserver"), self.ports[1:], strict=True)
            ),
        }
        for name, text in sections.items():
            texts[name] = texts.get(name, "") + text
        self.config.write_text("".join(f"[{name}]\n{text}" for name, text in texts.items()))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command with our configuration and this Postfix."""
        # Postfix's programs wait until a main.cf is some seconds old, so as not to read one that is being written.
        os.utime(self.main_cf, (1_700_000_000, 1_700_000_000))
        line = ["--config", str(self.config), *arguments]
        if arguments[0] in ("setup", "check"):
            line += ["--postfix-config", str(self.postfix.config)]
        if arguments[0] == "setup":
            line += ["--state-dir", str(self.directory / "state"), "--no-services"]
        output, errors, status = io.StringIO(), io.StringIO(), 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["postwake", *line])
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
                try:
                    main()
                except SystemExit as end:
                    status = end.code if isinstance(end.code, int) else 0
        return subprocess.CompletedProcess(line, status, output.getvalue(), errors.getvalue())

    def check(self, *arguments: str) -> dict[str, tuple[str, str, str]]:
        """Run the checks; return status, what was found and the advice by name."""
        done = self.run("check", "--json", "--offline", *arguments)
        assert done.returncode in (0, 1, 78), done.stderr
        findings = json.loads(done.stdout)
        worst = {finding["status"] for finding in findings}
        if done.returncode != 78:
            assert done.returncode == int(bool(worst & {"warn", "fail"}))
        return {item["name"]: (item["status"], item["found"], item["advice"]) for item in reversed(findings)}


@pytest.fixture
def beside(directory: Path) -> Iterator[Callable[..., Beside]]:
    """Make a Postfix with our configuration, keys and store beside it; options as the lab has them."""
    made: list[Beside] = []

    def make(*, ready: bool = True, name: str = "postfix", **options: Any) -> Beside:
        port, *ports = free_ports(5)
        found = Beside(directory, Postfix(directory / name, port, **options), directory / "postwake.toml", ports)
        if ready:
            found.write_config()
            add_key(directory / "keys", "2026-01-01T00:00:00Z")
            migrate_file(found.store)
        made.append(found)
        return found

    yield make
    for item in made:
        item.postfix.stop()
