"""Dictionary tables: long repeated strings live once, rows hold their number."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

CACHE_ENTRIES = 20_000
"""At some 200 bytes an entry 4 MB a table; a full cache is emptied, which costs one look-up each."""


class Dictionary:
    """A table of ``id, text UNIQUE`` with a cache in front."""

    def __init__(self, connection: sqlite3.Connection, table: str) -> None:
        """Take the table's name, which is one of ours."""
        self._connection = connection
        self._insert = f"INSERT INTO {table} (text) VALUES (?) ON CONFLICT DO NOTHING RETURNING id"
        self._select = f"SELECT id FROM {table} WHERE text = ?"
        self._cache: dict[str, int] = {}

    def id(self, text: str) -> int | None:
        """Return the number of *text*, entering it if it is new; None for an empty string."""
        if not text:
            return None
        found = self._cache.get(text)
        if found is None:
            found = self._look_up(text)
            if len(self._cache) >= CACHE_ENTRIES:
                self._cache.clear()
            self._cache[text] = found
        return found

    def forget(self) -> None:
        """Empty the cache."""
        self._cache.clear()

    def _look_up(self, text: str) -> int:
        row = self._connection.execute(self._select, (text,)).fetchone()
        if row is None:
            row = self._connection.execute(self._insert, (text,)).fetchone()
        return int(row[0])


@dataclass(frozen=True, slots=True)
class StoredReply:
    """A reply as the dictionary keeps it: its verdict, and its text with one variable part cut out."""

    text: str
    code: int | None = None
    dsn: str | None = None
    kind: str | None = None
    fault: str | None = None
    category: str | None = None
    provider: str | None = None
    rule: str | None = None


_DIGIT_WITHIN = 256
# Looking no further for the digit: a server that answers with a line of brackets would otherwise cost the square of its
# length. [^\s\d] and not \S before it: there is nothing to try twice.
_WORD = rf"(?=[^\s\d]{{0,{_DIGIT_WITHIN}}}\d)(?![245]\.\d{{1,3}}\.\d{{1,3}}\b)[^\s]{{7,}}"
_VARIABLE = re.compile(rf"(?<![^\s(\[<=]){_WORD}")
"""A word of seven characters or more with a digit in it: a queue ID, a time, an address. Not an enhanced code."""
_VARIABLE_WORD = re.compile(_WORD)
_LONG = re.compile(r"\S{7,}")
_DIGIT = re.compile(r"\d")


def is_variable(word: str) -> bool:
    """Return whether *word*, which stands between spaces, is one that :func:`cut_variable` cuts, from its first letter."""
    return _VARIABLE_WORD.fullmatch(word) is not None


def cut_variable(text: str) -> tuple[str, str | None]:
    """Return *text* with everything from its first to its last variable word as ``{}``, and what was cut.

    ``250 2.0.0 Ok: queued as 4F2A81B3C5`` is stored once as ``250 2.0.0 Ok: queued as {}``; the queue ID stays
    with the event. ``text.replace("{}", part)`` gives the reply back exactly.
    """
    if "{}" in text:
        return text, None
    start = end = -1
    for word in _LONG.finditer(text):  # three times as quick as trying at every letter
        digit = _DIGIT.search(text, *word.span())
        if digit is None:
            continue
        found = _VARIABLE.search(text, max(word.start(), digit.start() - _DIGIT_WITHIN), word.end())
        if found is not None:
            if start < 0:
                start = found.start()
            end = found.end()
    if start < 0:
        return text, None
    return f"{text[:start]}{{}}{text[end:]}", text[start:end]


ReplyKey = tuple[str, "int | None", "str | None", "str | None", "str | None"]


class ReplyDictionary:
    """The ``reply`` table with its cache."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Start with an empty cache."""
        self._connection = connection
        self._cache: dict[ReplyKey, int] = {}

    def cached(self, key: ReplyKey) -> int | None:
        """Return the number of the reply with that text, code, enhanced code, rule and provider, if it was asked lately."""
        return self._cache.get(key)

    def id(self, reply: StoredReply) -> int:
        """Return the number of *reply*, entering it if it is new."""
        # The same words under the same rule are said by several providers: who said them depends on the host, too.
        key = (reply.text, reply.code, reply.dsn, reply.rule, reply.provider)
        found = self._cache.get(key)
        if found is None:
            found = self._look_up(reply)
            if len(self._cache) >= CACHE_ENTRIES:
                self._cache.clear()
            self._cache[key] = found
        return found

    def forget(self) -> None:
        """Empty the cache."""
        self._cache.clear()

    def _look_up(self, reply: StoredReply) -> int:
        key = (reply.text, reply.code or 0, reply.dsn or "", reply.rule or "", reply.provider or "")
        row = self._connection.execute(
            "SELECT id FROM reply WHERE text = ? AND coalesce(code, 0) = ? AND coalesce(dsn, '') = ? AND coalesce(rule, '') = ?"
            " AND coalesce(provider, '') = ?",
            key,
        ).fetchone()
        if row is None:
            row = self._connection.execute(
                "INSERT INTO reply (text, code, dsn, kind, fault, category, provider, rule) VALUES (?,?,?,?,?,?,?,?) RETURNING id",
                (
                    reply.text,
                    reply.code,
                    reply.dsn,
                    reply.kind,
                    reply.fault,
                    reply.category,
                    reply.provider,
                    reply.rule,
                ),
            ).fetchone()
        return int(row[0])
