"""Verbs that look after the store: ``postwake db`` backup, check, checkpoint, purge, forget, export."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from postwake import config as configuration
from postwake.errors import CannotCreateError, StoreUnavailableError, UsageError
from postwake.store import maintenance, person
from postwake.store import purge as purging
from postwake_cli.output import document, printable
from postwake_operate.check_store import MAINTENANCE_USER

_NAME = "postwake-%Y%m%dT%H%M%SZ.db"
_NAMES = "postwake-[0-9]*T[0-9]*Z.db"
_UNFINISHED_S = 86_400
"""A backup whose file was not written to for a day is not going on any more."""


def _store(config_path: Path) -> Path:
    return configuration.load(config_path).store.path


@click.command("backup")
@click.argument("target", metavar="[FILE]", required=False, type=click.Path(path_type=Path))
@click.option("--keep", type=click.IntRange(1), help="FILE is a directory: keep only so many of the backups in it.")
@click.pass_obj
def db_backup(config_path: Path, target: Path | None, keep: int | None) -> None:
    """Copy the store to FILE while everything runs: one checked file, replaced in one step.

    In a directory the file gets a name with the time in it. Without FILE the [backup] section says where and how many;
    then as much room as the store takes stays free.
    """
    config = configuration.load(config_path)
    store = config.store.path
    if target is None:
        if not config.backup.keep:
            click.echo("backup.keep = 0: no backup is made")
            return
        target, keep = config.backup.directory, keep or config.backup.keep
        _make_directory(target)
        _spare_the_disk(store, target)
    directory = target if target.is_dir() else None
    if keep is not None and directory is None:
        raise UsageError(f"--keep {keep}: {target} is not a directory: expected one, where the backups are counted")
    if directory is not None:
        target = directory / datetime.now(UTC).strftime(_NAME)
    made = maintenance.backup(store, target)
    click.echo(f"{made.path}: {made.size_bytes} bytes, checked")
    if directory is not None and keep is not None:
        # This one stays in any case: if the clock was ahead once, its name is not the last.
        others = sorted(path for path in directory.glob(_NAMES) if path != target)
        for old in others[: max(0, len(others) + 1 - keep)]:
            old.unlink()
            click.echo(f"{old}: removed")
        _remove_unfinished(directory)


def _remove_unfinished(directory: Path) -> None:
    """Remove what backups that were killed have left: nobody else would, and each is as large as the store."""
    for part in directory.glob(f".{_NAMES}.*.part*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > _UNFINISHED_S:
                part.unlink()
                click.echo(f"{part}: removed, an unfinished backup")


def _make_directory(path: Path) -> None:
    try:
        if not path.is_dir():
            path.mkdir(mode=0o700, parents=True)
            if not os.geteuid():  # somebody was here before the nightly unit, which must write there too
                with contextlib.suppress(LookupError):
                    shutil.chown(path, MAINTENANCE_USER)
    except OSError as error:
        raise CannotCreateError(f"backup.directory = {path}: cannot make it: {error.strerror}") from None


def _spare_the_disk(store: Path, directory: Path) -> None:
    # Nobody watches, and mail queues and logs may be on the same disk.
    if not store.exists():
        return
    size = store.stat().st_size
    free = shutil.disk_usage(directory).free
    if free < 2 * size:
        raise CannotCreateError(
            f"{directory}: {free} bytes free: expected {2 * size}, twice the store; backup.directory on another disk,"
            " a smaller backup.keep, or 0 for none"
        )


@click.command("check")
@click.option("--quick", is_flag=True, help="Leave out indexes and references: takes a fraction of the time.")
@click.pass_obj
def db_check(config_path: Path, quick: bool) -> None:
    """Check that the file is whole and its rows refer to rows that exist. Exit status 1 if not; waits for nobody."""
    path = _store(config_path)
    if not path.exists():
        raise StoreUnavailableError(f"{path}: no store there; `postwake db migrate` makes one")
    problems = maintenance.check_integrity(path, quick=quick)
    if not problems and not quick:
        problems = maintenance.check_references(path)
    for problem in problems:
        click.echo(f"{path}: {printable(problem)}")
    if problems:
        click.echo(f"{path}: damaged; docs/operations.md, “A damaged store”, says what to do", err=True)
        sys.exit(1)
    click.echo(f"{path}: in order")


@click.command("checkpoint")
@click.pass_obj
def db_checkpoint(config_path: Path) -> None:
    """Move the write-ahead log into the file; waits for nobody."""
    path = _store(config_path)
    done = maintenance.checkpoint(path)
    rest = "" if done.complete else "; the rest follows when those who read now have finished"
    click.echo(f"{path}: write-ahead log: {done.wal_bytes} bytes{rest}")


@click.command("purge")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def db_purge(config_path: Path, dry_run: bool, as_json: bool) -> None:
    """Remove what is older than [retention] says, while everything runs. Links never break by it."""
    config = configuration.load(config_path)
    limits = purging.Limits.of(config.retention, time.time_ns() // 1000)
    found = purging.purge(config.store.path, limits, dry_run=dry_run)
    if as_json:
        document(dataclasses.asdict(found) | {"dry_run": dry_run})
        return
    verb = "would be " if dry_run else ""
    click.echo(
        f"{config.store.path}: {verb}removed: {found.messages} messages, {found.deliveries} deliveries,"
        f" {found.events} events,"
        f" {found.hourly_rollups} hourly rollups, {found.dictionary_rows} texts;"
        f" readers' addresses and agents of {found.clients} hits"
    )
    if found.kept_in_queue:
        click.echo(
            f"{found.kept_in_queue} older messages stay: still queued or deferred, as far as the log said", err=True
        )


@click.command("forget")
@click.argument("address")
@click.option("--vacuum", is_flag=True, help="Rewrite the file, so that its free space forgets too. Writers wait.")
@click.pass_obj
def db_forget(config_path: Path, address: str, vacuum: bool) -> None:
    """Remove a person: ADDRESS becomes a random marker everywhere, their hits lose address and agent; counts stay.

    Exit status 1 if the address was nowhere.
    """
    config = configuration.load(config_path)
    spooled = person.in_spool(config.store.path, config.store.spool_dir, address)
    found = person.forget(config.store.path, address, os.urandom(8), vacuum=vacuum)
    rows = ", ".join(f"{n} of {table}" for table, n in sorted(found.rows.items()))
    click.echo(
        f"{config.store.path}: rows that named it: {rows or 'none'}; hits that lost address and agent: {found.hits}"
    )
    if found.still_queued:
        click.echo(
            f"{found.still_queued} deliveries to it are still queued: the log will name it again; repeat this then",
            err=True,
        )
    if found.remnants:
        click.echo("free space of the file still holds it: repeat this with --vacuum in a quiet hour", err=True)
    for name, lines in spooled.items():
        advice = "delete them there" if name.endswith(".bad") else "repeat this when it has been replayed"
        click.echo(f"{config.store.spool_dir / name}: lines about it: {len(lines)}; {advice}", err=True)
    sys.exit(0 if found.rows or found.hits or spooled else 1)


@click.command("export")
@click.argument("address")
@click.pass_obj
def db_export(config_path: Path, address: str) -> None:
    """Everything that is held about ADDRESS, as one JSON document. Exit status 1 if that is nothing."""
    store = configuration.load(config_path).store
    found = person.export(store.path, address, store.spool_dir)
    document(found)
    sys.exit(0 if found["messages"] or found["mentions"] or found["spool"] else 1)


STORE_COMMANDS = (db_backup, db_check, db_checkpoint, db_purge, db_forget, db_export)
