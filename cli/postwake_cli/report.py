"""The verb ``report``: what became of the mail of a period, as a summary, a table, a page, a text or a mail."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from postwake import config as configuration
from postwake.config import Config
from postwake.errors import CannotCreateError, ConfigError
from postwake.store import queries, recipients
from postwake.store.connection import open_reader
from postwake.store.schema import DAY_US, HOUR_US
from postwake_cli.output import document, ndjson, parse_period, percent, table

if TYPE_CHECKING:
    from postwake_console.report_data import ReportData

LISTS = ("unsubscribed", "dead", "inactive")


@click.command()
@click.option("--since", default="30d", show_default=True, help="From this time on: 12h, 7d ago, or a date (UTC).")
@click.option("--until", default="", help="Up to this time; default now.")
@click.option(
    "--last",
    type=click.Choice(("day", "week", "month")),
    help="The last whole one instead, UTC; weeks begin on Mondays.",
)
@click.option(
    "--by",
    type=click.Choice(("sender-domain", "recipient-domain", "tag")),
    help="One line for each instead of the whole.",
)
@click.option("--unclassified", is_flag=True, help="The replies no rule knew, by count, so that you can add one.")
@click.option(
    "--list",
    "kind",
    type=click.Choice(LISTS),
    help="Addresses that unsubscribed in the period, are dead by what bounced in it, or took mail and never looked.",
)
@click.option(
    "--text",
    "as_text",
    is_flag=True,
    help="The whole report as text: trends, tables, replies with advice; no list that reads over 250,000 deliveries.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document; --unclassified and --list: NDJSON.")
@click.option(
    "--html",
    "html_path",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="The whole report as a page with plots, which needs no other file, to this file; without what --text lacks.",
)
@click.option(
    "--mail", "as_mail", is_flag=True, help="Mail the whole report to report.to, text and HTML, with every list."
)
@click.option("--addresses", is_flag=True, help="Name addresses in the whole report, as report.addresses does.")
@click.option(
    "--inactive-days",
    type=click.IntRange(0, 3650),
    help="Days in which a recipient is looked for signs of life; default report.inactive_days, 0 leaves it out.",
)
@click.pass_context
def report(
    context: click.Context,
    since: str,
    until: str,
    last: str | None,
    by: str | None,
    unclassified: bool,
    kind: str | None,
    as_text: bool,
    as_json: bool,
    html_path: Path | None,
    as_mail: bool,
    addresses: bool,
    inactive_days: int | None,
) -> None:
    """What became of the mail accepted in a period: counts and rates."""
    if as_text + as_json + as_mail + (html_path is not None) > 1:
        raise click.UsageError("--text, --json, --html and --mail: expected one of them")
    if unclassified + (by is not None) + (kind is not None) > 1:
        raise click.UsageError("--by, --unclassified and --list: expected one of them")
    whole = as_text or as_mail or html_path is not None
    if whole and (by or unclassified or kind):
        raise click.UsageError("--text, --html and --mail have every table: expected no --by, --unclassified or --list")
    given = [f"--{name}" for name in ("since", "until") if context.get_parameter_source(name) is not _DEFAULT]
    if last and given:
        raise click.UsageError(f"--last {last} with {given[0]}: expected one of them")
    now_us = time.time_ns() // 1000
    if last:
        since_us, until_us = last_whole(last, now_us)
    else:
        since_us, until_us = parse_period(since, now_us), parse_period(until, now_us) if until else now_us
    if until_us <= since_us:
        raise click.UsageError("--since and --until: expected a period with an end after its beginning")
    config = configuration.load(context.obj)
    days = config.report.inactive_days if inactive_days is None else inactive_days
    if as_mail and not config.report.to:
        raise ConfigError(f"{context.obj}: report.to = []: expected the addresses that --mail mails the report to")
    if whole:
        data = _gather(
            config, since_us, until_us, now_us, days, addresses or config.report.addresses, waits=not as_mail
        )
        _write(config, data, html_path, as_mail)
        return
    with closing(open_reader(config.store.path)) as connection:
        if unclassified:
            rows = queries.unclassified_replies(connection)
            ndjson(rows) if as_json else table(
                ("n", "reply"), [(row["n"], row["example"]) for row in rows], frozenset({0})
            )
        elif kind:
            lists: dict[str, Callable[[], Any]] = {
                "unsubscribed": partial(recipients.unsubscribed, connection, since_us, until_us),
                "dead": partial(recipients.dead, connection, since_us, until_us),
                "inactive": partial(recipients.inactive, connection, until_us - days * DAY_US, until_us),
            }
            _print_list(list(lists[kind]()), as_json)
        else:
            _print_summary(connection, since_us, until_us, now_us, by, as_json)


_DEFAULT = click.core.ParameterSource.DEFAULT


def last_whole(unit: str, now_us: int) -> tuple[int, int]:
    """Return beginning and end of the last whole day, week or month before *now_us*, UTC."""
    today = datetime.fromtimestamp(now_us / 1e6, tz=UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "day":
        start, end = today - timedelta(days=1), today
    elif unit == "week":
        end = today - timedelta(days=today.weekday())
        start = end - timedelta(days=7)
    else:
        end = today.replace(day=1)
        start = (end - timedelta(days=1)).replace(day=1)
    return int(start.timestamp()) * 1_000_000, int(end.timestamp()) * 1_000_000


def _gather(
    config: Config, since_us: int, until_us: int, now_us: int, inactive_days: int, with_addresses: bool, waits: bool
) -> ReportData:
    """Read the whole report; somebody *waits* for it, or it is mailed."""
    from postwake.reply.load import advice_by_rule
    from postwake_console.report_data import READ_AT_MOST, gather

    advice = advice_by_rule(config.logparse.reply_rules)
    with closing(open_reader(config.store.path)) as connection:
        return gather(
            connection,
            since_us,
            until_us,
            now_us,
            advice,
            inactive_days=inactive_days,
            with_addresses=with_addresses,
            read_at_most=READ_AT_MOST if waits else None,
        )


def _write(config: Config, data: ReportData, html_path: Path | None, as_mail: bool) -> None:
    from postwake_console import report_html, report_mail, report_text

    if as_mail:
        host = socket.getfqdn()
        sender = config.report.sender or f"postwake@{host}"
        message = report_mail.compose(data, host=host, sender=sender, to=config.report.to, unique=secrets.token_hex(8))
        report_mail.send(message, config.report.sendmail, sender, config.report.to)
        click.echo(f"postwake: mailed to {', '.join(config.report.to)}", err=True)
    elif html_path is None:
        click.echo(report_text.render(data), nl=False)
    else:
        try:
            with click.open_file(str(html_path), "w", encoding="utf-8") as out:
                out.write(report_html.render(data))
        except BrokenPipeError:
            raise
        except OSError as error:
            raise CannotCreateError(f"{html_path}: cannot write: {error.strerror}") from None


def _print_list(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        ndjson(rows)
    elif rows:
        numbers = frozenset(n for n, name in enumerate(rows[0]) if name in ("messages", "other_hits", "code"))
        table(tuple(rows[0]), [tuple(row.values()) for row in rows], numbers)


def _print_summary(connection: Any, since_us: int, until_us: int, now_us: int, by: str | None, as_json: bool) -> None:
    # The lines of a table show neither hits nor attempts, which cost as much again.
    bases = ("cohort",) if by and not as_json else queries.BASES
    found = queries.report(connection, since_us, until_us, (by or "all").replace("-", "_"), bases)
    if by is not None:
        if as_json:
            document({key: _counted(by, value.as_json()) for key, value in found.items()})
        else:
            _print_by(by, found)
        return
    replies = queries.worst_replies(connection, since_us, until_us)
    whole = found.get("", queries.Report())
    if as_json:
        document(whole.as_json() | {"worst_replies": replies})
    else:
        # Whole hours, as the rollups have them; but nobody knows of an hour to come.
        first_us, last_us = since_us - since_us % HOUR_US, min(until_us + -until_us % HOUR_US, max(until_us, now_us))
        _print_report(whole, replies, first_us, last_us)


def _counted(by: str, values: dict[str, Any]) -> dict[str, Any]:
    # Single hits are not counted by recipient domain, only who opened and clicked: nothing is said rather than {}.
    return {key: value for key, value in values.items() if by != "recipient-domain" or key != "hits"}


def _print_report(found: queries.Report, replies: list[dict[str, Any]], since_us: int, until_us: int) -> None:
    from postwake_console.words import span

    states, engaged, hits = found.states, found.engaged, found.hits
    sent = states.get("sent", 0)
    bounced = states.get("bounced", 0) + states.get("expired", 0)
    click.echo(f"Period      {span(since_us, until_us)}")
    click.echo(f"Accepted    {found.messages:>9}  messages to {found.recipients} recipients")
    for label, n in (
        ("Sent", sent),
        ("Deferred", states.get("deferred", 0)),
        ("Queued", states.get("queued", 0)),
        ("Bounced", bounced),
        ("Deleted", states.get("deleted", 0)),
    ):
        if n or label != "Deleted":
            click.echo(f"{label:<10}  {n:>9}  {percent(n, found.recipients):>7} of recipients")
    click.echo(f"Deferrals   {found.attempts.get('deferred', 0):>9}  attempts that were put off")
    for label, name in (("Opened", "opened"), ("Clicked", "clicked")):
        human = engaged.get(f"{name}_human", 0)
        raw = ", ".join(f"{hits.get(f'{name}.{who}', 0)} {who}" for who in ("human", "unknown", "machine"))
        possible, everybody = engaged.get(f"{name}_possible", 0), engaged.get(f"{name}_any", 0)
        of_sent = f"{percent(human, sent):>7} of sent, by people"
        others = f"unknown {possible - human}, only machines {everybody - possible}"
        click.echo(f"{label:<10}  {human:>9}  {of_sent}; {others}; hits: {raw}")
    click.echo(
        f"Unsubscr.   {engaged.get('unsubscribed', 0):>9}  {percent(engaged.get('unsubscribed', 0), sent):>7} of sent"
    )
    if replies:
        click.echo("\nWhat refused mail said, most often first:")
        rows = [(row["n"], row["kind"], row["category"], row["example"]) for row in replies]
        table(("n", "kind", "category", "reply"), rows, frozenset({0}))


def _print_by(by: str, found: dict[str, queries.Report]) -> None:
    # Most have none of these, but without them a line would not add up to its recipients.
    seldom = [state for state in ("queued", "deleted") if any(value.states.get(state) for value in found.values())]
    rows = []
    for key, value in sorted(found.items(), key=lambda item: -item[1].recipients):
        sent = value.states.get("sent", 0)
        bounced = value.states.get("bounced", 0) + value.states.get("expired", 0)
        opened, clicked = value.engaged.get("opened_human", 0), value.engaged.get("clicked_human", 0)
        rows.append(
            (
                *(key, value.recipients, sent, value.states.get("deferred", 0)),
                *(value.states.get(state, 0) for state in seldom),
                *(bounced, percent(bounced, value.recipients)),
                *(opened, percent(opened, sent), clicked, percent(clicked, sent)),
            )
        )
    head = (by, "recipients", "sent", "deferred", *seldom, "bounced", "", "opened", "", "clicked", "")
    table(head, rows, frozenset(range(1, len(head))))
