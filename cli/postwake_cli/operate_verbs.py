"""Verbs of the operator: ``postwake setup`` and ``postwake check``.

What they are made of is imported when they run: no service is to carry it in its memory.
"""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from postwake import config as configuration
from postwake.config import Config
from postwake.errors import UsageError
from postwake_cli.output import document, printable

if TYPE_CHECKING:
    from postwake_operate.journal import Journal
    from postwake_operate.postfix import Postfix
    from postwake_operate.setup_postfix import Plan

DEFAULT_STATE = Path("/var/lib/postwake")
_DIRECTORY = click.Path(path_type=Path, file_okay=False, readable=False)


@click.group()
def setup() -> None:
    """Put Postwake beside the MTA, or take it out again."""


@setup.command("postfix")
@click.option("--dry-run", is_flag=True, help="Only show what would change (so does leaving out --yes).")
@click.option("--yes", "do_it", is_flag=True, help="Do it.")
@click.option("--undo", "take_back", is_flag=True, help="Take back exactly what setup changed.")
@click.option("--url", default="", help="Tracking URL for a new configuration, such as https://track.example.com.")
@click.option("--domain", "domains", multiple=True, help="Sender domain to track, for a new configuration. Repeatable.")
@click.option("--postfix-config", type=_DIRECTORY, help="Configuration directory of another Postfix instance.")
@click.option("--state-dir", type=_DIRECTORY, default=DEFAULT_STATE, show_default=True, help="Where changes are noted.")
@click.option(
    "--test-recipient",
    default="",
    metavar="ADDRESS",
    help="Where the test message goes; after changes it goes to postmaster if this is left out.",
)
@click.option("--no-test", is_flag=True, help="Send no test message.")
@click.option("--no-services", is_flag=True, help="Leave units alone.")
@click.pass_obj
def setup_postfix(
    config_path: Path,
    dry_run: bool,
    do_it: bool,
    take_back: bool,
    url: str,
    domains: tuple[str, ...],
    postfix_config: Path | None,
    state_dir: Path,
    test_recipient: str,
    no_test: bool,
    no_services: bool,
) -> None:
    """Show what it takes to put Postwake beside Postfix; with --yes, do it. Twice does nothing more.

    In main.cf only smtpd_milters and non_smtpd_milters change; every other byte stays. A test message then goes
    through Postfix, and what milter and log saw of it is said.
    """
    from postwake_operate.journal import Journal
    from postwake_operate.postfix import Postfix
    from postwake_operate.setup_postfix import make_plan

    if take_back and (do_it or test_recipient):
        raise UsageError("--undo goes with neither --yes nor --test-recipient")
    if no_test and test_recipient:
        raise UsageError("--no-test and --test-recipient: expected one of them")
    postfix = Postfix(postfix_config)
    journal = Journal(state_dir, postfix.config)
    if take_back:
        _take_back(journal, dry_run, postfix)
        return
    if not config_path.exists() and not dry_run and sys.stdin.isatty():
        url = url or click.prompt("Tracking URL, such as https://track.example.com")
        domains = domains or tuple(click.prompt("Sender domains to track, separated by spaces").split())
    plan = make_plan(postfix, config_path, url=url, domains=domains, with_services=not no_services)
    changed = _apply(plan, journal, really=do_it and not dry_run)
    if changed:
        _reload(postfix)
        click.echo("Done. `postwake check` looks at everything; `postwake setup postfix --undo` takes it back.")
    if do_it and not dry_run and (test_recipient or (changed and not no_test)):
        _trial(postfix, configuration.load(config_path), test_recipient or "postmaster")


def _apply(plan: Plan, journal: Journal, *, really: bool) -> bool:
    """Show what *plan* changes, and do it if *really*; return whether something was changed."""
    steps = plan.needed()
    for step in steps:
        click.echo(step.describe().rstrip("\n"))
    for note in plan.notes:
        click.echo(f"Note: {printable(note)}", err=True)
    if not steps:
        click.echo("Nothing to change.")
    elif not really:
        click.echo("Nothing was changed; --yes does it.", err=True)
    else:
        for step in steps:
            step.apply(journal)
        return True
    return False


def _take_back(journal: Journal, dry_run: bool, postfix: Postfix | None = None) -> None:
    from postwake_operate.plan import undo

    if not journal.entries:
        click.echo("Nothing to take back.")
        return
    if dry_run:
        for entry in reversed(journal.entries):
            what = [*entry.get("units", ()), *(entry[key] for key in ("path", "user", "group") if key in entry)]
            click.echo(f"would take back: {entry['kind']}: {', '.join(what)}")
        return
    for kind, sentence in undo(journal):
        click.echo(sentence)
        if kind == "main.cf" and postfix is not None:
            _reload(postfix)  # from now on nobody asks a milter that is about to be stopped
    click.echo(
        "Keys and store stay: links in mail that was sent need the keys, and a pixel server: they are dead while none"
        " runs. Purging the package removes keys and store."
    )


def _reload(postfix: Postfix) -> None:
    if postfix.is_running():
        postfix.reload()
        click.echo("Postfix: reloaded")
    else:
        click.echo("Postfix does not run: nothing to reload", err=True)


def _trial(postfix: Postfix, config: Config, recipient: str) -> None:
    from postwake_operate import trial

    if not postfix.is_running():
        click.echo("Postfix does not run: no test message", err=True)
        return
    domain = next(iter(config.tracking.sender_domains), postfix.setting("mydomain"))
    message_id = trial.send(postfix, f"postwake-test@{domain}", recipient, secrets.token_hex(6))
    for sentence in trial.describe(trial.watch(config.store.path, message_id)):
        click.echo(printable(sentence))


@setup.command("exim")
@click.option("--dry-run", is_flag=True, help="Only show what would change (so does leaving out --yes).")
@click.option("--yes", "do_it", is_flag=True, help="Do it.")
@click.option("--undo", "take_back", is_flag=True, help="Take back exactly what setup changed.")
@click.option(
    "--log",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("/var/log/exim4/mainlog"),
    show_default=True,
    help="Exim's main log.",
)
@click.option("--state-dir", type=_DIRECTORY, default=DEFAULT_STATE, show_default=True, help="Where changes are noted.")
@click.option("--no-services", is_flag=True, help="Leave units alone.")
@click.pass_obj
def setup_exim(
    config_path: Path, dry_run: bool, do_it: bool, take_back: bool, path: Path, state_dir: Path, no_services: bool
) -> None:
    """Show what it takes to follow an Exim's log; with --yes, do it. Its mail is not rewritten in this release.

    Exim's own configuration is not changed: the lines for it are printed.
    """
    from postwake_operate import setup_exim as setup_exim_steps
    from postwake_operate.journal import Journal

    if take_back and do_it:
        raise UsageError("--undo does not go with --yes")
    journal = Journal(state_dir, path, "exim")
    if take_back:
        _take_back(journal, dry_run)
        return
    click.echo(setup_exim_steps.TEXT)
    if not path.exists():
        click.echo(
            f"Note: {path}: not there yet: is it Exim's log (`exim -bP log_file_path`)? --log names it", err=True
        )
    plan = setup_exim_steps.make_plan(path, config_path, with_services=not no_services)
    if _apply(plan, journal, really=do_it and not dry_run):
        click.echo("Done. `postwake check` looks at everything; `postwake setup exim --undo` takes it back.")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("--offline", is_flag=True, help="Leave out what needs the net: tracking host, DNS.")
@click.option("--postfix-config", type=_DIRECTORY, help="Configuration directory of another Postfix instance.")
@click.option("--dkim-selector", "selectors", multiple=True, help="Look up the DKIM key of this selector. Repeatable.")
@click.pass_obj
def check(
    config_path: Path, as_json: bool, offline: bool, postfix_config: Path | None, selectors: tuple[str, ...]
) -> None:
    """Is everything right? Each finding says what to do.

    Exit status 0 if all is ok, 1 if not, 78 if the configuration is wrong.
    """
    from postwake_operate.check import Options, run_checks

    findings = run_checks(config_path, Options(postfix_config=postfix_config, offline=offline, selectors=selectors))
    if as_json:
        document([finding.as_json() for finding in findings])
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            click.echo(f"{finding.status:<4}  {finding.name:<{width}}  {printable(finding.found)}")
            if finding.advice and finding.status in ("warn", "fail"):
                click.echo(f"{'':<4}  {'':<{width}}  → {printable(finding.advice)}")
    if any(finding.name == "configuration" and finding.status == "fail" for finding in findings):
        sys.exit(78)
    sys.exit(1 if any(finding.status in ("warn", "fail") for finding in findings) else 0)
