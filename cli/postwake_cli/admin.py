"""Verbs that set things up: config, key, db."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from postwake import config as configuration
from postwake.config_text import example
from postwake.errors import CannotCreateError
from postwake.keyfile import add_key
from postwake.settings import load_settings
from postwake.store.maintenance import migrate
from postwake_cli.store_verbs import STORE_COMMANDS
from postwake_operate.setup_postfix import GROUP


@click.group()
def config() -> None:
    """The configuration file."""


@config.command("example")
def config_example() -> None:
    """Print a commented configuration with every key at its default."""
    click.echo(example())


@config.command("check")
@click.pass_obj
def config_check(config_path: Path) -> None:
    """Read the configuration and the keys; say everything that is wrong (exit status 78)."""
    load_settings(config_path)
    click.echo(f"{config_path}: in order")


@click.group()
def key() -> None:
    """The signing keys."""


@key.command("new")
@click.option(
    "--file", "path", type=click.Path(path_type=Path, dir_okay=False), help="The key file; default tracking.keys."
)
@click.pass_obj
def key_new(config_path: Path, path: Path | None) -> None:
    """Add a new random key; the older ones go on verifying.

    The milter signs with it from its next start or reload on; the pixel server finds it by itself.
    """
    target = path or configuration.load(config_path).tracking.keys
    first = not target.exists()
    key_id = add_key(target, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    if first and not os.geteuid():
        with contextlib.suppress(LookupError):  # where there is no such group nobody but us can be meant
            shutil.chown(target, group=GROUP)
    click.echo(f"{target}: added key {key_id}")
    if not first:
        click.echo("Now: systemctl reload postwake-milter", err=True)


@click.group()
def db() -> None:
    """The store."""


@db.command("migrate")
@click.option("--no-backup", is_flag=True, help="Keep no copy of a store that has an older schema.")
@click.pass_obj
def db_migrate(config_path: Path, no_backup: bool) -> None:
    """Make the store, or bring it to this release's schema: wholly, or not at all.

    A store with an older schema is copied first, to a file beside it with the schema's number at its end.
    """
    path = configuration.load(config_path).store.path
    try:
        names, kept = migrate(path, keep_old=not no_backup)
    except CannotCreateError as error:
        raise CannotCreateError(f"{error}; nothing was migrated: make room, or --no-backup") from None
    if kept is not None:
        click.echo(f"{kept.path}: the store as it was, {kept.size_bytes} bytes: delete it when you are content")
    for name in names:
        click.echo(f"{path}: migrated: {name}")
    if not names:
        click.echo(f"{path}: nothing to do")
    sys.exit(0)


for command in STORE_COMMANDS:
    db.add_command(command)
