"""Verbs that look into the store: message, events, report, explain."""

from __future__ import annotations

import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from postwake import config as configuration
from postwake.errors import CannotCreateError
from postwake.events import EventType
from postwake.store import queries
from postwake.store.connection import open_reader
from postwake_cli.output import document, local_time, ndjson, parse_period, percent, printable, table


def _open(config_path: Path) -> sqlite3.Connection:
    return open_reader(configuration.load(config_path).store.path)


@click.command()
@click.argument("what")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("--limit", default=20, show_default=True, help="At most so many messages, newest first.")
@click.pass_obj
def message(config_path: Path, what: str, as_json: bool, limit: int) -> None:
    """One message's whole story, found by tracking ID, queue ID, Message-ID or address.

    Exit status 1 if there is no such message.
    """
    with closing(_open(config_path)) as connection:
        found = queries.find_messages(connection, what, limit)
        if as_json:
            document([_story(connection, number) for number in found])
        elif not found:
            click.echo(f"postwake: {printable(what)}: no such message", err=True)
        for number in found if not as_json else ():
            _print_story(_story(connection, number))
    sys.exit(0 if found else 1)


def _story(connection: sqlite3.Connection, number: int) -> dict[str, Any]:
    return {
        "message": queries.message(connection, number),
        "deliveries": queries.deliveries(connection, number),
        "engagement": queries.engagement(connection, number),
        "timeline": queries.timeline(connection, number),
    }


def _print_story(story: dict[str, Any]) -> None:
    about = story["message"]
    click.echo(f"Message {about['queue_id'] or '?'}  {printable(about['subject'] or '(no subject)')}")
    for label, value in (
        ("tracking ID", about["tracking_id"]),
        ("Message-ID", about["message_id"]),
        ("from", about["sender"]),
        ("tag", about["tag"]),
        ("tracked", "yes" if about["tracked"] else f"no: {about['untracked_reason'] or 'the milter never saw it'}"),
    ):
        if value:
            click.echo(f"  {label:<12} {printable(value)}")
    for delivery in story["deliveries"]:
        reply = f"  {delivery['reply']}" if delivery["reply"] else ""
        click.echo(f"  {delivery['state']:<12} {printable(delivery['recipient'])}{printable(reply)}")
    for reader in story["engagement"]:
        hits = [f"{noun} {_by_who(reader, noun)}" for noun in ("opens", "clicks") if _by_who(reader, noun)]
        if hits:
            click.echo(f"  {'readers':<12} {printable(reader['recipient'] or 'one of several')}  {'; '.join(hits)}")
    click.echo()
    for event in story["timeline"]:
        click.echo(f"  {local_time(event['at'])}  {event['type']:<12} {_words(event)}".rstrip())
    click.echo()


def _by_who(reader: dict[str, Any], noun: str) -> str:
    counts = {who: reader[f"{noun}_{who}"] for who in ("human", "unknown", "machine")}
    return ", ".join(f"{n} {who}" for who, n in counts.items() if n)


def _words(event: dict[str, Any]) -> str:
    parts = [event.get("recipient"), event.get("url")]
    if "relay" in event and event["relay"] != "none":
        parts.append(f"by {event['relay']}")
    parts.append(event.get("reply"))
    if "who" in event:
        first = f", first {event['who_first']}: {event['reason_first']}" if "who_first" in event else ""
        parts.append(f"({event['who']}: {event['reason']}{first})" if "reason" in event else f"({event['who']})")
    if "delay_s" in event:
        parts.append(f"after {event['delay_s']:g} s")
    detail = event.get("detail")
    if isinstance(detail, dict):
        parts += [f"{key}={value}" for key, value in detail.items()]
    return "  ".join(printable(part) for part in parts if part)


@click.command()
@click.option("--since", default="", help="From this time on: 30m, 12h, 7d ago, or a date.")
@click.option(
    "--type", "types", multiple=True, type=click.Choice([kind.label for kind in EventType]), help="Only these."
)
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes.")
@click.option("--limit", default=0, help="At most so many.")
@click.pass_obj
def events(config_path: Path, since: str, types: tuple[str, ...], follow: bool, limit: int) -> None:
    """Events, oldest first, NDJSON."""
    since_us = parse_period(since, _now_us()) if since else None
    kinds = tuple(EventType[name.upper()] for name in types)
    with closing(_open(config_path)) as connection:
        after_id, written = 0, 0
        if follow and since_us is None:
            after_id = connection.execute("SELECT coalesce(max(id), 0) FROM event").fetchone()[0]
        while True:
            page = min(1000, limit - written) if limit else 1000
            rows = list(queries.events(connection, after_id=after_id, since_us=since_us, types=kinds, limit=page))
            ndjson(rows)
            written += len(rows)
            if rows:
                after_id = rows[-1]["id"]
            if limit and written >= limit:
                return
            if len(rows) < page:
                if not follow:
                    return
                sys.stdout.flush()
                time.sleep(0.5)


@click.command()
@click.option("--since", default="30d", show_default=True, help="From this time on: 12h, 7d ago, or a date.")
@click.option("--until", default="", help="Up to this time; default now.")
@click.option(
    "--by",
    type=click.Choice(("sender-domain", "recipient-domain", "tag")),
    help="One line for each instead of the whole.",
)
@click.option("--unclassified", is_flag=True, help="The replies no rule knew, by count, so that you can add one.")
@click.option("--text", "as_text", is_flag=True, help="Tables for a terminal; the default.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option(
    "--html",
    "html_path",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Write a page with plots, trends and advice, which needs no other file, to this file.",
)
@click.pass_obj
def report(
    config_path: Path,
    since: str,
    until: str,
    by: str | None,
    unclassified: bool,
    as_text: bool,
    as_json: bool,
    html_path: Path | None,
) -> None:
    """What became of the mail accepted in a period: counts and rates."""
    if as_text + as_json + (html_path is not None) > 1:
        raise click.UsageError("--text, --json and --html: expected one of them")
    now_us = _now_us()
    since_us, until_us = parse_period(since, now_us), parse_period(until, now_us) if until else now_us
    if html_path is not None:
        if by or unclassified:
            raise click.UsageError("--html has every table: expected neither --by nor --unclassified with it")
        _write_html(config_path, html_path, since_us, until_us, now_us)
        return
    with closing(_open(config_path)) as connection:
        if unclassified:
            rows = queries.unclassified_replies(connection)
            ndjson(rows) if as_json else table(
                ("n", "reply"), [(row["n"], row["example"]) for row in rows], frozenset({0})
            )
            return
        found = queries.report(connection, since_us, until_us, (by or "all").replace("-", "_"))
        replies = queries.worst_replies(connection, since_us, until_us) if by is None else []
    if as_json:
        one = found.get("", queries.Report()).as_json() | {"worst_replies": replies}
        document(one if by is None else {key: value.as_json() for key, value in found.items()})
    elif by is None:
        _print_report(found.get("", queries.Report()), replies)
    else:
        _print_by(by, found)


def _write_html(config_path: Path, path: Path, since_us: int, until_us: int, now_us: int) -> None:
    from postwake.reply.load import load_classifier
    from postwake_console.report_data import gather
    from postwake_console.report_html import render

    if until_us <= since_us:
        raise click.UsageError("--since and --until: expected a period with an end after its beginning")
    rules = load_classifier(configuration.load(config_path).logparse.reply_rules).rules
    with closing(_open(config_path)) as connection:
        page = render(gather(connection, since_us, until_us, now_us, {rule.id: rule.advice for rule in rules}))
    try:
        with click.open_file(str(path), "w", encoding="utf-8") as out:
            out.write(page)
    except OSError as error:
        raise CannotCreateError(f"{path}: cannot write: {error.strerror}") from None


def _print_report(found: queries.Report, replies: list[dict[str, Any]]) -> None:
    states, engaged, hits = found.states, found.engaged, found.hits
    sent = states.get("sent", 0)
    bounced = states.get("bounced", 0) + states.get("expired", 0)
    click.echo(f"Accepted    {found.messages:>9}  messages to {found.recipients} recipients")
    for label, n in (
        ("Sent", sent),
        ("Deferred", states.get("deferred", 0)),
        ("Queued", states.get("queued", 0)),
        ("Bounced", bounced),
    ):
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
    rows = []
    for key, value in sorted(found.items(), key=lambda item: -item[1].recipients):
        sent = value.states.get("sent", 0)
        bounced = value.states.get("bounced", 0) + value.states.get("expired", 0)
        opened, clicked = value.engaged.get("opened_human", 0), value.engaged.get("clicked_human", 0)
        rows.append(
            (
                *(key, value.recipients, sent, value.states.get("deferred", 0), bounced),
                *(percent(bounced, value.recipients), opened, percent(opened, sent), clicked, percent(clicked, sent)),
            )
        )
    head = (by, "recipients", "sent", "deferred", "bounced", "", "opened", "", "clicked", "")
    table(head, rows, frozenset(range(1, 10)))


@click.command()
@click.argument("what")
@click.option("--json", "as_json", is_flag=True, help="NDJSON.")
@click.pass_obj
def explain(config_path: Path, what: str, as_json: bool) -> None:
    """Why a message was or was not tracked: by tracking ID, queue ID, Message-ID or address.

    Exit status 1 if there is no such message.
    """
    with closing(_open(config_path)) as connection:
        found = [queries.message(connection, number) for number in queries.find_messages(connection, what)]
    rows = [_explained(about) for about in found]
    if as_json:
        ndjson(rows)
    for row in rows if not as_json else ():
        click.echo(f"{row['queue_id'] or '?'}  {printable(row['sender'])}  {printable(row['subject'] or '')}")
        click.echo(f"  {row['sentence']}")
        for reason, n in row["links_skipped"].items():
            click.echo(f"  {n} link{'s' if n > 1 else ''} left alone: {reason}")
    if not found:
        click.echo(f"postwake: {printable(what)}: no such message", err=True)
        sys.exit(1)


def _explained(about: dict[str, Any]) -> dict[str, Any]:
    from postwake_milter.policy import REASONS
    from postwake_milter.rewrite.reasons import UNTRACKED_REASONS

    reason = about["untracked_reason"]
    if about["tracked"]:
        sentence = f"Tracked: {about['pixels'] or 0} pixel(s), {about['links'] or 0} link(s)."
    elif reason:
        sentence = f"Not tracked ({reason}). {REASONS.get(reason) or UNTRACKED_REASONS.get(reason, '')}".rstrip()
    else:
        sentence = (
            "Not tracked: the milter never saw it. Is it in smtpd_milters and non_smtpd_milters, and was it running?"
        )
    keys = (
        "tracking_id",
        "queue_id",
        "message_id",
        "sender",
        "subject",
        "tracked",
        "untracked_reason",
        "pixels",
        "links",
        "links_skipped",
    )
    return {key: about[key] for key in keys} | {"sentence": sentence}


def _now_us() -> int:
    return time.time_ns() // 1000


COMMANDS = (message, events, report, explain)
