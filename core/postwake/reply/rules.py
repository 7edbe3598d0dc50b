"""The rules that classify replies: loading, checking and compiling a rule file.

A rule file is TOML: `[providers.NAME]` tables say how a provider is recognised, `[[rule]]` tables are tried in the
order in which they stand, and the first that matches decides. docs/classification.md describes the format for people
who write their own.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

KINDS = frozenset({"hard", "soft"})
FAULTS = frozenset({"recipient", "sender", "network", "greylisting", "unknown"})
CATEGORIES = frozenset(
    {
        "bad-mailbox",
        "inactive-mailbox",
        "bad-domain",
        "mailbox-full",
        "greylisted",
        "rate-limited",
        "blocklisted",
        "spam",
        "policy",
        "authentication",
        "content",
        "virus",
        "size",
        "relaying",
        "routing",
        "network",
        "protocol",
        "expired",
        "other",
        "unclassified",
    }
)

_RULE_KEYS = {
    "id": True,
    "match": False,
    "unless": False,
    "code": False,
    "dsn": False,
    "host": False,
    "stage": False,
    "provider": False,
    "kind": True,
    "fault": True,
    "category": True,
    "advice": True,
    "example": True,
}
_MATCHERS = ("match", "code", "dsn", "host", "stage", "provider")
_FORBIDDEN_DEAD = frozenset(
    {"greylisted", "rate-limited", "blocklisted", "spam", "policy", "authentication", "content", "virus"}
)
"""Categories that speak about the sender or the moment: such a rule must not call the recipient dead."""


class RuleError(ValueError):
    """A rule file is wrong. The text has one line per problem, each with the file, the rule and what was expected."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True)
class Provider:
    """Who runs the receiving server: recognised by its host name, or by a signature in its words."""

    key: str
    name: str
    host: re.Pattern[str] | None
    text: re.Pattern[str] | None
    needles: tuple[str, ...] | None
    filter_only: bool
    """A filter or blocklist that others use: it names the provider only when nothing else does."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: what must hold (every condition that is not None; `unless` must not), and the verdict if it does.

    `needles` are lower-case literals one of which every text that `match` finds contains (None: not known); they
    spare most rules their regular expression.
    """

    id: str
    match: re.Pattern[str] | None
    unless: re.Pattern[str] | None
    code: re.Pattern[str] | None
    dsn: re.Pattern[str] | None
    host: re.Pattern[str] | None
    stage: re.Pattern[str] | None
    provider: str | None
    kind: str
    fault: str
    category: str
    advice: str
    examples: tuple[str, ...]
    needles: tuple[str, ...] | None
    source: str


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules in the order in which they are tried, and the providers that they name."""

    rules: tuple[Rule, ...]
    providers: tuple[Provider, ...] = field(default=())


def load_shipped() -> RuleSet:
    """Load the rules that come with Postwake (`rules.toml` in this package)."""
    return parse_rules(_shipped_text(), "rules.toml")


def _shipped_text() -> str:
    return resources.files(__package__ or "postwake.reply").joinpath("rules.toml").read_text(encoding="utf-8")


def load_advice(user_rules: Path | None) -> dict[str, str]:
    """Return what each rule advises, by id, those of the user's own file included. Raises `RuleError`, `OSError`.

    The rules are not compiled, which takes longer than a report, nor checked: the log parser does both.
    """
    documents = [_document(_shipped_text(), "rules.toml")]
    if user_rules is not None:
        documents.append(_document(_text_of(user_rules), str(user_rules)))
    lists = (document.get("rule") for document in documents)
    rules = [rule for found in lists if isinstance(found, list) for rule in found if isinstance(rule, dict)]
    return {str(rule.get("id")): str(rule.get("advice", "")) for rule in rules}


def load_file(path: Path, providers: Sequence[Provider] = ()) -> RuleSet:
    """Load a rule file; `providers` are known already and may be named. Raises `RuleError`, `OSError`."""
    return parse_rules(_text_of(path), str(path), providers)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RuleError([f"{path}: not UTF-8 at byte {error.start}: a rule file is TOML in UTF-8"]) from None


def _document(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RuleError([f"{source}: not TOML: {error}"]) from None


def merged(first: RuleSet, then: RuleSet) -> RuleSet:
    """Put one set of rules before another; ids must differ. Raises `RuleError`."""
    known = {rule.id: rule.source for rule in first.rules}
    problems = [
        f"{known[rule.id]}: rule {rule.id!r}: this id is already taken by {rule.source}; choose another"
        for rule in then.rules
        if rule.id in known
    ]
    if problems:
        raise RuleError(problems)
    names = {provider.key for provider in first.providers}
    return RuleSet(
        (*first.rules, *then.rules),
        (*first.providers, *(provider for provider in then.providers if provider.key not in names)),
    )


def parse_rules(text: str, source: str, providers: Sequence[Provider] = ()) -> RuleSet:
    """Compile the text of a rule file named `source`; every problem is reported at once. Raises `RuleError`."""
    document = _document(text, source)
    problems: list[str] = [
        f"{source}: unknown key {key!r}: expected [providers.NAME] tables and [[rule]] tables"
        for key in document.keys() - {"providers", "rule"}
    ]
    own = [
        provider
        for key, table in _tables(document.get("providers", {}), source, problems)
        if (provider := _provider(key, table, source, problems)) is not None
    ]
    known = {provider.key for provider in (*providers, *own)}
    rules: list[Rule] = []
    seen: set[str] = set()
    entries = document.get("rule", [])
    if not isinstance(entries, list):
        problems.append(f"{source}: 'rule' is not a list of tables: write [[rule]] with two brackets")
        entries = []
    for number, table in enumerate(entries, 1):
        rule = _rule(number, table, source, known, problems)
        if rule is None:
            continue
        if rule.id in seen:
            problems.append(f"{source}: rule {rule.id!r}: the id is used twice")
        seen.add(rule.id)
        rules.append(rule)
    if problems:
        raise RuleError(problems)
    return RuleSet(tuple(rules), tuple(own))


def _tables(value: object, source: str, problems: list[str]) -> list[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, dict) and all(isinstance(table, dict) for table in value.values()):
        return list(value.items())
    problems.append(f"{source}: 'providers' is not a table of tables: write [providers.NAME]")
    return []


def _provider(key: str, table: Mapping[str, Any], source: str, problems: list[str]) -> Provider | None:
    where = f"{source}: provider {key!r}"
    before = len(problems)
    problems.extend(
        f"{where}: unknown key {name!r}: expected name, host, text, filter"
        for name in table.keys() - {"name", "host", "text", "filter"}
    )
    host = _pattern(table, "host", where, problems)
    text = _pattern(table, "text", where, problems)
    name = table.get("name", key)
    if not isinstance(name, str):
        problems.append(f"{where}: name is {name!r}: expected a string")
    if host is None and text is None and len(problems) == before:
        problems.append(f"{where}: neither host nor text: nothing would ever be recognised")
    if len(problems) > before:
        return None
    return Provider(
        key, str(name), host, text, None if text is None else needles(text.pattern), bool(table.get("filter"))
    )


def _rule(number: int, table: object, source: str, providers: set[str], problems: list[str]) -> Rule | None:
    if not isinstance(table, dict):
        problems.append(f"{source}: rule number {number} is not a table: write [[rule]]")
        return None
    where = f"{source}: rule {table['id']!r}" if isinstance(table.get("id"), str) else f"{source}: rule number {number}"
    before = len(problems)
    problems.extend(
        f"{where}: unknown key {name!r}: expected one of {', '.join(_RULE_KEYS)}"
        for name in sorted(table.keys() - _RULE_KEYS.keys())
    )
    problems.extend(
        f"{where}: {name} is missing" for name, needed in _RULE_KEYS.items() if needed and name not in table
    )
    if not any(name in table for name in _MATCHERS):
        problems.append(f"{where}: nothing to match: give at least one of {', '.join(_MATCHERS)}")
    for name, allowed in (("kind", KINDS), ("fault", FAULTS), ("category", CATEGORIES), ("provider", providers)):
        value = table.get(name)
        if name in table and (not isinstance(value, str) or value not in allowed):
            problems.append(f"{where}: {name} is {value!r}: expected one of {', '.join(sorted(allowed))}")
    for name in ("id", "advice"):
        value = table.get(name)
        if name in table and (not isinstance(value, str) or not value.strip()):
            problems.append(f"{where}: {name} is {value!r}: expected a non-empty string")
    if table.get("kind") == "hard" and table.get("fault") == "recipient" and table.get("category") in _FORBIDDEN_DEAD:
        problems.append(
            f"{where}: category {table['category']!r} says nothing about the address, "
            "but kind 'hard' with fault 'recipient' would call it dead"
        )
    patterns = {
        name: _pattern(table, name, where, problems) for name in ("match", "unless", "code", "dsn", "host", "stage")
    }
    examples = table.get("example", [])
    examples = [examples] if isinstance(examples, str) else examples
    if not isinstance(examples, list) or not all(isinstance(example, str) for example in examples):
        problems.append(f"{where}: example is {examples!r}: expected a reply, or a list of replies")
    elif "example" in table and not examples:
        problems.append(f"{where}: example is empty: expected at least one reply that this rule is the first to match")
    if len(problems) > before:
        return None
    match = patterns["match"]
    return Rule(
        id=table["id"],
        match=match,
        unless=patterns["unless"],
        code=patterns["code"],
        dsn=patterns["dsn"],
        host=patterns["host"],
        stage=patterns["stage"],
        provider=table.get("provider"),
        kind=table["kind"],
        fault=table["fault"],
        category=table["category"],
        advice=table["advice"],
        examples=tuple(examples),
        needles=None if match is None else needles(match.pattern),
        source=source,
    )


def _pattern(table: Mapping[str, Any], name: str, where: str, problems: list[str]) -> re.Pattern[str] | None:
    value = table.get(name)
    if value is None:
        return None
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        value = "|".join(f"(?:{part})" for part in value)  # several lines that may each match
    if not isinstance(value, str):
        problems.append(f"{where}: {name} is {value!r}: expected a regular expression, or a list of them")
        return None
    try:
        return re.compile(value, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as error:
        problems.append(f"{where}: {name} is not a regular expression: {error}")
        return None


# --- literals that a pattern needs -----------------------------------------------------------------------------------

_MIN_NEEDLE, _LONG_NEEDLE = 3, 5


def needles(pattern: str) -> tuple[str, ...] | None:
    """Literals (lower-case) of which at least one is in every text that `pattern` finds, or None if that is not plain.

    Deliberately simple. Each top-level branch gives its longest run of plain characters outside classes and quantified
    atoms or, if that is short, what one of its unquantified groups needs; a branch with neither gives up, and the
    regular expression is then always tried.
    """
    found: set[str] = set()
    for branch in _branches(pattern):
        literal, groups = _literals(branch)
        choices: list[tuple[str, ...]] = [inner for group in groups if (inner := needles(group)) is not None]
        if len(literal) >= _LONG_NEEDLE or (literal and not choices and len(literal) >= _MIN_NEEDLE):
            found.add(literal)
        elif choices:
            fewest = min(choices, key=len)
            found.update(fewest)
        else:
            return None
    return tuple(sorted(found))


def _skip(pattern: str, at: int) -> int:
    """Return the index behind the escape, class or group that begins at `at`, or `at` + 1 for a plain character."""
    if pattern[at] == "\\":
        return at + 2
    if pattern[at] == "[":
        at += 2 if pattern[at + 1 : at + 2] == "^" else 1
        at += 1 if pattern[at : at + 1] == "]" else 0
        while pattern[at] != "]":
            at += 2 if pattern[at] == "\\" else 1
        return at + 1
    if pattern[at] == "(":
        at += 1
        while pattern[at] != ")":
            at = _skip(pattern, at)
        return at + 1
    return at + 1


def _branches(pattern: str) -> list[str]:
    branches, start, at = [], 0, 0
    while at < len(pattern):
        if pattern[at] == "|":
            branches.append(pattern[start:at])
            start = at + 1
        at = _skip(pattern, at)
    return [*branches, pattern[start:]]


def _literals(branch: str) -> tuple[str, list[str]]:
    """Return the longest plain run of a branch, and the insides of its groups that every match passes through."""
    runs, groups, run, at = [], [], "", 0
    while at < len(branch):
        end = _skip(branch, at)
        atom, literal = branch[at:end], ""
        optional = branch[end : end + 1] in {"?", "*", "{"}
        if len(atom) == 2 and atom[0] == "\\" and not atom[1].isalnum():
            literal = atom[1]
        elif len(atom) == 1 and atom not in ".^$+?*{}" and atom.isascii():
            literal = atom.lower()
        elif atom[0] == "(" and not optional and (atom[1] != "?" or atom.startswith("(?:")):
            groups.append(atom[3 if atom.startswith("(?:") else 1 : -1])
        if literal and not optional:
            run += literal
        else:
            runs.append(run)
            run = ""
        if atom == "{":  # the bounds of a quantifier are not text
            end = branch.find("}", at) + 1 or len(branch)
        at = end
    return max([*runs, run], key=len), groups
