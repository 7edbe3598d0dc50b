"""Verbs without a store: pure filters that anyone can try on their own data."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from postwake.config import DEFAULT_PATH, Config, Tracking
from postwake.errors import CannotCreateError, DataError, NoInputError, UsageError
from postwake.reply.load import load_classifier
from postwake.settings import load_settings
from postwake.tokens import KeyRing, Privacy, Purpose
from postwake.tracking_id import format_tracking_id, make_tracking_id
from postwake_cli.output import flushing, ndjson

_BLOCK_BYTES = 1 << 20
TRY_OUT_KEYS = KeyRing({0: b"postwake try-out key, not secret"})
TRY_OUT_URL = "https://track.example.com"


def _settings(config_path: Path) -> tuple[Config, KeyRing]:
    """Return configuration and keys; without a configuration, those for trying out, and say so."""
    if config_path == DEFAULT_PATH and not config_path.exists():
        click.echo(f"postwake: no {DEFAULT_PATH}: using a try-out key and {TRY_OUT_URL}", err=True)
        return Config(tracking=Tracking(url=TRY_OUT_URL)), TRY_OUT_KEYS
    return load_settings(config_path)


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--output-dir", type=click.Path(path_type=Path, file_okay=False), help="Where many files go, under their names."
)
@click.option("--sender", default="", help="Envelope sender: its domain's settings apply.")
@click.option("--recipient", "recipients", multiple=True, help="Envelope recipient; repeat for several.")
@click.option("--explain", is_flag=True, help="Say what was done, one JSON line a message, on standard output.")
@click.pass_obj
def rewrite(
    config_path: Path,
    files: tuple[Path, ...],
    output_dir: Path | None,
    sender: str,
    recipients: tuple[str, ...],
    explain: bool,
) -> None:
    """Message in, message out, by the code the milter runs.

    Treats each message as outgoing mail of a tracked sender; the message itself can still say no. One FILE or standard
    input goes to standard output, many go to --output-dir. With --explain and no --output-dir, only the explanation is
    written.
    """
    from postwake_milter.handle import effective_privacy, make_plan
    from postwake_milter.mint import TokenMint
    from postwake_milter.rewrite.whole_message import read_header, rewrite_message

    names = files or (Path("-"),)
    if len(names) > 1 and output_dir is None and not explain:
        raise UsageError(f"{len(names)} files: expected --output-dir for more than one")
    if output_dir is not None:
        _check_names(names)
    config, keys = _settings(config_path)
    domain = sender.strip("<>").rpartition("@")[2].lower()
    alone = len({recipient.lower() for recipient in recipients}) <= 1
    plan = replace(make_plan(config, domain), shared=not alone)
    tracking = config.tracking_for(domain)
    for name in names:
        raw = _read(name)
        fields = [(item.name, item.value) for item in read_header(raw).fields]
        tracking_id = make_tracking_id(time.time_ns() // 1000, os.urandom(10))
        privacy = effective_privacy(Privacy.parse(tracking.privacy), fields)
        mint = TokenMint(keys, tracking.url, tracking_id, 1 if alone else 0, privacy)
        text_id = format_tracking_id(tracking_id)
        result, done = rewrite_message(raw, plan, mint, stamp=text_id.encode("ascii"))
        if output_dir is not None:
            _write(output_dir / name.name, result)
        elif not explain:
            sys.stdout.buffer.write(result)
        if explain:
            ndjson(
                [
                    {
                        "file": str(name),
                        "tracked": done.tracked,
                        "untracked_reason": done.untracked_reason,
                        "tracking_id": text_id if done.tracked else None,
                        "opens": done.opens,
                        "clicks": len(done.destinations),
                        "links_skipped": done.links_skipped,
                        "parts_rewritten": done.parts_rewritten,
                    }
                ]
            )


def _check_names(names: Iterable[Path]) -> None:
    seen: set[str] = set()
    for name in names:
        if name.name in seen:
            raise UsageError(f"{name}: a second file called {name.name}: expected different names for --output-dir")
        seen.add(name.name)


def _read(path: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise NoInputError(f"{path}: cannot read: {error.strerror}") from None


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise CannotCreateError(f"{path}: cannot write: {error.strerror}") from None


@click.command("parse-log")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--mta", type=click.Choice(("postfix", "exim", "auto")), default="auto", show_default=True, help="Whose log it is."
)
@click.option("--year", type=click.IntRange(1970, 9998), help="The year of the first line, for stamps that name none.")
@click.option("--timezone", help="The zone of stamps that name none, such as Europe/Berlin. Default: this machine's.")
@click.option("--stats", is_flag=True, help="A last line that counts lines by what became of them.")
def parse_log(files: tuple[Path, ...], mta: str, year: int | None, timezone: str | None, stats: bool) -> None:
    """Log lines in, NDJSON events out, no store.

    Files may be compressed (.gz, .bz2, .xz, .zst). They may be what journalctl printed: a form like a log file's, json
    or export.
    """
    from postwake_logparse.ndjson import parse_log as events

    streams = ((str(name), flushing(_blocks(name))) for name in files or (Path("-"),))
    ndjson(events(streams, mta=mta, year=year, timezone=timezone, now_us=time.time_ns() // 1000, stats=stats))


def _blocks(path: Path) -> Iterator[bytes]:
    from postwake_logparse.file_reader import compression_of

    try:
        with sys.stdin.buffer if str(path) == "-" else path.open("rb") as stream:
            block = os.read(stream.fileno(), _BLOCK_BYTES)  # what there is: the input may be a log that grows
            compression = compression_of(block) if path.is_file() else ""
            if compression:
                yield from _decompressed(path, compression)
                return
            while block:
                yield block
                block = os.read(stream.fileno(), _BLOCK_BYTES)
    except OSError as error:
        raise NoInputError(f"{path}: cannot read: {error.strerror}") from None


def _decompressed(path: Path, compression: str) -> Iterator[bytes]:
    from postwake_logparse.file_reader import open_reader

    reader = open_reader(path, compression)
    offset = 0
    try:
        while block := reader.pread(_BLOCK_BYTES, offset):
            offset += len(block)
            yield block
        if reader.error:
            raise DataError(reader.error)
    finally:
        reader.close()


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--rules", type=click.Path(path_type=Path, dir_okay=False), help="Your own rules, tried first.")
def classify(files: tuple[Path, ...], rules: Path | None) -> None:
    """Reply texts, one a line, in; NDJSON verdicts out."""
    from postwake.reply import classify_lines

    classifier = load_classifier(rules)
    for name in files or (Path("-"),):
        ndjson(classify_lines(flushing(_lines(name)), classifier))


def _lines(path: Path) -> Iterator[str]:
    r"""A file's lines as they come, ended by ``\n`` alone: a reply may hold any other character."""
    try:
        with sys.stdin.buffer if str(path) == "-" else path.open("rb") as stream:
            for line in stream:
                yield line.decode("utf-8", "replace")
    except OSError as error:
        raise NoInputError(f"{path}: cannot read: {error.strerror}") from None


@click.group()
def token() -> None:
    """Look into the tokens that stand in our URLs."""


@token.command("decode")
@click.argument("tokens", nargs=-1, required=True)
@click.pass_obj
def token_decode(config_path: Path, tokens: tuple[str, ...]) -> None:
    """What tokens say, NDJSON; a whole URL will do. Exit status 1 if one of them is not valid."""
    _, keys = _settings(config_path)
    rows = [_decoded(keys, text) for text in tokens]
    ndjson(rows)
    sys.exit(0 if all(row["valid"] for row in rows) else 1)


def _decoded(keys: KeyRing, text: str) -> dict[str, Any]:
    bare = text.rsplit("/", 1)[-1].removesuffix(".gif")
    found = keys.find(bare)
    if found is None:
        return {
            "token": bare,
            "valid": False,
            "purpose": None,
            "tracking_id": None,
            "recipient": None,
            "link": None,
            "url": None,
        }
    purpose, content = found
    return {
        "token": bare,
        "valid": True,
        "purpose": {Purpose.OPEN: "open", Purpose.CLICK: "click", Purpose.UNSUBSCRIBE: "unsubscribe"}[purpose],
        "tracking_id": format_tracking_id(content.tracking_id),
        "recipient": content.recipient or "shared",
        "link": content.link,
        "url": content.url or None,
    }
