"""contrib/prometheus: the files load, every alert fires when it should and not otherwise, and says where to read on."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

RULES = ("postwake-rules.yml", "postwake-alerts.yml")

HOST = 'host="mx"'
MILTER = 'service="milter",job="postwake-milter"'
OUT = f'{HOST},direction="outbound"'


class Case(NamedTuple):
    """Series (name and labels → values a minute, in promtool's notation), and whether the alert fires at a time."""

    alert: str
    series: dict[str, str]
    at: str
    labels: dict[str, str] | None
    """Labels of the firing alert besides severity and alertname; None if it must not fire."""


def mail(**per_minute: float) -> dict[str, str]:
    """Return outbound mail counters that grow by so many a minute, all states of the hour named."""
    states = {"sent": 0.0, "deferred": 0.0, "bounced": 0.0, "expired": 0.0, **per_minute}
    return {f'postwake_mail_total{{{OUT},state="{state}"}}': f"0+{n:g}x1800" for state, n in states.items()}


def grow(name: str, labels: str, per_minute: float) -> dict[str, str]:
    """Return a counter that grows by *per_minute*."""
    return {f"{name}{{{HOST}{',' if labels else ''}{labels}}}": f"0+{per_minute:g}x1800"}


def level(name: str, labels: str, value: float) -> dict[str, str]:
    """Return a gauge that stays at *value*."""
    return {f"{name}{{{HOST}{',' if labels else ''}{labels}}}": f"{value:g}x1800"}


def category(name: str, per_minute: float) -> dict[str, str]:
    """Return failures of one category."""
    return grow("postwake_failures_by_category_total", f'category="{name}",state="bounced"', per_minute)


MX = {"host": "mx"}
MILTER_ON = grow("postwake_milter_messages_total", 'outcome="tracked"', 5)
GIB = 1024.0**3

CASES = [
    Case("PostwakeBounceRateSpike", mail(sent=94, bounced=4, expired=2), "90m", MX),
    Case("PostwakeBounceRateSpike", mail(sent=98, bounced=2), "90m", None),
    Case("PostwakeBounceRateSpike", mail(sent=0.3, bounced=0.3), "90m", None),  # 36 an hour: too few to judge
    # A quiet day at 0.5 %, then 4 %: under the absolute threshold, eight times what is usual.
    Case("PostwakeBounceRateSpike", {
        f'postwake_mail_total{{{OUT},state="sent"}}': "0+200x1800",
        f'postwake_mail_total{{{OUT},state="bounced"}}': "0+1x1439 1440+8x120",
        f'postwake_mail_total{{{OUT},state="expired"}}': "0x1800",
    }, "1530m", MX),
    Case("PostwakeDeferralRateSpike", mail(sent=6, deferred=4), "90m", MX),
    Case("PostwakeDeferralRateSpike", mail(sent=8, deferred=2), "90m", None),
    Case("PostwakeBlocklisted", category("blocklisted", 0.2), "90m", MX | {"category": "blocklisted"}),
    Case("PostwakeBlocklisted", category("blocklisted", 0.05), "90m", None),
    Case("PostwakeBlocklisted", category("bad-mailbox", 5), "90m", None),
    Case("PostwakeProviderRefusing",
         level("postwake_provider_recent_failures", 'provider="Gmail",category="rate-limited"', 15)
         | level("postwake_provider_recent_failures", 'provider="Gmail",category="blocklisted"', 10),
         "30m", MX | {"provider": "Gmail"}),
    Case("PostwakeProviderRefusing",
         level("postwake_provider_recent_failures", 'provider="Gmail",category="bad-mailbox"', 500), "30m", None),
    Case("PostwakeAuthenticationFailures", category("authentication", 1), "90m", MX | {"category": "authentication"}),
    Case("PostwakeAuthenticationFailures", category("authentication", 0.01), "90m", None),
    Case("PostwakeComplaintSpike", mail(sent=10, complained=0.02), "1500m", MX),
    Case("PostwakeComplaintSpike", mail(sent=10, complained=0.005), "1500m", None),
    Case("PostwakeUnsubscribeSpike", mail(sent=10, unsubscribed=0.3), "1500m", MX),
    Case("PostwakeUnsubscribeSpike", mail(sent=10, unsubscribed=0.1), "1500m", None),
    Case("PostwakeMilterFailingOpen",
         MILTER_ON | grow("postwake_milter_messages_total", 'outcome="unrecorded"', 0.2)
         | grow("postwake_messages_total", 'tracked="no",reason="error"', 0), "30m", MX),
    Case("PostwakeMilterFailingOpen",  # the log parser is down: the milter's own word is enough
         MILTER_ON | grow("postwake_milter_messages_total", 'outcome="failed"', 0.2), "30m", MX),
    Case("PostwakeMilterFailingOpen",
         grow("postwake_milter_messages_total", 'outcome="failed"', 0)
         | grow("postwake_messages_total", 'tracked="no",reason="rewrite-timeout"', 0.2), "30m", MX),
    Case("PostwakeMilterFailingOpen",
         MILTER_ON | grow("postwake_milter_messages_total", 'outcome="failed"', 0)
         | grow("postwake_messages_total", 'tracked="no",reason="error"', 0)
         | grow("postwake_messages_total", 'tracked="no",reason="signed"', 5), "30m", None),
    Case("PostwakeMilterSlow",
         grow("postwake_milter_duration_seconds_bucket", 'le="1"', 90)
         | grow("postwake_milter_duration_seconds_bucket", 'le="5"', 100)
         | grow("postwake_milter_duration_seconds_bucket", 'le="+Inf"', 100), "30m", MX),
    Case("PostwakeMilterSlow",
         grow("postwake_milter_duration_seconds_bucket", 'le="1"', 100)
         | grow("postwake_milter_duration_seconds_bucket", 'le="5"', 100)
         | grow("postwake_milter_duration_seconds_bucket", 'le="+Inf"', 100), "30m", None),
    Case("PostwakeMilterWorkersDying", grow("postwake_milter_worker_restarts_total", "", 0.2), "30m", MX),
    Case("PostwakeMilterWorkersDying", grow("postwake_milter_worker_restarts_total", "", 0), "30m", None),
    Case("PostwakeLogSilent", MILTER_ON | level("postwake_log_last_line_timestamp_seconds", "", 600), "40m", MX),
    Case("PostwakeLogSilent",
         MILTER_ON | {f"postwake_log_last_line_timestamp_seconds{{{HOST}}}": "0+60x1800"}, "40m", None),
    Case("PostwakeLogSilent",  # nobody sends: silence is what one expects
         grow("postwake_milter_messages_total", 'outcome="tracked"', 0)
         | level("postwake_log_last_line_timestamp_seconds", "", 600), "40m", None),
    Case("PostwakeLogLagging", level("postwake_log_lag_seconds", "", 900), "30m", MX),
    Case("PostwakeLogLagging", level("postwake_log_lag_seconds", "", 5), "30m", None),
    Case("PostwakeLogLinesUnparsed",
         grow("postwake_log_lines_total", 'result="parsed"', 90)
         | grow("postwake_log_lines_total", 'result="unparsed"', 2), "90m", MX),
    Case("PostwakeLogLinesUnparsed",
         grow("postwake_log_lines_total", 'result="parsed"', 9000)
         | grow("postwake_log_lines_total", 'result="unparsed"', 2), "90m", None),
    Case("PostwakeLogLinesLost",
         grow("postwake_log_files_lost_total", "", 0.1) | grow("postwake_log_lines_discarded_total", "", 0)
         | grow("postwake_log_read_errors_total", "", 0), "30m", MX),
    Case("PostwakeLogLinesLost",
         grow("postwake_log_files_lost_total", "", 0) | grow("postwake_log_lines_discarded_total", "", 0)
         | grow("postwake_log_read_errors_total", "", 0), "30m", None),
    Case("PostwakeStoreUnreadable", level("postwake_store_up", "", 0), "30m", MX),
    Case("PostwakeStoreUnreadable", level("postwake_store_up", "", 1), "30m", None),
    Case("PostwakeStoreWritesFailing", grow("postwake_writer_failures_total", 'job="postwake-logparse"', 1),
         "30m", MX | {"job": "postwake-logparse"}),
    Case("PostwakeStoreWritesFailing", grow("postwake_writer_failures_total", 'job="postwake-milter"', 0), "30m", None),
    Case("PostwakeSpoolGrowing",
         level("postwake_spool_bytes", 'job="postwake-milter"', 900)
         | level("postwake_spool_bytes", 'job="postwake-pixelserver"', 0), "30m", MX),
    Case("PostwakeSpoolGrowing", {f"postwake_spool_bytes{{{HOST}}}": "0x20 900x5 0x100"}, "30m", None),
    Case("PostwakeSpoolBadLines", level("postwake_spool_bad_files", "", 1), "30m", MX),
    Case("PostwakeSpoolBadLines", level("postwake_spool_bad_files", "", 0), "30m", None),
    Case("PostwakeWalLarge", level("postwake_store_wal_bytes", "", GIB), "30m", MX),
    Case("PostwakeWalLarge", level("postwake_store_wal_bytes", "", GIB / 16), "30m", None),
    Case("PostwakeDiskFilling",
         level("postwake_store_disk_size_bytes", "", 100 * GIB)
         | level("postwake_store_disk_free_bytes", "", 3 * GIB), "60m", MX),
    Case("PostwakeDiskFilling",  # 20 % free, and 5 GB a day less
         level("postwake_store_disk_size_bytes", "", 100e9)
         | {f"postwake_store_disk_free_bytes{{{HOST}}}": "25000000000-3500000x1800"}, "1440m", MX),
    Case("PostwakeDiskFilling",
         level("postwake_store_disk_size_bytes", "", 100 * GIB)
         | level("postwake_store_disk_free_bytes", "", 20 * GIB), "600m", None),
    Case("PostwakeServiceDown", level("up", 'job="postwake-milter"', 0), "30m", MX | {"job": "postwake-milter"}),
    Case("PostwakeServiceDown",
         level("up", 'job="postwake-milter"', 1) | level("up", 'job="somebody-else"', 0), "30m", None),
    Case("PostwakeServiceRestarting", {
        f'postwake_start_timestamp_seconds{{{HOST},{MILTER}}}': "0x3 300x3 600x3 900x3 1200x30",
    }, "20m", MX | {"service": "milter", "job": "postwake-milter"}),
    Case("PostwakeServiceRestarting", {
        f'postwake_start_timestamp_seconds{{{HOST},{MILTER}}}': "0x10 300x60",
    }, "20m", None),
    Case("PostwakeHitsLost", grow("postwake_pixel_hits_total", 'fate="lost"', 1), "30m", MX),
    Case("PostwakeHitsLost", grow("postwake_pixel_hits_total", 'fate="spooled"', 1), "30m", None),
    Case("PostwakePixelErrors", grow("postwake_pixel_requests_total", 'endpoint="open",outcome="error"', 1), "30m", MX),
    Case("PostwakePixelErrors", grow("postwake_pixel_requests_total", 'endpoint="open",outcome="bad_token"', 9), "30m",
         None),
]  # fmt: skip


ALERTS = list(dict.fromkeys(case.alert for case in CASES))


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    """contrib/prometheus."""
    return root / "contrib/prometheus"


@pytest.fixture(scope="module")
def alerts(folder: Path) -> dict[str, tuple[str, str]]:
    """Severity and runbook of each alert, read without a YAML parser: the file keeps to one form."""
    text = (folder / "postwake-alerts.yml").read_text(encoding="utf-8")
    found = re.findall(r"- alert: (\w+)\n.*?severity: (\w+)\}.*?runbook: (\S+)\n", text, re.DOTALL)
    assert len(found) == text.count("- alert:")
    return {name: (severity, runbook) for name, severity, runbook in found}


@pytest.fixture(scope="module")
def promtool() -> Callable[..., str]:
    """Run promtool; its output."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: Debian's package prometheus has it")

    def run(*arguments: str | Path) -> str:
        done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_configuration_and_rules_load(promtool: Callable[..., str], folder: Path) -> None:
    """Prometheus takes the scrape configuration and the rule files it names."""
    assert "2 rule files found" in promtool("check", "config", folder / "prometheus.yml")
    for name in RULES:
        assert "SUCCESS" in promtool("check", "rules", folder / name)


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_fires_when_it_should(
    alert: str, promtool: Callable[..., str], folder: Path, alerts: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    """Each alert fires just above what wakes people, with its labels, and is quiet below."""
    for name in RULES:
        # promtool compares annotations, too, which repeat the value in words: those are not what is under test.
        text = (folder / name).read_text(encoding="utf-8")
        bare = re.sub(r"^        annotations:\n(?:          .*\n)+", "", text, flags=re.MULTILINE)
        (tmp_path / name).write_text(bare, encoding="utf-8")
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
            "alert_rule_test": [
                {
                    "eval_time": case.at,
                    "alertname": alert,
                    "exp_alerts": []
                    if case.labels is None
                    else [{"exp_labels": {"severity": alerts[alert][0], **case.labels}}],
                }
            ],
        }
        for case in CASES
        if case.alert == alert
    ]
    document = {"rule_files": list(RULES), "evaluation_interval": "5m", "tests": tests}
    (tmp_path / "tests.yml").write_text(json.dumps(document))  # JSON is YAML

    promtool("test", "rules", tmp_path / "tests.yml")


def test_every_alert_has_both_cases(alerts: dict[str, tuple[str, str]]) -> None:
    """No alert goes untested, in either direction."""
    firing = {case.alert for case in CASES if case.labels is not None}
    quiet = {case.alert for case in CASES if case.labels is None}
    assert firing == set(alerts)
    assert set(alerts) - quiet == set()


def test_every_alert_has_a_section_in_the_runbook(alerts: dict[str, tuple[str, str]], root: Path) -> None:
    """The runbook annotation leads to a section that is there, and the runbook has none without an alert."""
    sections = re.findall(r"^### (\w+)$", (root / "docs/runbook.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {f"docs/runbook.md#{name.lower()}" for name in sections} == {runbook for _, runbook in alerts.values()}
    assert sorted(sections) == sorted(alerts)


def test_rules_ask_for_metrics_there_are(folder: Path, check_promql: Callable[[str], None]) -> None:
    """Every metric and label in the rules exists."""
    for name in RULES:
        text = (folder / name).read_text(encoding="utf-8")
        expressions = re.findall(r"^        expr: (?:\|\n((?:          .*\n)+)|(.*)\n)", text, re.MULTILINE)
        assert len(expressions) == text.count("expr:")
        for lines, single in expressions:
            check_promql(lines or single)
