"""The configuration: everything that is wrong is said at once, and what is documented is what holds."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from postwake import config, config_text, config_values
from postwake.errors import ConfigError
from postwake.tokens import Privacy


def problems(text: str, tmp_path: Path) -> list[str]:
    """Return what load() complains of, without the file's name, which each complaint begins with."""
    path = tmp_path / "postwake.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert caught.value.exit_status == 78
    assert all(problem.startswith(f"{path}: ") for problem in caught.value.problems)
    return [problem.removeprefix(f"{path}: ") for problem in caught.value.problems]


def test_everything_at_once(tmp_path: Path) -> None:
    """Unknown keys, wrong types, bad values and contradictions are reported together: key, value, expectation."""
    found = problems(
        """
        colour = "blue"
        [store]
        busy_timeout_ms = "5"
        pth = "/x"
        [tracking]
        url = "track.example.com"
        opens = 1
        sender_domains = ["a@example.com", "example.com"]
        pixel = "left"
        [domains."example.org"]
        keys = "/x"
        [milter]
        workers = 0
        threads = 2.5
        [metrics]
        milter = "9861"
        [mta]
        internal_networks = ["10.0.0.1/8"]
        [pixelserver]
        tls_key = "/etc/key.pem"
        [retention]
        events_days = 99999999999999999999
        """,
        tmp_path,
    )
    said = {problem.split(" ")[0].rstrip(":"): problem for problem in found}
    assert set(said) == {
        "colour",
        "store.busy_timeout_ms",
        "store.pth",
        "tracking.url",
        "tracking.opens",
        "tracking.sender_domains.0",
        "tracking.pixel",
        "domains.example.org.keys",
        'domains."example.org"',
        "milter.workers",
        "milter.threads",
        "metrics.milter",
        "mta.internal_networks.0",
        "pixelserver.tls_certificate",
        "retention.events_days",
    }
    assert len(found) == len(said)
    assert said["colour"] == "colour: unknown key; `postwake config example` lists those there are"
    assert said["store.busy_timeout_ms"] == 'store.busy_timeout_ms = "5": input should be a valid integer'
    assert said["tracking.pixel"] == "tracking.pixel = \"left\": input should be 'bottom', 'top' or 'both'"
    assert said["metrics.milter"] == 'metrics.milter = "9861": expected HOST:PORT, such as 127.0.0.1:8025'
    assert "has host bits set" in said["mta.internal_networks.0"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        pytest.param('[tracking]\nurl = "ftp://example.com"', "expected https://HOST", id="scheme"),
        pytest.param('[tracking]\nurl = "https://"', "expected https://HOST", id="no-host"),
        pytest.param('[tracking]\nurl = "https://example.com/?a=b"', "expected https://HOST", id="query"),
        pytest.param('[tracking]\nurl = "https://example.com/#x"', "expected https://HOST", id="fragment"),
        pytest.param('[tracking]\nurl = "https://me@example.com"', "expected https://HOST", id="user"),
        pytest.param('[tracking]\nurl = "https://example.com:99999"', "expected https://HOST", id="port"),
        pytest.param('[tracking]\nurl = "https://example.com:http"', "expected https://HOST", id="port-name"),
        pytest.param('[tracking]\nurl = "https://exa mple.com"', "expected https://HOST", id="space"),
        pytest.param("[tracking]\nurl = 'https://example.com/\">'", "expected https://HOST", id="quote"),
        pytest.param('[tracking]\nurl = "https://example.com/\\r\\nX: y"', "expected https://HOST", id="newline"),
        pytest.param('[tracking]\nurl = "https://bücher.example"', "xn--", id="not-ascii"),
        pytest.param('[tracking]\nurl = "https://[::1"', "tracking.url", id="half-bracket"),
        pytest.param('[metrics]\nmilter = "unix:/run/x"', "expected HOST:PORT", id="metrics-on-a-unix-socket"),
        pytest.param('[metrics]\nmilter = "127.0.0.1:70000"', "expected HOST:PORT", id="port-too-high"),
        pytest.param('[metrics]\nmilter = "127.0.0.1:٣"', "expected HOST:PORT", id="port-in-arabic"),
        pytest.param('[pixelserver]\nlisten = "unix:run/x"', "expected unix:/ABSOLUTE/PATH", id="relative-socket"),
        pytest.param("[logparse]\ntimezone = 2026-11-22", "input should be a valid string", id="date-for-a-string"),
        pytest.param("[store]\npath = 05:30:00", "store.path", id="time-for-a-path"),
        pytest.param("[milter]\nrewrite_timeout_s = nan", "milter.rewrite_timeout_s = NaN", id="nan"),
        pytest.param("[milter]\nrewrite_timeout_s = inf", "milter.rewrite_timeout_s", id="infinity"),
        pytest.param('[milter]\nsocket_mode = "0888"', "expected an octal mode", id="mode"),
        pytest.param("store = 5", "store = 5", id="section-is-a-number"),
        pytest.param("domains = [1]", "domains = [1]", id="domains-is-a-list"),
        pytest.param("tracking = 5\n[domains.'example.com']", "tracking = 5", id="tracking-is-a-number"),
        pytest.param("[store\n", "not TOML", id="syntax"),
        pytest.param("[store]\n[store]\n", "not TOML", id="twice"),
    ],
)
def test_bad_values(line: str, said: str, tmp_path: Path) -> None:
    """A wrong value names its key and what was expected."""
    assert said in problems(line, tmp_path)[0]


def test_not_utf8(tmp_path: Path) -> None:
    """A file in another charset is reported, not raised."""
    path = tmp_path / "postwake.toml"
    path.write_bytes(b"# M\xfcller\n")
    with pytest.raises(ConfigError, match="not TOML"):
        config.load(path)


def test_unreadable(tmp_path: Path) -> None:
    """A missing file says what prints one; a directory says what it is."""
    with pytest.raises(ConfigError, match="postwake config example"):
        config.load(tmp_path / "none")
    with pytest.raises(ConfigError, match="Is a directory"):
        config.load(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_no_permission(tmp_path: Path) -> None:
    """A file that may not be read is reported with the reason."""
    path = tmp_path / "postwake.toml"
    path.touch(mode=0)
    with pytest.raises(ConfigError, match="Permission denied"):
        config.load(path)


def test_example_is_the_defaults(tmp_path: Path) -> None:
    """The example holds as it is, and means the same with every line uncommented."""
    path = tmp_path / "postwake.toml"
    path.write_text(config_text.example(), encoding="utf-8")
    assert config.load(path) == config.Config()
    uncommented = re.sub(r"(?m)^# (?=[a-z_]+ = )(?!.*…)(?!url = \"https://track)", "", config_text.example())
    path.write_text(uncommented, encoding="utf-8")
    data = tomllib.loads(uncommented)
    assert config.load(path) == config.Config()
    for name, _, keys in config_text.sections():
        if name != "domains":
            assert set(data[name]) == {key for key, default, _ in keys if default is not None}


def test_every_key_is_described() -> None:
    """Each section and key says what it is for, in a sentence, on one line."""
    for name, text, keys in config_text.sections():
        assert text.endswith("."), name
        assert "\n" not in text
        for key, _, description in keys:
            assert re.fullmatch(r"[^\n]{8,}\.", description), f"{name}.{key}: {description!r}"


def test_domain_overrides() -> None:
    """A domain's section overrides [tracking] for that domain, whatever the case, and for no other."""
    data: dict[str, Any] = {
        "tracking": {
            "url": "https://T.example.com/p/",
            "sender_domains": ["News.Example.com", "example.com"],
            "privacy": "pseudonymous",
        },
        "domains": {"NEWS.example.com": {"url": "https://n.example.com", "opens": False, "privacy": "off"}},
    }
    found = config.parse(data, "f")
    news, other = found.tracking_for("news.EXAMPLE.com"), found.tracking_for("example.com")
    assert (news.url, news.opens, news.clicks) == ("https://n.example.com", False, True)
    assert (other.url, other.opens) == ("https://T.example.com/p", True)
    assert found.privacy_for("news.example.com") is Privacy.OFF
    assert found.privacy_for("example.com") is Privacy.PSEUDONYMOUS
    assert found.own_hosts() == {"t.example.com/p", "n.example.com"}


def test_tracking_url_is_required_where_it_is_needed() -> None:
    """Without a tracking host nothing is rewritten: the milter and the pixel server say so."""
    with pytest.raises(ConfigError, match=r'f: tracking.url = "": expected https://HOST'):
        config.require_tracking(config.Config(), "f")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:9861", ("::1", 9861)), ("localhost:0", ("localhost", 0))],
)
def test_listeners(text: str, expected: tuple[str, int]) -> None:
    """HOST:PORT and [IPV6]:PORT."""
    assert config_values.parse_listener(text) == expected


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[1] / "golden" / "config").glob("*.toml")), ids=lambda path: path.stem
)
def test_configurations_of_earlier_releases(path: Path) -> None:
    """Every key that a release knew goes on meaning what it meant: a configuration is not migrated, it loads."""
    loaded = config.load(path).model_dump(mode="json")
    written = tomllib.loads(path.read_text(encoding="utf-8"))
    for section, values in written.items():
        for key, value in values.items():
            assert loaded[section][key] == value or section == "domains", (section, key)
    assert loaded["domains"]["news.example.com"]["url"] == "https://track.news.example.com"
