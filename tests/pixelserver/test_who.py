"""The verdict on one request: the labelled table, and the rules' own files."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path

import pytest

from postwake.errors import ConfigError
from postwake.events import Who
from postwake_pixelserver.who import Rules, parse_agents, parse_networks, read_rules

GOLDEN = Path(__file__).parents[1] / "golden" / "who" / "requests.toml"
REQUESTS = tomllib.loads(GOLDEN.read_text(encoding="utf-8"))["request"]
RULES = read_rules()


@pytest.mark.parametrize("case", REQUESTS, ids=[case["id"] for case in REQUESTS])
def test_labelled_request(case: dict[str, object]) -> None:
    """Each published behaviour gets the verdict and the reason that the table says."""
    headers = dict(case.get("headers", {}))
    if "agent" in case:
        headers["user-agent"] = case["agent"]
    verdict = RULES.classify(case["kind"], case.get("method", "GET"), headers, case.get("client", "203.0.113.5"))
    assert (verdict.who.label, verdict.reason) == (case["who"], case["reason"])


def test_table_is_labelled() -> None:
    """IDs are unique and every request has its truth and its source."""
    assert len({case["id"] for case in REQUESTS}) == len(REQUESTS)
    for case in REQUESTS:
        assert case["truth"] in ("human", "machine", "unknown"), case["id"]
        assert case["source"], case["id"]


def test_every_agent_rule_says_why_and_where_from() -> None:
    """A rule without reason and source is a rumour."""
    for rule in RULES.agents:
        assert rule.why, rule.verdict
        assert rule.source, rule.verdict


def test_own_networks_come_first(tmp_path: Path) -> None:
    """The administrator's list is tried before ours and may be just networks."""
    path = tmp_path / "networks"
    path.write_text("# ours\n192.0.2.0/24\n2001:db8::/32 acme\n67.231.144.0/20 mine clicks\n")
    rules = read_rules(path)
    browser = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"}

    def reason(kind: str, client: str) -> str:
        return rules.classify(kind, "GET", browser, client).reason

    assert reason("click", "192.0.2.77") == "network-own"
    assert reason("open", "2001:db8:1::1") == "network-acme"
    assert reason("click", "67.231.144.1") == "network-mine"
    assert reason("open", "67.231.144.1") == "browser"
    assert reason("open", "192.0.3.1") == "browser"


def test_every_bad_network_line_is_named() -> None:
    """A mistake in the list is refused with its line."""
    with pytest.raises(ConfigError) as caught:
        parse_networks("192.0.2.1/24\n192.0.2.0/24 ok\nx\n10.0.0.0/8 a b\n10.0.0.0/8 UPPER\n", "nets")
    assert [problem.split(":")[1] for problem in caught.value.problems] == ["1", "3", "4", "5"]


@pytest.mark.parametrize(
    "text",
    [
        "[[agent]]\nname='x'\nagent='['\nwho='human'",
        "[[agent]]\nname='X y'\nagent='a'\nwho='human'",
        "[[agent]]\nname='x'\nagent='a'\nwho='robot'",
        "[[agent]]\nagent='a'\nwho='human'",
        "[[agent]]\nname='x'\nagent='a'\nwho='human'\non='reply'",
        "not toml",
        "[agent]\nname='x'\nagent='a'\nwho='human'",
        "agent = ['x']",
        "[[agent]]\nname='x'\nagent=5\nwho='human'",
    ],
)
def test_bad_agent_rule_is_refused(text: str) -> None:
    """A rule that cannot be used is a configuration error."""
    with pytest.raises(ConfigError):
        parse_agents(text, "agents")


def test_hostile_agents_cost_little() -> None:
    """No agent, however made, takes long to judge: what is searched is bounded."""
    rules = Rules(RULES.agents, RULES.networks)
    hostile = ["(" * 100_000, "Mozilla/5.0 (" + "a" * 100_000, "Teams" * 20_000, "\0" * 5000, "é" * 50_000]
    rules.classify("click", "GET", {"user-agent": "warm up"}, "")
    started = time.perf_counter()
    for agent in hostile:
        rules.classify("click", "GET", {"user-agent": agent}, "")
        rules.classify("open", "GET", {"user-agent": agent}, "")
    assert time.perf_counter() - started < 1.0


def test_verdict_needs_no_address() -> None:
    """An unknown address decides nothing."""
    assert RULES.classify("open", "GET", {"user-agent": "Mozilla/5.0"}, "").who is Who.UNKNOWN
