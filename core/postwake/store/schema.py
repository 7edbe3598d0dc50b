"""The tables and the people's views, as numbered migrations.

``PRAGMA user_version`` holds the number of the last migration, so that a daemon can tell in one read whether
the file is its own; sqlite-utils' ``Migrations`` keeps names and dates.

A migration that was released never changes, nor do the texts it runs: files out there have had it. Whatever a fresh
store is to have more is a migration of its own, and gets its golden dump (tests/golden/schema).

Why the indexes look as they do: every index whose key is random (queue IDs, Message-IDs, addresses) begins with
the UTC hour. Inserts then stay within the current hour's few pages, however many years the file holds, and a
look-up probes one key per hour: a year's 8,760 take a tenth of a second.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from postwake.events import Direction, EventType, State, Who
from postwake.tokens import Privacy

if TYPE_CHECKING:
    from sqlite_utils import Database

DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
FOUR_WEEKS_US = 28 * DAY_US
"""The rollups' longest span but all time: of a year's report the fewest rows are read with this one."""

APPLICATION_ID = 0x506F7377
"""``Posw`` in the file's header (``PRAGMA application_id``): many programs' files have a ``user_version`` of 1."""

migrations: dict[str, Callable[[Database], None]] = {}
"""By name, in the order in which they are applied."""


def _migration(function: Callable[[Database], None]) -> Callable[[Database], None]:
    migrations[function.__name__] = function
    return function


_TABLES = """
CREATE TABLE message (
  id INTEGER PRIMARY KEY,
  at_us INTEGER NOT NULL,
  direction INTEGER NOT NULL DEFAULT 0,
  tracking_id BLOB,
  host TEXT,
  queue_id TEXT,
  message_id TEXT,
  sender TEXT,
  domain TEXT,
  recipients INTEGER,
  size_bytes INTEGER,
  client TEXT,
  sasl_username TEXT,
  subject TEXT,
  tag TEXT,
  campaign TEXT,
  metadata TEXT,
  tracked INTEGER NOT NULL DEFAULT 0,
  untracked_reason TEXT,
  privacy INTEGER,
  pixels INTEGER,
  links INTEGER,
  links_skipped TEXT,
  parts_rewritten INTEGER,
  rewrite_us INTEGER,
  parent INTEGER,
  merged_into INTEGER,
  removed_us INTEGER
);
CREATE UNIQUE INDEX message_tracking_id ON message (tracking_id) WHERE tracking_id IS NOT NULL;
CREATE INDEX message_queue_id ON message (at_us / 86400000000, queue_id);
CREATE INDEX message_message_id ON message (at_us / 86400000000, message_id) WHERE message_id IS NOT NULL;
CREATE INDEX message_merged_into ON message (merged_into) WHERE merged_into IS NOT NULL;

CREATE TABLE delivery (
  id INTEGER PRIMARY KEY,
  message INTEGER NOT NULL,
  recipient TEXT NOT NULL,
  original_recipient TEXT,
  idx INTEGER NOT NULL DEFAULT 0,
  state INTEGER NOT NULL DEFAULT 0,
  attempts INTEGER NOT NULL DEFAULT 0,
  at_us INTEGER NOT NULL,
  first_attempt_us INTEGER,
  last_attempt_us INTEGER,
  last_event INTEGER
);
CREATE INDEX delivery_message ON delivery (message);
CREATE INDEX delivery_recipient ON delivery (at_us / 86400000000, recipient COLLATE NOCASE);

CREATE TABLE event (
  id INTEGER PRIMARY KEY,
  at_us INTEGER NOT NULL,
  type INTEGER NOT NULL,
  message INTEGER,
  delivery INTEGER,
  relay INTEGER,
  reply INTEGER,
  reply_part TEXT,
  delay_us INTEGER,
  before_qmgr_us INTEGER,
  in_qmgr_us INTEGER,
  connect_us INTEGER,
  transmit_us INTEGER,
  who INTEGER,
  reason TEXT,
  link INTEGER,
  url INTEGER,
  user_agent INTEGER,
  client TEXT,
  recipient_idx INTEGER,
  hit_id BLOB,
  detail TEXT
);
CREATE INDEX event_message ON event (message);
CREATE INDEX event_failed ON event (at_us, reply) WHERE type IN (4, 5, 6);
CREATE UNIQUE INDEX event_hit_id ON event (hit_id) WHERE hit_id IS NOT NULL;

CREATE TABLE engagement (
  message INTEGER NOT NULL,
  recipient_idx INTEGER NOT NULL,
  opens_human INTEGER NOT NULL DEFAULT 0,
  opens_machine INTEGER NOT NULL DEFAULT 0,
  opens_unknown INTEGER NOT NULL DEFAULT 0,
  clicks_human INTEGER NOT NULL DEFAULT 0,
  clicks_machine INTEGER NOT NULL DEFAULT 0,
  clicks_unknown INTEGER NOT NULL DEFAULT 0,
  first_open_us INTEGER,
  first_click_us INTEGER,
  unsubscribed_us INTEGER,
  complained_us INTEGER,
  PRIMARY KEY (message, recipient_idx)
) WITHOUT ROWID;

CREATE TABLE rollup (
  basis TEXT NOT NULL,
  span TEXT NOT NULL,
  dimension TEXT NOT NULL,
  start_us INTEGER NOT NULL,
  key TEXT NOT NULL,
  measure TEXT NOT NULL,
  n INTEGER NOT NULL,
  PRIMARY KEY (basis, span, dimension, start_us, key, measure)
) WITHOUT ROWID;

CREATE TABLE relay (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE url (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE user_agent (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE reply (
  id INTEGER PRIMARY KEY,
  text TEXT NOT NULL,
  code INTEGER,
  dsn TEXT,
  kind TEXT,
  fault TEXT,
  category TEXT,
  provider TEXT,
  rule TEXT
);
CREATE UNIQUE INDEX reply_text ON reply (text, coalesce(code, 0), coalesce(dsn, ''), coalesce(rule, ''));

CREATE TABLE relabel (
  id INTEGER PRIMARY KEY,
  event INTEGER NOT NULL,
  at_us INTEGER NOT NULL,
  who_before INTEGER,
  reason_before TEXT
);
CREATE INDEX relabel_event ON relabel (event);

CREATE TABLE cursor (source TEXT PRIMARY KEY, state TEXT NOT NULL, at_us INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE queue (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  queue_id TEXT NOT NULL,
  at_us INTEGER NOT NULL,
  message INTEGER,
  state TEXT
);
CREATE INDEX queue_message ON queue (message);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE event_type (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE state (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE direction (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE who (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE privacy (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
"""

_REPLY = "replace(reply.text, '{}', coalesce(event.reply_part, '{}'))"
_TIME = "strftime('%Y-%m-%dT%H:%M:%fZ', {0} / 1e6, 'unixepoch')"

_VIEWS = f"""
CREATE VIEW messages AS
SELECT message.id, {_TIME.format("message.at_us")} AS at, direction.name AS direction, lower(hex(tracking_id)) AS tracking_id,
  host, queue_id, message_id, sender, domain, recipients, subject, tag, campaign, metadata, size_bytes, client, sasl_username,
  tracked, untracked_reason, privacy.name AS privacy, pixels, links, links_skipped, message.at_us
FROM message JOIN direction ON direction.id = message.direction LEFT JOIN privacy ON privacy.id = message.privacy
WHERE merged_into IS NULL;

CREATE VIEW deliveries AS
SELECT delivery.id, delivery.message, {_TIME.format("delivery.at_us")} AS at, message.sender, delivery.recipient,
  delivery.original_recipient, state.name AS state, attempts, {_TIME.format("last_attempt_us")} AS last_attempt,
  relay.text AS relay, reply.code, reply.dsn, {_REPLY} AS reply, reply.kind, reply.fault, reply.category, reply.provider,
  event.delay_us / 1e6 AS delay_s, message.queue_id, message.message_id, message.subject, message.tag, delivery.at_us
FROM delivery JOIN message ON message.id = delivery.message JOIN state ON state.id = delivery.state
LEFT JOIN event ON event.id = delivery.last_event LEFT JOIN reply ON reply.id = event.reply LEFT JOIN relay ON relay.id = event.relay
WHERE message.merged_into IS NULL;

CREATE VIEW opens AS
SELECT event.id, {_TIME.format("event.at_us")} AS at, event.message, delivery.recipient, who.name AS who, reason,
  user_agent.text AS user_agent, event.client, message.subject, message.tag, event.at_us
FROM event LEFT JOIN message ON message.id = event.message LEFT JOIN delivery ON delivery.id = event.delivery
JOIN who ON who.id = event.who LEFT JOIN user_agent ON user_agent.id = event.user_agent
WHERE event.type = {EventType.OPENED:d};

CREATE VIEW clicks AS
SELECT event.id, {_TIME.format("event.at_us")} AS at, event.message, delivery.recipient, event.link, url.text AS url, who.name AS who,
  reason, user_agent.text AS user_agent, event.client, message.subject, message.tag, event.at_us
FROM event LEFT JOIN message ON message.id = event.message LEFT JOIN delivery ON delivery.id = event.delivery
JOIN who ON who.id = event.who LEFT JOIN url ON url.id = event.url LEFT JOIN user_agent ON user_agent.id = event.user_agent
WHERE event.type = {EventType.CLICKED:d};

CREATE VIEW events AS
SELECT event.id, {_TIME.format("event.at_us")} AS at, event_type.name AS type, event.message, lower(hex(message.tracking_id)) AS tracking_id,
  message.queue_id, message.message_id, message.sender, delivery.recipient, relay.text AS relay, reply.code, reply.dsn,
  {_REPLY} AS reply, reply.kind, reply.category, event.delay_us / 1e6 AS delay_s, who.name AS who, event.reason, url.text AS url,
  event.detail, event.at_us
FROM event JOIN event_type ON event_type.id = event.type LEFT JOIN message ON message.id = event.message
LEFT JOIN delivery ON delivery.id = event.delivery LEFT JOIN relay ON relay.id = event.relay LEFT JOIN reply ON reply.id = event.reply
LEFT JOIN who ON who.id = event.who LEFT JOIN url ON url.id = event.url;

CREATE VIEW daily AS
SELECT strftime('%Y-%m-%d', start_us / 1e6, 'unixepoch') AS day,
  sum(n) FILTER (WHERE measure = 'accepted') AS accepted,
  sum(n) FILTER (WHERE measure = 'sent') AS sent,
  sum(n) FILTER (WHERE measure = 'deferred') AS deferrals,
  sum(n) FILTER (WHERE measure IN ('bounced', 'expired')) AS bounced,
  sum(n) FILTER (WHERE measure = 'opened.human') AS opens_human,
  sum(n) FILTER (WHERE measure = 'opened.machine') AS opens_machine,
  sum(n) FILTER (WHERE measure = 'opened.unknown') AS opens_unknown,
  sum(n) FILTER (WHERE measure = 'clicked.human') AS clicks_human,
  sum(n) FILTER (WHERE measure = 'clicked.machine') AS clicks_machine,
  sum(n) FILTER (WHERE measure = 'clicked.unknown') AS clicks_unknown,
  sum(n) FILTER (WHERE measure = 'unsubscribed') AS unsubscribed,
  sum(n) FILTER (WHERE measure = 'complained') AS complained
FROM rollup WHERE basis = 'event' AND span = 'day' AND dimension = 'all' GROUP BY start_us ORDER BY start_us;
"""


def _run(db: Database, script: str) -> None:
    # Not executescript(): it commits, and a migration is one transaction.
    for statement in script.split(";\n"):
        if statement.strip():
            db.conn.execute(statement)


@_migration
def m001_first(db: Database) -> None:
    """Everything."""
    _run(db, _TABLES)
    _run(db, _VIEWS)


@_migration
def m002_readers_by_recipient_domain(db: Database) -> None:
    """``engagement.domain``: who opened and clicked is counted by recipient domain, too; what is there is counted now.

    So is, in every dimension, whose reader may have been a person (``opened_possible``, ``clicked_possible``): the first
    schema's rollups have no such count. Then an index for the question who unsubscribed when; and replies are told apart
    by provider, who had all been taken for the first that said the same.
    """
    execute = db.conn.execute
    # What a migration does stays as it is, whatever becomes of the code: nothing is called from here.
    db.conn.create_function(
        "domain_of", 1, lambda text: text.rpartition("@")[2].lower() if "@" in text else "", deterministic=True
    )
    execute("ALTER TABLE engagement ADD COLUMN domain TEXT")
    execute("CREATE INDEX engagement_unsubscribed ON engagement (unsubscribed_us) WHERE unsubscribed_us IS NOT NULL")
    execute("DROP INDEX reply_text")
    execute(
        "CREATE UNIQUE INDEX reply_text ON reply"
        " (text, coalesce(code, 0), coalesce(dsn, ''), coalesce(rule, ''), coalesce(provider, ''))"
    )
    execute(
        "UPDATE engagement SET domain = (SELECT nullif(min(domain_of(recipient)), '') FROM delivery"
        " WHERE delivery.message = engagement.message AND (recipient_idx = 0 OR idx = recipient_idx)"
        " HAVING min(domain_of(recipient)) = max(domain_of(recipient)))"
    )
    facts = {
        "opened_human": "opens_human + clicks_human > 0",
        "opened_possible": "opens_human + opens_unknown + clicks_human + clicks_unknown > 0",
        "opened_any": "opens_human + opens_machine + opens_unknown + clicks_human + clicks_machine + clicks_unknown > 0",
        "clicked_human": "clicks_human > 0",
        "clicked_possible": "clicks_human + clicks_unknown > 0",
        "clicked_any": "clicks_human + clicks_machine + clicks_unknown > 0",
        "unsubscribed": "unsubscribed_us IS NOT NULL",
        "complained": "complained_us IS NOT NULL",
    }
    execute(
        f"CREATE TEMP TABLE readers AS SELECT message.at_us - (message.at_us % {HOUR_US} + {HOUR_US}) % {HOUR_US} AS hour_us,"
        f" direction = {Direction.INBOUND:d} AS inbound, message.domain AS sender_domain, tag, engagement.domain AS recipient_domain,"
        f" {', '.join(f'sum({fact}) AS {measure}' for measure, fact in facts.items())}"
        " FROM engagement JOIN message ON message.id = engagement.message GROUP BY 1, 2, 3, 4, 5"
    )
    starts = {"hour": "hour_us", "day": f"hour_us - (hour_us % {DAY_US} + {DAY_US}) % {DAY_US}", "all": "0"}

    def count(measure: str, n: str, dimension: str, key: str, where: str) -> None:
        for span, start in starts.items():
            execute(
                "INSERT INTO rollup (basis, span, dimension, start_us, key, measure, n)"
                f" SELECT 'cohort', '{span}', '{dimension}', {start}, {key}, '{measure}', sum({n}) FROM readers"
                f" WHERE {where} GROUP BY 4, 5 HAVING sum({n}) > 0 ON CONFLICT DO UPDATE SET n = n + excluded.n"
            )

    for kind in ("opened", "clicked"):
        # Of mail that was purged only rollups are left: of its readers who may have been people, those who were.
        execute(
            "INSERT INTO rollup (basis, span, dimension, start_us, key, measure, n)"
            f" SELECT basis, span, dimension, start_us, key, '{kind}_possible', n FROM rollup"
            f" WHERE basis = 'cohort' AND measure = '{kind}_human'"
        )
        measure, more = f"{kind}_possible", f"{kind}_possible - {kind}_human"
        count(measure, more, "inbound", "''", "inbound")
        count(measure, more, "all", "''", "NOT inbound")
        count(measure, more, "sender_domain", "sender_domain", "NOT inbound AND sender_domain <> ''")
        count(measure, more, "tag", "tag", "NOT inbound AND tag <> ''")
    for measure in facts:
        count(measure, measure, "recipient_domain", "recipient_domain", "NOT inbound AND recipient_domain IS NOT NULL")
    execute("DROP TABLE readers")


@_migration
def m003_look_ups_by_the_hour(db: Database) -> None:
    """Indexes with random keys begin with the hour instead of the day.

    A busy server's day is more than the page cache holds: each message cost three pages read and written twice.
    """
    for name in ("message_queue_id", "message_message_id", "delivery_recipient"):
        db.conn.execute(f"DROP INDEX {name}")
    _run(
        db,
        "CREATE INDEX message_queue_id ON message (at_us / 3600000000, queue_id);\n"
        "CREATE INDEX message_message_id ON message (at_us / 3600000000, message_id) WHERE message_id IS NOT NULL;\n"
        "CREATE INDEX delivery_recipient ON delivery (at_us / 3600000000, recipient COLLATE NOCASE);\n",
    )


@_migration
def m004_four_weeks_and_replies(db: Database) -> None:
    """Rollups by four weeks where keys are many, by the reply of failed attempts, and an index for the newest with a reply.

    A report over a year then reads some weeks, where it read each day and each failed attempt. Counts for all time go
    where nothing reads them: writing costs what it did.
    """
    execute = db.conn.execute
    # Times before 1970 are rounded down, too. What is grouped is sorted in files: memory stays bounded.
    floor = "{0} - ({0} % {1} + {1}) % {1}"
    execute(
        "INSERT INTO rollup (basis, span, dimension, start_us, key, measure, n)"
        f" SELECT 'event', 'hour', 'reply', {floor.format('at_us', HOUR_US)}, CAST(reply AS TEXT),"
        " CASE type WHEN 4 THEN 'deferred' WHEN 5 THEN 'bounced' ELSE 'expired' END, count(*) FROM event INDEXED BY event_failed"
        " WHERE type IN (4, 5, 6) AND reply IS NOT NULL GROUP BY 4, 5, 6"
    )
    many = "dimension IN ('sender_domain', 'recipient_domain', 'tag', 'reply')"
    for span, below, unit_us, which in (
        ("day", "hour", DAY_US, "dimension = 'reply'"),
        ("4weeks", "day", 28 * DAY_US, many),
    ):
        execute(
            "INSERT INTO rollup (basis, span, dimension, start_us, key, measure, n)"
            f" SELECT basis, '{span}', dimension, {floor.format('start_us', unit_us)}, key, measure, sum(n) FROM rollup"
            f" WHERE basis IN ('cohort', 'event') AND span = '{below}' AND {which} GROUP BY 1, 3, 4, 5, 6"
        )
    execute("DELETE FROM rollup WHERE span = 'all' AND dimension IN ('recipient_domain', 'tag')")
    execute("CREATE INDEX event_reply ON event (reply, at_us) WHERE type IN (4, 5, 6)")


def _name_numbers(db: Database) -> None:
    """Write down the names of the numbers that events, states and the like are stored as, for people's SQL."""
    for table, members in (("event_type", EventType), ("state", State), ("direction", Direction), ("who", Who)):
        db.conn.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", [(int(m), m.label) for m in members])
    db.conn.executemany(
        "INSERT OR REPLACE INTO privacy VALUES (?, ?)", [(int(member), member.name.lower()) for member in Privacy]
    )


def version() -> int:
    """Return the number of the newest migration: the schema this code reads and writes."""
    return len(migrations)


def migrate(connection: sqlite3.Connection) -> list[str]:
    """Bring the file to :func:`version` in one transaction; return the names of the migrations that were applied.

    An error or a crash at any moment leaves the file as it was.
    """
    # Imported here alone: a command that only reads the store is done in the time that this takes.
    from sqlite_utils import Database
    from sqlite_utils.migrations import Migrations

    db, known = Database(connection), Migrations("postwake")
    for name, function in migrations.items():
        known(name=name)(function)
    names = [str(item.name) for item in known.pending(db)]
    if not names and found_version(connection) == version():
        return []
    connection.execute("BEGIN IMMEDIATE")
    try:
        known.apply(db)  # each in a savepoint of ours
        _name_numbers(db)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {version()}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has rolled back by itself
            connection.execute("ROLLBACK")
        raise
    return names


def is_foreign(connection: sqlite3.Connection) -> bool:
    """Return whether the open file holds something that is not a Postwake store; an empty file does not."""
    application: Any = connection.execute("PRAGMA application_id").fetchone()
    if application[0] == APPLICATION_ID:
        return False
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None


def found_version(connection: sqlite3.Connection) -> int:
    """Return the schema version of an open file; 0 for an empty one."""
    row: Any = connection.execute("PRAGMA user_version").fetchone()
    return int(row[0])
