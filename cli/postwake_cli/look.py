"""Verbs that look into the store: message, events, explain; `report` has a module of its own."""

from __future__ import annotations

import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from postwake import config as configuration
from postwake.events import EventType
from postwake.store import queries
from postwake.store.connection import open_reader
from postwake_cli.output import document, local_time, ndjson, parse_period, printable


def _open(config_path: Path) -> sqlite3.Connection:
    return open_reader(configuration.load(config_path).store.path)


@click.command()
@click.argument("what")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option(
    "--limit", default=20, type=click.IntRange(1), show_default=True, help="At most so many messages, newest first."
)
@click.pass_obj
def message(config_path: Path, what: str, as_json: bool, limit: int) -> None:
    """One message's whole story, found by tracking ID, queue ID, Message-ID or address.

    By the address that mail was delivered to, or that was asked for where an alias led elsewhere (among the newest two
    million deliveries).

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
        asked = f" (for {delivery['original_recipient']})" if delivery["original_recipient"] else ""
        click.echo(f"  {delivery['state']:<12} {printable(delivery['recipient'] + asked + reply)}")
    for reader in story["engagement"]:
        hits = [f"{noun} {_by_who(reader, noun)}" for noun in ("opens", "clicks") if _by_who(reader, noun)]
        if hits:
            unnamed = "anonymous" if about["privacy"] == "anonymous" else "one of several"
            click.echo(f"  {'readers':<12} {printable(reader['recipient'] or unnamed)}  {'; '.join(hits)}")
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
@click.option("--limit", default=0, type=click.IntRange(0), help="At most so many; 0: all.")
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
@click.argument("what")
@click.option("--json", "as_json", is_flag=True, help="NDJSON.")
@click.pass_obj
def explain(config_path: Path, what: str, as_json: bool) -> None:
    """Why a message was or was not tracked: by tracking ID, queue ID, Message-ID or address.

    Exit status 1 if there is no such message.
    """
    config = configuration.load(config_path)
    with closing(open_reader(config.store.path)) as connection:
        found = [queries.message(connection, number) for number in queries.find_messages(connection, what)]
    unseen = _UNSEEN_EXIM if config.logparse.mta == "exim" else _UNSEEN
    rows = [_explained(about, unseen) for about in found]
    if as_json:
        ndjson(rows)
    for row in rows if not as_json else ():
        click.echo(f"{row['queue_id'] or '?'}  {printable(row['sender'])}  {printable(row['subject'] or '')}")
        click.echo(f"  {row['sentence']}")
        for reason, n in row["links_skipped"].items():
            click.echo(f"  {_left_alone(reason, n)}")
    if not found:
        click.echo(f"postwake: {printable(what)}: no such message", err=True)
        sys.exit(1)


def _left_alone(reason: str, n: int) -> str:
    from postwake_milter.rewrite.reasons import UNTRACKED_REASONS

    if reason.startswith("part-"):
        name = reason.removeprefix("part-")
        return f"{n} part{'s' if n > 1 else ''} not as was meant ({name}): {UNTRACKED_REASONS.get(name, '')}".rstrip()
    if reason.startswith("list-unsubscribe-"):
        return f"List-Unsubscribe left alone: {reason.removeprefix('list-unsubscribe-')}"
    return f"{n} link{'s' if n > 1 else ''} left alone: {reason}"


_UNSEEN = (
    "Not tracked: the milter never saw it, or met it with the stamp (X-Postwake-ID) of a message that is not in this"
    " store. Is it in smtpd_milters and non_smtpd_milters, and was it running?"
)
_UNSEEN_EXIM = "Not tracked: it went through Exim, whose mail is not rewritten in this release."


def _explained(about: dict[str, Any], unseen: str) -> dict[str, Any]:
    from postwake_milter.policy import REASONS
    from postwake_milter.rewrite.reasons import UNTRACKED_REASONS

    reason = about["untracked_reason"]
    if about["tracked"]:
        sentence = f"Tracked: {about['pixels'] or 0} pixel(s), {about['links'] or 0} link(s)."
    elif reason:
        sentence = f"Not tracked ({reason}). {REASONS.get(reason) or UNTRACKED_REASONS.get(reason, '')}".rstrip()
    else:
        sentence = unseen
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
