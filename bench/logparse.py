# ruff: noqa: E501 (SQL and figures in sentences are long)
"""Log ingestion against pflogsumm, into small and big stores, and live.

    PYTHONPATH=lab python bench/logparse.py [--lines 1000000] [--deliveries 10000000] [--seconds 20] [--only backfill big live]

backfill
    one generated log (bench/make_log.py) into an empty store, in turns with pflogsumm on the same file: lines a second,
    their ratio, and peak memory, which is that of all processes together (proportional set size, looked at 20 times a
    second; so are pflogsumm's).
big
    a third of that log into a store that holds ten million deliveries of the year before, in turns with an empty one.
    The big store is made by plain SQL, indexes last, with the rows (messages, deliveries, the events of both, in their
    order), the indexes and the rollups that ingesting would have given: some 2.6 GB in the temporary folder.
live
    the service follows a log that a writer fills at 2,000 lines a second: how long until a delivery can be read from the
    store, and the share of a core that this takes (from /proc, the service alone).

Everything takes about ten minutes. Other work on the machine slows all of it: the ratios are of medians of runs that took turns, by the
clock (where the backfill gains from a second core, if that is free) and by processor time. What is wanted stands behind.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import NamedTuple

from postwake.events import EventType
from postwake.store.connection import migrate_file

HERE = Path(__file__).parent
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class Run(NamedTuple):
    """What one process took."""

    wall_s: float
    cpu_s: float
    pss_mib: float


def main() -> int:
    """Run what was asked for and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--deliveries", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=("backfill", "big", "live"), default=("backfill", "big", "live"))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="postwake-bench-"))
    try:
        log = folder / "mail.log"
        if "backfill" in options.only or "big" in options.only:
            make_log(log, options.lines, seed=1)
        if "backfill" in options.only:
            against_pflogsumm(folder, log, options.rounds)
        if "big" in options.only:
            big_store(folder, log, options.deliveries, options.rounds)
        if "live" in options.only:
            live(folder, options.seconds)
    finally:
        shutil.rmtree(folder)
    return 0


def make_log(path: Path, lines: int, seed: int) -> None:
    """Generate the log of a busy relay."""
    command = [sys.executable, str(HERE / "make_log.py"), "--lines", str(lines), "--seed", str(seed)]
    with path.open("wb") as file:
        subprocess.run(command, stdout=file, check=True)


def configure(folder: Path, store: Path, log: Path) -> Path:
    """Write a configuration file."""
    path = folder / f"{store.stem}.toml"
    path.write_text(
        f'[store]\npath = "{store}"\n[tracking]\nurl = "https://t.example.org"\n'
        '[mta]\ninternal_networks = ["10.0.0.0/8", "127.0.0.0/8"]\n'
        f'[metrics]\nlogparse = ""\n[logparse]\npath = "{log}"\nmta = "postfix"\n'
    )
    return path


def measure(*command: str) -> Run:
    """Run *command* to its end."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak_kib = 0
    while process.poll() is None:
        peak_kib = max(peak_kib, sum(memory_kib(pid) for pid in family(process.pid)))
        time.sleep(0.05)
    wall_s = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise SystemExit(f"{command[0]}: ended with status {process.returncode}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(wall_s, cpu_s, peak_kib / 1024)


def family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    found = [pid]
    for member in found:
        try:
            found += [int(child) for child in Path(f"/proc/{member}/task/{member}/children").read_text().split()]
        except OSError:
            continue
    return found


def memory_kib(pid: int) -> int:
    """Return a process's proportional set size: pages that several share count in parts."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0  # it has just ended
    return int(text.partition("\nPss:")[2].split(maxsplit=1)[0]) if "\nPss:" in text else 0


def backfill(folder: Path, store: Path, log: Path) -> Run:
    """Backfill *log* into *store*."""
    configuration = configure(folder, store, log)
    return measure(
        sys.executable,
        "-m",
        "postwake_cli",
        "--config",
        str(configuration),
        "logparse",
        "--backfill",
        "--year",
        "2026",
        str(log),
    )


def empty_store(folder: Path) -> Path:
    """Make an empty store."""
    path = folder / "empty.db"
    for old in folder.glob("empty.db*"):
        old.unlink()
    migrate_file(path)
    return path


def against_pflogsumm(folder: Path, log: Path, rounds: int) -> None:
    """Backfill and pflogsumm in turns."""
    lines = count_lines(log)
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(backfill(folder, empty_store(folder), log))
        if shutil.which("pflogsumm"):
            theirs.append(measure("pflogsumm", str(log)))
    print(f"backfill: {lines:,} lines, {log.stat().st_size >> 20} MiB, {rounds} rounds")
    for name, runs in (("postwake", ours), ("pflogsumm", theirs)):
        for run in runs:
            print(
                f"  {name:9}  {lines / run.wall_s:9,.0f} lines/s  {run.wall_s:6.2f} s wall  {run.cpu_s:6.2f} s processor"
                f"  {run.pss_mib:5.0f} MiB peak"
            )
    if theirs:
        print(f"  postwake/pflogsumm in lines/s: {ratio(theirs, ours)}; wanted: 1, better 2")
    print(f"  memory: {max(run.pss_mib for run in ours):.0f} MiB at most; wanted: under 80")
    sys.stdout.flush()


def ratio(slow: list[Run], fast: list[Run]) -> str:
    """Say how much less time *fast* took than *slow*, in medians."""
    by_clock = median(run.wall_s for run in slow) / median(run.wall_s for run in fast)
    by_cpu = median(run.cpu_s for run in slow) / median(run.cpu_s for run in fast)
    return f"{by_clock:.2f} by the clock, {by_cpu:.2f} by processor time"


def count_lines(log: Path) -> int:
    """Count newlines."""
    with log.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def big_store(folder: Path, log: Path, deliveries: int, rounds: int) -> None:
    """The same log into a store with many deliveries, and into an empty one, in turns."""
    big = folder / "big.db"
    migrate_file(big)
    started = time.perf_counter()
    fill(big, deliveries)
    print(
        f"big: store with {deliveries:,} deliveries made in {time.perf_counter() - started:.0f} s,"
        f" {big.stat().st_size >> 20} MiB"
    )
    small, large = [], []
    for number in range(rounds):
        # Another log each time: the first would not be read again.
        again = folder / f"again{number}.log"
        make_log(again, min(count_lines(log), 300_000), seed=100 + number)
        small.append(backfill(folder, empty_store(folder), again))
        large.append(backfill(folder, big, again))
        print(
            f"  empty {small[-1].wall_s:.2f} s, {small[-1].cpu_s:.2f} s processor; big {large[-1].wall_s:.2f} s, {large[-1].cpu_s:.2f} s processor"
        )
    print(f"  rate into the big store / into an empty one: {ratio(small, large)}; wanted: 0.85")
    sys.stdout.flush()
    big.unlink()


def fill(store: Path, deliveries: int, recipients: int = 5) -> None:
    """Write messages of the year before the log, five recipients each, with their events; indexes at the end."""
    messages = deliveries // recipients
    year_us = 365 * 86_400_000_000
    first_us = 1_772_323_200_000_000 - year_us  # the generated log begins on 1 March 2026
    with closing(sqlite3.connect(store, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -200000")
        indexes = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
            " AND tbl_name IN ('message', 'delivery', 'event')"
        ).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        connection.execute("BEGIN")
        numbers = f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {messages})"
        at = f"({first_us} + i * {year_us // messages})"
        connection.execute(
            "INSERT INTO message (id, at_us, direction, host, queue_id, message_id, sender, domain, recipients, size_bytes, client, removed_us)"
            f" {numbers} SELECT i + 1, {at}, 1, 'mx1', printf('%012X', i * 2654435761 % 281474976710656),"
            f" printf('%x.%d@shop.example', i * 40503, i), 'bounce@shop.example', 'shop.example', 5, 20000, 'app1.shop.example[10.0.1.1]', {at} FROM n"
        )
        connection.execute("CREATE TEMP TABLE five (r INTEGER)")
        connection.executemany("INSERT INTO five VALUES (?)", [(number,) for number in range(recipients)])
        connection.execute(
            "INSERT INTO delivery (id, message, recipient, idx, state, attempts, at_us, first_attempt_us, last_attempt_us, last_event)"
            f" {numbers} SELECT i * {recipients} + r + 1, i + 1, printf('u%d@example%d.org', i * 7919 % 10000019, r), r, 1, 1,"
            f" {at}, {at}, {at}, i * {recipients + 1} + r + 2 FROM n CROSS JOIN five"
        )
        connection.execute("INSERT OR IGNORE INTO relay VALUES (1, 'mx.example.org[192.0.2.1]:25')")
        connection.execute(
            "INSERT OR IGNORE INTO reply (id, text, code, dsn) VALUES (1, '250 2.0.0 Ok: queued as {}', 250, '2.0.0')"
        )
        connection.execute(
            "INSERT INTO event (id, at_us, type, message, delivery, relay, reply, reply_part, delay_us, before_qmgr_us, in_qmgr_us,"
            f" connect_us, transmit_us) {numbers} SELECT i * {recipients + 1} + r + 2, {at}, iif(r < 0, {EventType.ACCEPTED:d},"
            f" {EventType.SENT:d}), i + 1, iif(r < 0, NULL, i * {recipients} + r + 1), iif(r < 0, NULL, 1), iif(r < 0, NULL, 1),"
            " iif(r < 0, NULL, printf('%012X', i)), iif(r < 0, NULL, 900000), iif(r < 0, NULL, 100000), iif(r < 0, NULL, 10000),"
            " iif(r < 0, NULL, 400000), iif(r < 0, NULL, 390000) FROM n CROSS JOIN (SELECT -1 AS r UNION ALL SELECT r FROM five)"
        )
        for _, sql in indexes:
            connection.execute(sql)
        fill_rollups(connection, first_us, deliveries)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")


def fill_rollups(connection: sqlite3.Connection, first_us: int, deliveries: int) -> None:
    """Count the big store's deliveries as if they had come evenly: a year of hours, days, four weeks and the whole."""
    hour_us = 3_600_000_000
    spans = (("hour", hour_us, 365 * 24), ("day", 24 * hour_us, 365), ("4weeks", 28 * 24 * hour_us, 13), ("all", 1, 1))
    for span, unit_us, number in spans:
        start_us = 0 if span == "all" else first_us - first_us % unit_us
        for dimension, keys in (("all", 1), ("sender_domain", 1), ("recipient_domain", 5)):
            if (span, dimension) in (("4weeks", "all"), ("all", "recipient_domain")):
                continue
            key = {"all": "''", "sender_domain": "'shop.example'"}.get(dimension, "printf('example%d.org', k.i)")
            for basis, measure in (
                ("event", "sent"),
                ("event", "accepted"),
                ("cohort", "sent"),
                ("cohort", "messages"),
            ):
                connection.execute(
                    f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {number}),"
                    f" k(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM k WHERE i + 1 < {keys})"
                    " INSERT INTO rollup (basis, span, dimension, start_us, key, measure, n)"
                    f" SELECT ?, ?, ?, {start_us} + n.i * {unit_us}, {key}, ?, ? FROM n CROSS JOIN k",
                    (basis, span, dimension, measure, deliveries // number // keys),
                )


def live(folder: Path, seconds: int, rate: int = 2000) -> None:
    """Follow a log that grows at *rate* lines a second."""
    source = folder / "source.log"
    make_log(source, rate * (seconds + 5), seed=7)
    lines = source.read_bytes().splitlines(keepends=True)
    log = folder / "live.log"
    log.touch()
    store = folder / "live.db"
    migrate_file(store)
    configuration = configure(folder, store, log)
    command = [sys.executable, "-m", "postwake_cli", "--config", str(configuration), "logparse"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    waits: list[float] = []
    try:
        with log.open("ab", buffering=0) as file, closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as reader:
            probe(file, reader, 0, 30.0)  # it is up
            before, started = processor_s(process.pid), time.perf_counter()
            written = 0
            number = 1
            while (now := time.perf_counter() - started) < seconds:
                due = int(now * rate)
                while written < due:
                    file.write(lines[written])
                    written += 1
                if now >= number * 0.5:
                    waits.append(probe(file, reader, number, 10.0))
                    number += 1
                time.sleep(0.002)
            took = time.perf_counter() - started
            used = processor_s(process.pid) - before
    finally:
        process.terminate()
        process.wait()
    waits.sort()
    print(
        f"live: {written / took:,.0f} lines/s for {took:.0f} s; a delivery is in the store after {waits[len(waits) // 2] * 1000:.0f} ms"
        f" (median), {waits[-1] * 1000:.0f} ms at most ({len(waits)} looks); {used / took:.1%} of a core; wanted: under a second, under 15 %"
    )


def probe(file: object, reader: sqlite3.Connection, number: int, patience_s: float) -> float:
    """Write a delivery and return how long it takes until it can be read from the store."""
    stamp = time.strftime("%b %e %H:%M:%S")
    recipient = f"probe{number}@example.org"
    file.write(  # type: ignore[attr-defined]
        f"{stamp} mx1 postfix/smtp[7]: {0xABCDE00000 + number:X}: to=<{recipient}>, relay=mx.example.org[192.0.2.1]:25, delay=1,"
        " delays=0/0/0/1, dsn=2.0.0, status=sent (250 2.0.0 Ok)\n".encode()
    )
    started = time.perf_counter()
    while time.perf_counter() - started < patience_s:
        if reader.execute(
            "SELECT 1 FROM delivery WHERE recipient = ? AND id > (SELECT max(id) - 20000 FROM delivery)", (recipient,)
        ).fetchone():
            return time.perf_counter() - started
        time.sleep(0.005)
    raise SystemExit(f"the delivery to {recipient} was not in the store after {patience_s} s")


def processor_s(pid: int) -> float:
    """Return the processor time that a process has used, threads and all."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


if __name__ == "__main__":
    sys.exit(main())
