"""The service verbs: what the systemd units start, and ``run``, which starts them all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click

from postwake import config as configuration
from postwake.service import Signals, notify, set_up_logging
from postwake.store.maintenance import migrate
from postwake_cli.progress import ProgressLine

SERVICES = ("milter", "logparse", "pixelserver")
RESTART_DELAY_S = 1.0
STOP_PATIENCE_S = 20.0


@click.command()
@click.pass_obj
def milter(config_path: Path) -> None:
    """Rewrite outgoing mail: the daemon Postfix's smtpd_milters points to."""
    from postwake_milter.daemon import run as run_milter

    set_up_logging()
    sys.exit(run_milter(config_path))


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--backfill", is_flag=True, help="Read FILES, logs of the past, into the store and end.")
@click.option(
    "--mta", type=click.Choice(("postfix", "exim", "auto")), help="Whose logs FILES are. Default: as configured."
)
@click.option("--year", type=int, help="The year of each file's first line, for stamps that name none.")
@click.option("--timezone", help="The zone of stamps that name none, such as Europe/Berlin. Default: as configured.")
@click.pass_obj
def logparse(
    config_path: Path, files: tuple[Path, ...], backfill: bool, mta: str | None, year: int | None, timezone: str | None
) -> None:
    """Follow the MTA's log and record what became of each delivery.

    With --backfill: read FILES, oldest first, plain or compressed (.gz, .bz2, .xz, .zst), or journals that journalctl
    printed as json or export. It can be interrupted and repeated: what was read of a file before, by a backfill or by
    following it, is not read again.
    """
    set_up_logging()
    if backfill:
        _backfill(config_path, files, mta, year, timezone)
        return
    if files or mta or year or timezone:
        raise click.UsageError(
            "FILES, --mta, --year and --timezone go with --backfill; the log to follow is configured."
        )
    from postwake_logparse.daemon import run as run_logparse
    from postwake_milter.policy import REASONS
    from postwake_milter.rewrite.reasons import UNTRACKED_REASONS

    sys.exit(run_logparse(config_path, sorted({*REASONS, *UNTRACKED_REASONS})))


def _backfill(
    config_path: Path, files: tuple[Path, ...], mta: str | None, year: int | None, timezone: str | None
) -> None:
    from postwake_logparse.backfill import Backfill, order_files
    from postwake_logparse.correlate import make_correlator
    from postwake_logparse.ingest import Ingester

    if not files:
        raise click.UsageError("--backfill needs at least one file.")
    config = configuration.load(config_path)
    zone = timezone or config.logparse.timezone or None
    ordered = order_files(files, year=year, timezone=zone)
    ingester = Ingester(config.store.path, make_correlator(config), busy_timeout_ms=config.store.busy_timeout_ms)
    bar = ProgressLine(sys.stderr)
    try:
        summary = Backfill(
            ordered, ingester, mta=mta or config.logparse.mta, year=year, timezone=zone, progress=bar.show
        ).run()
    finally:
        bar.end()
        ingester.close()
    for problem in summary.errors:
        click.echo(f"postwake: {problem}", err=True)
    click.echo(
        f"{summary.files} files ({summary.files_skipped} with nothing new), {summary.lines:,} lines,"
        f" {summary.records:,} about mail, {summary.unparsed:,} not understood,"
        f" {summary.seconds:.1f} s, {summary.lines / max(summary.seconds, 1e-9):,.0f} lines/s"
    )
    sys.exit(os.EX_DATAERR if summary.errors else 0)


@click.command()
@click.pass_obj
def pixelserver(config_path: Path) -> None:
    """Answer pixel, click and unsubscribe requests, and record them."""
    from postwake_pixelserver.daemon import serve

    set_up_logging()
    serve(configuration.load(config_path), str(config_path))


@click.command()
@click.option("--only", "only", multiple=True, type=click.Choice(SERVICES), help="Start just these.")
@click.pass_obj
def run(config_path: Path, only: tuple[str, ...]) -> None:
    """Every service in one foreground process group: for a look, and for containers.

    Makes or migrates the store first. A service that dies is started again, except with status 78: then the
    configuration is wrong and everything stops.
    """
    set_up_logging()
    config = configuration.load(config_path)
    for name in migrate(config.store.path)[0]:
        click.echo(f"postwake: {config.store.path}: migrated: {name}", err=True)
    group = _Group(config_path, only or SERVICES)
    signals = Signals(group.reload)
    group.start_all()
    notify("READY=1")
    signals.wait(group.tend)
    sys.exit(group.stop())


class _Group:
    """The services as child processes."""

    def __init__(self, config_path: Path, names: tuple[str, ...]) -> None:
        self._config_path = config_path
        self._names = names
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._started: dict[str, float] = {}
        self._status = 0

    def start_all(self) -> None:
        for name in self._names:
            self._start(name)

    def _start(self, name: str) -> None:
        # NOTIFY_SOCKET is ours alone: one service's readiness is not the group's.
        environment = {key: value for key, value in os.environ.items() if key not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
        command = [sys.executable, "-m", "postwake_cli", "--config", str(self._config_path), name]
        self._children[name] = subprocess.Popen(command, env=environment)
        self._started[name] = time.monotonic()

    def tend(self) -> bool:
        """Start what died anew; return False when the configuration is wrong."""
        for name, child in list(self._children.items()):
            status = child.poll()
            if status is None:
                continue
            if status == os.EX_CONFIG or (status and time.monotonic() - self._started[name] < RESTART_DELAY_S):
                self._status = status
                return False
            click.echo(f"postwake: {name} ended with status {status}: started again", err=True)
            self._start(name)
        return True

    def reload(self) -> None:
        for child in self._children.values():
            child.send_signal(signal.SIGHUP)

    def stop(self) -> int:
        for child in self._children.values():
            if child.poll() is None:
                child.terminate()
        deadline = time.monotonic() + STOP_PATIENCE_S
        for child in self._children.values():
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        return self._status
