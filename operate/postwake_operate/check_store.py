"""Checks of the store, its disk and the spool."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from postwake.config import Config
from postwake.errors import ConfigError, PostwakeError
from postwake.store.connection import open_reader
from postwake.store.maintenance import check_integrity
from postwake_operate import access
from postwake_operate.finding import Finding, duration, fail, ok, size, skip, warn

QUICK_CHECK_BYTES = 2_000_000_000
"""A larger store is left to the nightly check: reading it all takes minutes."""
LEAST_FREE_BYTES = 64 << 20
"""Less than the write-ahead log may grow to between two checkpoints."""
WAL_BYTES = 256 << 20
SPOOL_AGE_S = 600
MAINTENANCE_USER = "postwake-logparse"
"""Whom the maintenance unit runs as."""
BACKUP_AGE_S = 2 * 86_400
"""One is made every night."""
FUTURE_US = 120_000_000
"""A mail server's clock may be corrected by seconds; two minutes ahead of the present is another matter."""


def check(config: Config, now_us: int) -> Iterator[Finding]:
    """Yield what is found."""
    path = config.store.path
    usable = True
    try:
        open_reader(path).close()
        yield ok("store", f"{path}: opens, schema as expected")
    except ConfigError as error:
        usable = False
        yield fail("store", str(error), "`postwake db migrate` for an older schema; the newer release for a newer one")
    except PostwakeError as error:
        usable = False
        advice = "`postwake db migrate` makes a store; one that is there: see what is found of its disk and integrity"
        yield fail("store", str(error), advice)
    if path.exists():
        yield _integrity(path)
        yield _writable(path)
    if path.parent.is_dir():
        yield _disk(path)
    yield _wal(path)
    if usable:
        yield _clock(path, now_us)
    yield _spool(config.store.spool_dir, now_us)
    yield _backup(config, now_us)


def _integrity(path: Path) -> Finding:
    n = path.stat().st_size
    if n > QUICK_CHECK_BYTES:
        return skip("store integrity", f"{size(n)}: left to `postwake db check`, which the maintenance timer runs")
    try:
        problems = check_integrity(path, quick=True)
    except PostwakeError as error:
        return fail("store integrity", str(error), "nothing is known of the file: mend what is in the way first")
    if problems:
        advice = "restore a backup or rebuild: docs/operations.md, “A damaged store”"
        return fail("store integrity", f"{path}: damaged: {problems[0]}", advice)
    return ok("store integrity", f"quick check of {size(n)}")


def _obstacle(target: Path, *names: str) -> str:
    """Return which of these services cannot write *target*, and why; empty if all can."""
    wanted = access.WRITE | access.READ | (access.ENTER if target.is_dir() else 0)
    for name in names:
        who = access.service(name)
        obstacle = who.first_obstacle(target, wanted)
        if obstacle is not None:
            return f"{who.name} cannot write {target}: {obstacle} is {access.describe(obstacle)}"
    return ""


def _writable(path: Path) -> Finding:
    for target in (path.parent, path):
        found = _obstacle(target, "postwake-milter", "postwake-logparse", "postwake-pixelserver")
        if found:
            advice = f"chgrp postwake {path.parent} {path}; chmod 2770 {path.parent}; chmod 0660 {path}"
            return fail("store permissions", found, advice)
    if path.stat().st_mode & 0o007:
        return warn(
            "store permissions",
            f"{path}: {access.describe(path)}: everybody may read it",
            f"chmod 0660 {path}: it holds addresses",
        )
    return ok("store permissions", f"{access.describe(path.parent)}, {access.describe(path)}")


def _disk(path: Path) -> Finding:
    free = shutil.disk_usage(path.parent).free
    wanted = max(LEAST_FREE_BYTES, path.stat().st_size // 5 if path.exists() else 0)
    found = f"{size(free)} free beside {path}"
    advice = "make room, or keep less: [retention] and `postwake db purge`; meanwhile events wait in the spool"
    if free < LEAST_FREE_BYTES:
        return fail("disk", f"{found}: expected {size(wanted)} or more", advice)
    if free < wanted:
        return warn("disk", f"{found}: less than a fifth of the store: expected {size(wanted)}", advice)
    return ok("disk", found)


def _wal(path: Path) -> Finding:
    wal = path.with_name(path.name + "-wal")
    n = wal.stat().st_size if wal.exists() else 0
    if n > WAL_BYTES:
        advice = "somebody has been reading for long (a shell, Datasette): end it, then `postwake db checkpoint`"
        return warn("write-ahead log", f"{wal}: {size(n)}: expected less than {size(WAL_BYTES)}", advice)
    return ok("write-ahead log", size(n))


def _clock(path: Path, now_us: int) -> Finding:
    try:
        with closing(open_reader(path)) as connection:
            newest = connection.execute(
                "SELECT max(at_us) FROM (SELECT at_us FROM event ORDER BY id DESC LIMIT 1000)"
            ).fetchone()[0]
    except (sqlite3.DatabaseError, PostwakeError) as error:
        return skip("clock", f"{path}: {error}")
    if newest is not None and newest > now_us + FUTURE_US:
        ahead = duration((newest - now_us) / 1e6)
        advice = "did this machine's clock jump (`timedatectl`)? does the log name another zone (logparse.timezone)?"
        return fail("clock", f"the newest event is {ahead} in the future", advice)
    return ok("clock", "no event in the future")


def _backup(config: Config, now_us: int) -> Finding:
    directory = config.backup.directory
    if not config.backup.keep:
        return skip("backup", "backup.keep = 0: none is made")
    if not directory.is_dir():
        return ok("backup", f"{directory}: none yet: the maintenance timer makes one every night")
    found = _obstacle(directory, MAINTENANCE_USER)
    if found:
        return fail("backup", found, f"chown {MAINTENANCE_USER} {directory}; systemctl start postwake-maintenance")
    newest_s = max((path.stat().st_mtime for path in directory.glob("postwake-*.db")), default=0.0)
    if newest_s and now_us / 1e6 - newest_s > BACKUP_AGE_S:
        age = duration(now_us / 1e6 - newest_s)
        advice = "systemctl status postwake-maintenance.timer; journalctl -u postwake-maintenance says what failed"
        return warn("backup", f"{directory}: the newest is {age} old", advice)
    return ok("backup", f"{directory}: {f'{duration(now_us / 1e6 - newest_s)} old' if newest_s else 'none yet'}")


def _spool(directory: Path, now_us: int) -> Finding:
    found = _obstacle(directory, "postwake-milter", "postwake-pixelserver") if directory.is_dir() else ""
    if found:
        return fail("spool", found, f"chgrp postwake {directory}; chmod 2770 {directory}")
    try:
        waiting = [item for path in directory.glob("*.spool") if (item := path.stat()).st_size]
        refused = [path for path in directory.glob("*.bad") if path.stat().st_size]
    except OSError as error:
        return fail(
            "spool",
            f"{directory}: {error.strerror}",
            f"make {directory} readable for us and writable for group postwake",
        )
    if refused:
        advice = "lines that were no events or that the store refused: look at them, then delete the file"
        return warn("spool", f"{refused[0]}: {len(refused)} such files", advice)
    age_s = max((now_us / 1e6 - item.st_mtime for item in waiting), default=0)
    n = sum(item.st_size for item in waiting)
    if age_s > SPOOL_AGE_S:
        advice = "is the store writable, and do milter and pixel server run? they replay the spool within a minute"
        return fail("spool", f"{len(waiting)} files, {size(n)}, the oldest waits for {duration(age_s)}", advice)
    return ok("spool", f"{len(waiting)} files, {size(n)}")
