# ruff: noqa: E501 (SQL is long)
"""How long a report over a year of a hundred million events takes.

    python bench/report.py [--events 100000000] [--recipient-domains 2000] [--rounds 5]

The store is made by plain SQL in a temporary folder: the rollups of a year, by hour, day and four weeks, for five sender domains,
twenty tags and so many recipient domains a day (a tenth of them an hour), and the failed attempts themselves (one event in 25), counted
by their replies, of which there are 2,000. Other events are not made, for no report reads them, nor are deliveries: of the addresses to
think about, which whole reports list too, there are none. Times are those of the command, start and all; other work on the machine
lengthens those by the clock, and to a lesser degree those of the processor.
"""

from __future__ import annotations

import argparse
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

from postwake.store.connection import migrate_file

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
REPLIES = 2000
WANTED_S = 1.0
QUESTIONS = (
    ("report", "--since", "365d"),
    ("report", "--since", "365d", "--json"),
    ("report", "--since", "365d", "--by", "sender-domain"),
    ("report", "--since", "365d", "--by", "tag"),
    ("report", "--since", "365d", "--by", "recipient-domain"),
    ("report", "--since", "365d", "--by", "recipient-domain", "--json"),
    ("report", "--unclassified"),
    ("report", "--since", "365d", "--text"),
    ("report", "--since", "365d", "--html", "-"),
)


def main() -> int:
    """Make the store, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=100_000_000)
    parser.add_argument("--recipient-domains", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="postwake-bench-"))
    try:
        store = folder / "year.db"
        migrate_file(store)
        started = time.perf_counter()
        with closing(sqlite3.connect(store, isolation_level=None)) as connection:
            rows = fill(connection, options.events, options.recipient_domains)
        print(
            f"store: {options.events:,} events' rollups ({rows:,} rows) and {options.events // 25:,} failed attempts,"
            f" made in {time.perf_counter() - started:.0f} s, {store.stat().st_size >> 20} MiB"
        )
        configuration = folder / "postwake.toml"
        configuration.write_text(f'[store]\npath = "{store}"\n[tracking]\nurl = "https://t.example.org"\n')
        for question in QUESTIONS:
            runs = [ask(configuration, question) for _ in range(options.rounds)]
            wall_s, cpu_s = median(run[0] for run in runs), median(run[1] for run in runs)
            print(f"  {' '.join(question):55}  {wall_s:5.2f} s, {cpu_s:5.2f} s processor; wanted: under {WANTED_S:g} s")
            sys.stdout.flush()
    finally:
        shutil.rmtree(folder)
    return 0


def ask(configuration: Path, question: tuple[str, ...]) -> tuple[float, float]:
    """Return how long the command takes by the clock and by processor time, in seconds."""
    command = [sys.executable, "-m", "postwake_cli", "--config", str(configuration), *question]
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, cpu_s


def fill(connection: sqlite3.Connection, events: int, recipient_domains: int) -> int:
    """Fill rollups and failed attempts of the year before today; return how many rollup rows there are."""
    execute = connection.execute
    execute("PRAGMA journal_mode = OFF")
    execute("PRAGMA synchronous = OFF")
    execute("PRAGMA cache_size = -400000")
    first_us = (time.time_ns() // 1000 // DAY_US - 364) * DAY_US
    cohort = ("messages", "sent", "deferred", "bounced", "expired", "opened_human", "opened_any", "clicked_human")
    event = ("accepted", "sent", "deferred", "bounced", "expired", "opened.human", "opened.machine", "clicked.human")
    execute("BEGIN")
    for basis, measures in (("cohort", cohort), ("event", event)):
        for span, unit_us, number in (("day", DAY_US, 365), ("hour", HOUR_US, 365 * 24)):
            for dimension, keys, kept in (
                ("all", 1, measures),
                ("sender_domain", 5, measures),
                ("tag", 20, measures),
                ("category", 15, ("deferred", "bounced")),
                ("kind", 3, ("deferred", "bounced")),
                ("recipient_domain", recipient_domains // (1 if span == "day" else 10), measures[1:4]),
            ):
                key = "''" if dimension == "all" else f"printf('{dimension}%d.example', k.i)"
                for measure in sorted(kept):
                    execute(
                        f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {number}),"
                        f" k(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM k WHERE i + 1 < {keys})"
                        " INSERT INTO rollup (basis, span, dimension, start_us, key, measure, n)"
                        f" SELECT ?, ?, ?, {first_us} + n.i * {unit_us}, {key}, ?, ? FROM n CROSS JOIN k",
                        (basis, span, dimension, measure, max(1, events // number // keys // 20)),
                    )
    execute(
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {REPLIES})"
        " INSERT INTO reply (id, text, code, category, rule) SELECT i, printf('550 5.1.%d reply {} of a server', i), 550,"
        " iif(i % 10, 'policy', 'unclassified'), printf('rule-%d', i) FROM n"
    )
    failed = events // 25
    execute(
        f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {failed})"
        " INSERT INTO event (id, at_us, type, message, delivery, reply, reply_part)"
        f" SELECT i + 1, {first_us} + i * {365 * DAY_US // failed}, 4 + i % 2, i, i,"
        # Few replies are common, many rare: the square of an even spread.
        f" 1 + CAST({REPLIES} * (i * 7919 % 10007 / 10007.0) * (i * 7919 % 10007 / 10007.0) AS INTEGER), printf('%x', i) FROM n"
    )
    execute(
        "INSERT INTO rollup (basis, span, dimension, start_us, key, measure, n)"
        f" SELECT 'event', 'hour', 'reply', at_us - at_us % {HOUR_US}, CAST(reply AS TEXT), iif(type = 4, 'deferred', 'bounced'), count(*)"
        " FROM event GROUP BY 4, 5, 6"
    )
    for below, span, unit_us, dimensions in (
        ("hour", "day", DAY_US, "('reply')"),
        ("day", "4weeks", 28 * DAY_US, "('sender_domain', 'tag', 'recipient_domain', 'reply')"),
    ):
        execute(
            "INSERT INTO rollup (basis, span, dimension, start_us, key, measure, n)"
            f" SELECT basis, ?, dimension, start_us - start_us % {unit_us}, key, measure, sum(n) FROM rollup"
            f" WHERE span = ? AND dimension IN {dimensions} GROUP BY 1, 3, 4, 5, 6",
            (span, below),
        )
    execute("COMMIT")
    execute("PRAGMA journal_mode = WAL")
    return int(execute("SELECT count(*) FROM rollup").fetchone()[0])


if __name__ == "__main__":
    sys.exit(main())
