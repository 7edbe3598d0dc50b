"""Checks of the MTA's log: found, readable by the log parser, moving, understood, not far behind."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from postwake.config import Config
from postwake.errors import PostwakeError
from postwake.store.connection import open_reader
from postwake_operate import access
from postwake_operate.check_web import Scrape, scrape
from postwake_operate.finding import Finding, duration, fail, ok, size, skip, warn
from postwake_operate.postfix import Postfix

MOVING_WITHIN_S = 900
"""Mail in the active queue is being tried: each try writes a line."""
RETRIED_WITHIN_S = 7200
"""Deferred mail is tried again after maximal_backoff_time, 4000 s unless changed."""
FUTURE_US = 120_000_000
HOUR_US = 3_600_000_000
BEHIND_US = HOUR_US
LAG_BYTES = 50_000_000


def check(config: Config, postfix: Postfix | None, now_us: int) -> Iterator[Finding]:
    """Yield what is found."""
    metrics = scrape(config.metrics.logparse)
    if config.logparse.source == "file":
        path = config.logparse.path
        yield from _file(path, postfix, now_us)
    elif config.logparse.source == "journal":
        yield from _journal(config, postfix, now_us)
    else:
        listen = config.logparse.listen
        if listen.is_socket():
            yield ok("log", f"syslog socket {listen}")
        else:
            yield fail("log", f"{listen}: no socket there", "systemctl status postwake-logparse")
    yield _stamps(config, metrics, now_us)
    yield _lag(metrics)


def _file(path: Path, postfix: Postfix | None, now_us: int) -> Iterator[Finding]:
    advice = "logparse.path: where does the MTA log? (postconf maillog_file; rsyslog's mail.*; Exim: log_file_path)"
    try:
        info = path.stat()
    except FileNotFoundError:
        yield fail("log", f"{path}: not there", advice)
        return
    except OSError as error:
        yield fail("log", f"{path}: {error.strerror}", advice)
        return
    who = access.service("postwake-logparse", "adm", "systemd-journal")
    obstacle = who.first_obstacle(path, access.READ)
    if obstacle is not None:
        found = f"{who.name} cannot read {path}: {obstacle} is {access.describe(obstacle)}"
        yield fail("log", found, f"chgrp adm {path}; chmod 0640 {path}; the same in logrotate's `create` line")
        return
    yield ok("log", f"{path}: {access.describe(path)}, {size(info.st_size)}")
    yield _moves(max(0.0, now_us / 1e6 - info.st_mtime), postfix, advice)


def _journal(config: Config, postfix: Postfix | None, now_us: int) -> Iterator[Finding]:
    if shutil.which("journalctl") is None:
        yield fail("log", "journalctl is not installed", 'logparse.source = "file" and logparse.path')
        return
    who = access.service("postwake-logparse", "adm", "systemd-journal")
    if who.uid and not who.is_in("adm", "systemd-journal"):
        advice = f"usermod -aG systemd-journal {who.name}; systemctl restart postwake-logparse"
        yield fail("log", f"{who.name} may not read the journal: neither in systemd-journal nor in adm", advice)
        return
    wanted = [f"SYSLOG_IDENTIFIER={name}" for name in config.logparse.journal_identifiers] or ["SYSLOG_FACILITY=2"]
    command = ["journalctl", "--quiet", "--lines=1", "--output=json", "--output-fields=MESSAGE", *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    advice = "does the MTA log to a file? logparse.source, logparse.path; logparse.journal_identifiers: its names"
    try:
        newest_us = int(json.loads(done.stdout.splitlines()[-1])["__REALTIME_TIMESTAMP"])
    except (IndexError, KeyError, ValueError):
        found = done.stderr.strip() or "nothing of mail in it"
        yield fail("log", f"the journal: {found}", advice)
        return
    yield ok("log", f"the journal: {' '.join(wanted)}")
    yield _moves(max(0.0, (now_us - newest_us) / 1e6), postfix, advice)


def _moves(silent_s: float, postfix: Postfix | None, advice: str) -> Finding:
    """Return whether there is something in the log while mail waits that must be tried."""
    queued = {} if postfix is None else postfix.queued()
    moving = sum(queued.get(name, 0) for name in ("maildrop", "incoming", "active"))
    waiting = queued.get("deferred", 0)
    if (moving and silent_s > MOVING_WITHIN_S) or (waiting and silent_s > RETRIED_WITHIN_S):
        found = f"last written {duration(silent_s)} ago, with {moving + waiting} messages in the queue"
        advice = "does Postfix log elsewhere now, or does it not run? `postfix status`; " + advice
        return fail("log moves", found, advice)
    return ok("log moves", f"last written {duration(silent_s)} ago")


def _stamps(config: Config, metrics: Scrape, now_us: int) -> Finding:
    name = "log stamps"
    try:
        with closing(open_reader(config.store.path)) as connection:
            rows = connection.execute("SELECT source, at_us FROM cursor ORDER BY source").fetchall()
    except (PostwakeError, sqlite3.DatabaseError):
        return skip(name, "the store cannot be read")
    # The cursors' times are good to the hour only; a log parser that has read since its start knows the line's own.
    read_us = int(metrics.values.get("postwake_log_last_line_timestamp_seconds", 0) * 1e6)
    newest = max((read_us, *(row[1] for row in rows)))
    if not newest:
        return skip(name, "nothing of the log has been read yet")
    if newest > now_us + FUTURE_US:
        ahead = duration((newest - now_us) / 1e6)
        advice = "logparse.timezone names the zone of stamps without one; or this machine's clock was wrong"
        return fail(name, f"the newest line read says {ahead} from now", advice)
    if config.logparse.source == "file" and config.logparse.path.exists():
        written_us = int(config.logparse.path.stat().st_mtime * 1e6)
        if written_us - newest > BEHIND_US and now_us - written_us < BEHIND_US:
            behind = duration((written_us - newest) / 1e6)
            advice = "is the log parser running and keeping up? else its zone is wrong: logparse.timezone"
            return warn(name, f"the newest line read says {behind} before the file was written", advice)
    upto = "" if newest % HOUR_US else "up to "
    return ok(name, f"newest line read: {upto}{duration(max(0, now_us - newest) / 1e6)} old")


def _lag(metrics: Scrape) -> Finding:
    name = "log parser"
    if metrics.state == "off":
        return skip(name, "metrics.logparse is empty: its lag cannot be asked for")
    if metrics.state != "ok":
        return fail(name, f"its metrics listener: {metrics.found}", "systemctl status postwake-logparse")
    lag = metrics.values.get("postwake_log_lag_bytes", 0.0)
    lines = {key: value for key, value in metrics.values.items() if key.startswith("postwake_log_lines_total{")}
    unparsed = sum(value for key, value in lines.items() if 'result="unparsed"' in key)
    if metrics.values.get("postwake_log_read_errors_total", 0):
        return warn(name, "it met errors reading the log", "journalctl -u postwake-logparse says which")
    if lag > LAG_BYTES:
        return warn(name, f"{size(lag)} of the log are not read yet", "it may be catching up: look again in a minute")
    if unparsed > 100 and unparsed > 0.05 * sum(lines.values()):
        advice = "is it the right log and logparse.mta? `postwake parse-log --stats FILE` shows the shapes"
        return warn(name, f"{unparsed:.0f} of {sum(lines.values()):.0f} lines were not understood", advice)
    return ok(name, f"{size(lag)} behind")
