"""Who made a request: a person, a machine, or nobody can tell; and why we think so.

This is the verdict that one request allows by itself. Time since delivery and bursts, which need the message's
other hits, come later and can turn it around (:mod:`postwake_pixelserver.burst`). The order, first match wins, with
the sources in ``agents.toml``, ``networks.txt`` and docs/who.md:

1. ``head``: HEAD asks about a link, it does not follow it (RFC 9110 section 9.3.2).
2. ``prefetch``: the browser says that nobody asked yet: ``Sec-Purpose`` (Fetch Standard), and its forerunners
   ``Purpose``, ``X-Purpose`` and ``X-Moz``.
3. ``agents.toml``: image proxies, privacy proxies, gateways that say so, previews, mail programs. Before the general
   list, because that one counts Gmail's image proxy as a crawler, and here it is a person's open.
4. ``crawler``: the kept-up list of the ``crawler-user-agents`` project.
5. ``network-…``: the published networks of security services, and the administrator's own.
6. ``no-agent``: no browser leaves its name out; some mail programs do. ``unreadable-agent``: a name that is not
   ASCII (RFC 9110 section 5.5 wants it), which granian does not give us: unknown.
7. ``browser``: looks like one. A person, until time or bursts say otherwise.
8. ``unfamiliar``: nothing known: unknown.

An unsubscription by POST is a person's act in any case; RFC 8058 has their mailbox provider send it for them.

Pure: no I/O, no clock. Data files are read by :func:`read_rules` once.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Literal, TypeVar

from postwake.errors import ConfigError
from postwake.events import Who
from postwake_pixelserver import peer
from postwake_pixelserver.crawlers import is_crawler

Kind = Literal["open", "click"]
T = TypeVar("T")
_AGENT_CHARS = 512
"""Agents are searched so far: bounds the time of every expression."""
_BROWSER = re.compile(r"Mozilla/[45]\.0 \(.+\).*(AppleWebKit/|Gecko/|Trident/|MSIE |Opera|like Gecko)|Opera/")
_SLUG = re.compile(r"[a-z0-9-]{1,32}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who it was and the one word that says why."""

    who: Who
    reason: str


HEAD = Verdict(Who.MACHINE, "head")
PREFETCH = Verdict(Who.MACHINE, "prefetch")
CRAWLER = Verdict(Who.MACHINE, "crawler")
NO_AGENT_CLICK = Verdict(Who.MACHINE, "no-agent")
NO_AGENT_OPEN = Verdict(Who.UNKNOWN, "no-agent")
BROWSER = Verdict(Who.HUMAN, "browser")
UNFAMILIAR = Verdict(Who.UNKNOWN, "unfamiliar")
UNREADABLE_AGENT = Verdict(Who.UNKNOWN, "unreadable-agent")
UNREADABLE = "\ufffd"
"""What stands for a header field that is there and is not ASCII: granian gives no such value to anybody."""


@dataclass(frozen=True, slots=True)
class AgentRule:
    """One line of agents.toml."""

    verdict: Verdict
    pattern: re.Pattern[str]
    kinds: frozenset[str]
    why: str
    source: str


@dataclass(frozen=True, slots=True)
class NetworkRule:
    """One line of networks.txt."""

    network: peer.Network
    label: str
    clicks_only: bool


class Rules:
    """The agent and network rules, with their lookups. Immutable; the caches are bounded."""

    def __init__(self, agents: Iterable[AgentRule], networks: Iterable[NetworkRule]) -> None:
        self.agents = tuple(agents)
        self.networks = tuple(networks)
        self._by_agent = lru_cache(maxsize=4096)(self._agent_verdict)
        self._by_client = lru_cache(maxsize=8192)(self._network_rule)

    def __reduce__(self) -> tuple[type[Rules], tuple[tuple[AgentRule, ...], tuple[NetworkRule, ...]]]:
        """Travel to another process without the caches."""
        return Rules, (self.agents, self.networks)

    def classify(self, kind: Kind, method: str, headers: Mapping[str, str], client: str) -> Verdict:
        """Return the verdict on one request.

        *headers* has lower-case names (``user-agent``, ``sec-purpose``, ``purpose``, ``x-purpose``, ``x-moz``);
        *client* is the reader's address, or "" if it is not known.
        """
        if method == "HEAD":
            return HEAD
        for name in ("sec-purpose", "purpose", "x-purpose", "x-moz"):
            value = headers.get(name)
            if value and _is_prefetch(value):
                return PREFETCH
        agent = headers.get("user-agent", "").strip()[:_AGENT_CHARS]
        by_agent = self._by_agent(kind, agent)
        if by_agent is not None and by_agent.who is Who.MACHINE:
            return by_agent
        if client:
            rule = self._by_client(client)
            if rule is not None and (kind == "click" or not rule.clicks_only):
                return Verdict(Who.MACHINE, f"network-{rule.label}")
        if by_agent is not None:
            return by_agent
        if not agent:
            return NO_AGENT_CLICK if kind == "click" else NO_AGENT_OPEN
        if agent == UNREADABLE:
            return UNREADABLE_AGENT
        return BROWSER if _is_browser(agent) else UNFAMILIAR

    def _agent_verdict(self, kind: Kind, agent: str) -> Verdict | None:
        for rule in self.agents:
            if kind in rule.kinds and rule.pattern.search(agent):
                return rule.verdict
        if is_crawler(agent):
            return CRAWLER
        return None

    @cached_property
    def _index(self) -> dict[tuple[int, int], dict[int, NetworkRule]]:
        """Networks by (version, prefix length) and leading bits; earlier rules win."""
        index: dict[tuple[int, int], dict[int, NetworkRule]] = {}
        for rule in self.networks:
            shift = rule.network.max_prefixlen - rule.network.prefixlen
            bits = int(rule.network.network_address) >> shift
            index.setdefault((rule.network.version, rule.network.prefixlen), {}).setdefault(bits, rule)
        return index

    def _network_rule(self, client: str) -> NetworkRule | None:
        address = peer.parse(client)
        if address is None:
            return None
        number = int(address)
        for (version, length), rules in self._index.items():
            if version == address.version:
                rule = rules.get(number >> (address.max_prefixlen - length))
                if rule is not None:
                    return rule
        return None


@lru_cache(maxsize=4096)
def _is_browser(agent: str) -> bool:
    return _BROWSER.match(agent) is not None


def _is_prefetch(value: str) -> bool:
    value = value.lower()
    return "prefetch" in value or "prerender" in value or "preview" in value


def parse_agents(text: str, origin: str) -> list[AgentRule]:
    """Read agent rules from TOML *text*; :class:`ConfigError` names every rule that is not one."""
    try:
        entries = tomllib.loads(text).get("agent", [])
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin}: not TOML: {error}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f"{origin}: agent: expected tables, each begun by a line [[agent]]")
    rules: list[AgentRule] = []
    problems: list[str] = []
    for number, entry in enumerate(entries, 1):
        where = f"{origin}: agent {number} ({entry.get('name', 'no name')})"
        try:
            name, on, agent = str(entry["name"]), entry.get("on"), entry["agent"]
            if not isinstance(agent, str):
                raise ValueError(f"agent = {agent!r}: expected a regular expression in quotation marks")
            if not _SLUG.fullmatch(name):
                raise ValueError("name: expected up to 32 of a-z, 0-9 and hyphen")
            if on not in (None, "open", "click"):
                raise ValueError(f"on = {on!r}: expected open or click")
            rules.append(
                AgentRule(
                    verdict=Verdict(Who[str(entry["who"]).upper()], name),
                    pattern=re.compile(agent, re.IGNORECASE),
                    kinds=frozenset([on] if on else ["open", "click"]),
                    why=str(entry.get("why", "")),
                    source=str(entry.get("source", "")),
                )
            )
        except KeyError as error:
            problems.append(f"{where}: {error.args[0]}: missing, or not human, machine or unknown")
        except (ValueError, re.error) as error:
            problems.append(f"{where}: {error}")
    if problems:
        raise ConfigError(*problems)
    return rules


def parse_networks(text: str, origin: str) -> list[NetworkRule]:
    """Read network rules, one a line; a missing label is ``own``; :class:`ConfigError` names every bad line."""
    rules: list[NetworkRule] = []
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        label = fields[1] if len(fields) > 1 else "own"
        try:
            network = ipaddress.ip_network(fields[0])
            if not _SLUG.fullmatch(label) or len(label) > 20 or fields[2:] not in ([], ["clicks"]):
                raise ValueError
        except ValueError:
            problems.append(
                f"{origin}:{number}: {line.strip()!r}: expected NETWORK [LABEL [clicks]], such as 192.0.2.0/24 acme"
            )
            continue
        rules.append(NetworkRule(network, label, len(fields) > 2))
    if problems:
        raise ConfigError(*problems)
    return rules


def read_rules(own_networks: Path | None = None, own_agents: Path | None = None) -> Rules:
    """Read our rules and, tried before them, the administrator's; :class:`ConfigError` if those are unusable."""
    package = resources.files("postwake_pixelserver")
    problems: list[str] = []
    agents = _own(own_agents, parse_agents, problems)
    networks = _own(own_networks, parse_networks, problems)
    if problems:
        raise ConfigError(*problems)
    agents += parse_agents((package / "agents.toml").read_text(encoding="utf-8"), "agents.toml")
    networks += parse_networks((package / "networks.txt").read_text(encoding="utf-8"), "networks.txt")
    return Rules(agents, networks)


def _own(path: Path | None, parse: Callable[[str, str], list[T]], problems: list[str]) -> list[T]:
    """Return the rules in the administrator's file at *path*; what is wrong with it is added to *problems*."""
    if path is None:
        return []
    try:
        return parse(_read(path), str(path))
    except ConfigError as error:
        problems.extend(error.problems)
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(f"{path}: cannot read it: {reason}") from None
