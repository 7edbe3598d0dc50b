"""A test message through the MTA, and what the store says became of it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from email.utils import formatdate
from pathlib import Path
from typing import Any

from postwake.errors import UnavailableError
from postwake.store import queries
from postwake.store.connection import open_reader
from postwake_operate.postfix import Postfix

PATIENCE_S = 20.0
_SETTLED = frozenset({"sent", "bounced", "expired", "deferred"})


def send(postfix: Postfix, sender: str, recipient: str, token: str) -> str:
    """Submit a small HTML mail as a local program does; return its Message-ID. *token* makes it unique."""
    message_id = f"postwake-setup-{token}@{sender.rpartition('@')[2]}"
    text = (
        f"From: {sender}\nTo: {recipient}\nSubject: Postwake test\nDate: {formatdate()}\nMessage-ID: <{message_id}>\n"
        "MIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\n\n"
        '<html><body><p>A test by <a href="https://www.postfix.org/">postwake setup</a>.</p></body></html>\n'
    )
    done = subprocess.run(
        postfix.command("sendmail", "-i", "-f", sender, "--", recipient),
        input=text.encode(),
        capture_output=True,
        check=False,
        env={"MAIL_CONFIG": str(postfix.config), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    if done.returncode:
        raise UnavailableError(f"sendmail: {done.stderr.decode(errors='replace').strip()}")
    return message_id


def watch(
    store: Path,
    message_id: str,
    *,
    patience_s: float = PATIENCE_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Return what the store knows of the message as soon as its delivery has been tried, or when patience ends.

    Keys: ``seen`` (by the milter), ``tracked``, ``untracked_reason``, ``states`` (recipient → state), ``logged`` (the
    log parser has read of it).
    """
    deadline = clock() + patience_s
    while True:
        found = _look(store, message_id)
        if (found["logged"] and set(found["states"].values()) & _SETTLED) or clock() > deadline:
            return found
        sleep(0.25)


def _look(store: Path, message_id: str) -> dict[str, Any]:
    found: dict[str, Any] = {"seen": False, "tracked": False, "untracked_reason": "", "states": {}, "logged": False}
    with closing(open_reader(store)) as connection:
        for number in queries.find_messages(connection, message_id, 1):
            about = queries.message(connection, number)
            deliveries = queries.deliveries(connection, number)
            found |= {
                "seen": bool(about["tracking_id"]),
                "tracked": about["tracked"],
                "untracked_reason": about["untracked_reason"] or "",
                "states": {row["recipient"]: row["state"] for row in deliveries},
                "logged": any(row["attempts"] for row in deliveries),
            }
    return found


def describe(found: dict[str, Any]) -> list[str]:
    """Return *found* as sentences, with what to do where something is missing."""
    if not found["seen"] and not found["logged"]:
        return ["The test message was seen neither by the milter nor in the log: `postwake check` says more."]
    said = []
    if not found["seen"]:
        said.append("The milter did not see the test message: is it running? `postwake check` says more.")
    elif found["tracked"]:
        said.append("The milter saw the test message and put pixel and links in.")
    else:
        said.append(
            f"The milter saw the test message and left it as it was: {found['untracked_reason'] or 'no reason given'}."
        )
    if found["logged"]:
        states = ", ".join(f"{recipient} {state}" for recipient, state in found["states"].items())
        said.append(f"The log says: {states}.")
    else:
        said.append(
            "Its delivery has not been read in the log yet: is the log parser running, and is it the right log?"
        )
    return said
