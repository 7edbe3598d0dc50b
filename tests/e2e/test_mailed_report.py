"""The mailed report through a real Postfix: queued by its sendmail(1), delivered, and not tracked itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from email import message_from_bytes, policy
from pathlib import Path

from postwake_lab import mails
from postwake_lab.world import World


def test_the_report_arrives(
    world: World, send: Callable[..., None], ask: Callable[..., list[tuple[object, ...]]], directory: Path
) -> None:
    """`postwake report --mail` reaches its reader with both forms, and the milter left it as it was."""
    send(world, (mails.newsletter(1, "ada@accept.test"), ["ada@accept.test"]))
    world.services.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 1)
    sendmail = directory / "sendmail"
    config = world.postfix.config
    sendmail.write_text(f'#!/bin/sh\nMAIL_CONFIG={config} exec /usr/sbin/sendmail -C {config} "$@"\n')
    sendmail.chmod(0o755)
    text = world.services.config.read_text()
    text += f'[report]\nto = ["root@accept.test"]\nsender = "postwake@example.com"\nsendmail = "{sendmail}"\n'
    world.services.config.write_text(text)

    command = [sys.executable, "-m", "postwake_cli", "--config", str(world.services.config)]
    done = subprocess.run([*command, "report", "--since", "1d", "--mail"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    world.services.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 2)

    report = message_from_bytes(world.delivered()[1].message, policy=policy.default)
    assert report["Auto-Submitted"] == "auto-generated"
    assert "1 recipients" in report["Subject"]
    assert [part.get_content_type() for part in report.walk() if not part.is_multipart()] == [
        "text/plain", "text/html", "text/html",
    ]  # fmt: skip
    html = report.get_body(("html",))
    assert html is not None
    assert "track.example" not in html.get_content()
    assert ask(world, "SELECT tracked, untracked_reason FROM messages ORDER BY id") == [
        (1, None),
        (0, "auto-generated"),
    ]
