"""Logs that other people collected: every line accounted for, and the fields that they expect."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from postwake_logparse.exim import EximGrammar
from postwake_logparse.postfix import PostfixGrammar
from postwake_logparse.record import Attempt, Record, Rejected
from postwake_logparse.shapes import Tally
from postwake_logparse.stamp import StampReader

NOW_US = 1_795_400_000_000_000

_FLAG = re.compile(
    rb"^[0-9-]{10} [0-9:.]+(?: [+-][0-9]{4})?(?: \[[0-9]+\])? "
    rb"(?:\w{6}-\w{6}-\w\w|\w{6}-\w{11}-\w{4}) (=>|->|>>|\*\*|==) ",
    re.MULTILINE,
)
_FLAG_STATUS = {b"=>": "sent", b"->": "sent", b">>": "sent", b"**": "bounced", b"==": "deferred"}

# grok's names for what a record has under another
_GROK = {
    "postfix_queueid": lambda r: r.queue_id or "NOQUEUE",
    "postfix_to": lambda r: r.recipient,
    "postfix_from": lambda r: r.sender,
    "postfix_orig_to": lambda r: r.original_recipient,
    "postfix_message-id": lambda r: r.message_id,
    "postfix_message_id": lambda r: r.message_id,
    "postfix_dsn": lambda r: r.dsn,
    "postfix_delay": lambda r: f"{r.delay_s:g}",
    "postfix_size": lambda r: str(r.size_bytes),
    "postfix_nrcpt": lambda r: str(r.nrcpt),
    "postfix_client_hostname": lambda r: r.client_name,
    "postfix_client_ip": lambda r: r.client_ip,
    "postfix_relay_hostname": lambda r: r.relay.host,
    "postfix_relay_ip": lambda r: r.relay.ip,
    "postfix_relay_port": lambda r: r.relay.port,
    "postfix_proto": lambda r: r.protocol,
    "postfix_helo": lambda r: r.helo,
    "postfix_uid": lambda r: str(r.uid),
    "postfix_bounce_newqid": lambda r: r.new_queue_id,
    "postfix_status_code": lambda r: str(r.code),
    "postfix_status_code_enhanced": lambda r: r.dsn,
    "postfix_smtp_stage": None,
    "postfix_action": lambda r: r.action,
}


def simple_yaml(text: str) -> tuple[str, str, dict[str, str]]:
    """The pattern, data and results of one case: flat keys, plain or double-quoted scalars, nothing else is used."""
    top: dict[str, str] = {}
    results: dict[str, str] = {}
    for line in text.splitlines():
        match = re.match(r"(\s*)([\w.-]+):\s*(.*)$", line)
        if match is None:
            continue
        value = match[3].strip()
        if value.startswith('"'):
            value = json.loads(value)
        elif value.startswith("'"):
            value = value[1:-1]
        (results if match[1] else top)[match[2]] = value
    return top["pattern"], top["data"], results


def test_grok_cases_agree(corpora: Path) -> None:
    """Of the cases that are whole lines, every expected field that a record has is the field expected."""
    checked: Counter[str] = Counter()
    differences = []
    for path in sorted((corpora / "log-postfix-grok" / "test").glob("*.yaml")):
        pattern, data, results = simple_yaml(path.read_text(encoding="utf-8"))
        if "POSTFIX_" not in pattern:
            continue
        service = path.name.rpartition("_")[0].replace("_", "-").replace("tls-features", "smtp")
        record = PostfixGrammar().parse_entry(data, at_us=1, host="h", tag=f"postfix/{service}")
        if record is None:
            continue
        for name, expected in results.items():
            read = _GROK.get(name)
            if read is None:
                continue
            try:
                found = read(record)
            except AttributeError:
                continue
            checked[name] += 1
            if (found or "") != expected:
                differences.append((path.name, name, expected, found))
    assert differences == []
    assert sum(checked.values()) >= 120
    assert checked["postfix_queueid"] >= 30


def test_grok_lines_are_all_accounted_for(corpora: Path) -> None:
    """No whole line of the cases is unparsed (six cases are fragments of lines: a relay, a tls= value)."""
    fragments = {"relay_0001.yaml", *(f"tls_features_{number:04d}.yaml" for number in range(7, 13))}
    unparsed = set()
    for path in sorted((corpora / "log-postfix-grok" / "test").glob("*.yaml")):
        pattern, data, _ = simple_yaml(path.read_text(encoding="utf-8"))
        if "POSTFIX_" not in pattern:
            continue
        grammar = PostfixGrammar()
        service = path.name.rpartition("_")[0].replace("_", "-").replace("tls-features", "smtp")
        grammar.parse_entry(data, at_us=1, host="h", tag=f"postfix/{service}")
        if grammar.tally.unparsed:
            unparsed.add(path.name)
    assert unparsed <= fragments


@pytest.mark.parametrize(
    ("path", "unparsed"),
    [
        # One line has lost its prefix: "postfix/smtpd[123]12: from=<…".
        ("log-postfix-logwatch/maillog.rendered", 1),
        ("log-postfix-exporter/lines.log", 0),
    ],
)
def test_postfix_lines_are_all_accounted_for(corpora: Path, path: str, unparsed: int) -> None:
    """Every line is a record or a named shape; a delivery is only what has status= and a recipient."""
    data = (corpora / path).read_bytes()
    grammar = PostfixGrammar()
    records = list(grammar.parse_block(data, StampReader(reference_us=NOW_US, timezone="UTC")))
    assert grammar.tally.unparsed == unparsed
    assert grammar.tally.lines == data.count(b"\n")
    fates = len(re.findall(rb"(?m): to=.* status=(?:sent|deferred|bounced|SOFTBOUNCE)", data))
    assert sum(isinstance(record, Attempt) for record in records) == fates > 0


def read_exim(paths: list[Path]) -> tuple[list[Record], Tally, Counter[str]]:
    """Records and account of those logs, and how many lines have each fate by their flags alone."""
    records: list[Record] = []
    tally = Tally()
    flags: Counter[str] = Counter()
    for path in paths:
        grammar = EximGrammar()
        data = path.read_bytes()
        records += grammar.parse_block(data, StampReader(reference_us=NOW_US, timezone="UTC"))
        tally.add(grammar.tally)
        flags.update(_FLAG_STATUS[flag] for flag in _FLAG.findall(data))
    return records, tally, flags


@pytest.mark.parametrize(
    ("folder", "pattern", "sentences", "unparsed"),
    [
        # The test suite writes headings between runs and notes into its logs.
        # Two lines say "** mua_wrapper is set but …", a sentence in the address's place: they name no recipient.
        ("log-exim-testsuite/log", "*", {"bounced": 2}, 88),
        ("log-exim-genuine", "exim-49*.mainlog.log", {}, 0),
        ("log-exim-genuine", "scn-*.log", {}, 0),
    ],
)
def test_exim_fates_are_as_many_as_their_flags(
    corpora: Path, folder: str, pattern: str, sentences: dict[str, int], unparsed: int
) -> None:
    """As many deliveries, failures and deferrals as =>, ->, >>, **, == lines; the exceptions are named here."""
    records, tally, flags = read_exim(sorted((corpora / folder).glob(pattern)))
    found = Counter(record.status for record in records if isinstance(record, Attempt))
    # "=> blackhole (ACL discarded recipients)" is no delivery to anyone: it is a discarded mail.
    found["sent"] += sum(
        isinstance(record, Rejected) and record.action == "discard" and record.text.startswith("blackhole (")
        for record in records
    )
    found.update(sentences)
    assert found == flags
    assert tally.unparsed == unparsed
    assert tally.lines == len(records) + sum(tally.shapes.values()) + tally.unparsed


def test_exim_through_syslog_says_what_its_file_says(corpora: Path) -> None:
    """The same run as a datagram, a traditional file, an ISO file: the same records but for host and time."""
    genuine = corpora / "log-exim-genuine"
    views = []
    for name in ("syslog-sl-default.raw.log", "syslog-sl-default.traditional.log", "syslog-sl-default.iso.log"):
        records, tally, _ = read_exim([genuine / name])
        assert tally.unparsed == 0
        views.append([(type(r), r.queue_id, getattr(r, "recipient", None), getattr(r, "reply", None)) for r in records])
    assert views[0] == views[1] == views[2]
    assert len(views[0]) > 300


def test_exim_in_the_journal(corpora: Path) -> None:
    """Real journal entries: a line that was cut into four pieces is one arrival with its 60 recipients."""
    grammar = EximGrammar()
    records = []
    for line in (corpora / "log-exim-genuine" / "journal-496-all.json.log").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        record = grammar.parse_entry(
            entry["MESSAGE"],
            at_us=int(entry["__REALTIME_TIMESTAMP"]),
            host=entry["_HOSTNAME"],
            tag=entry.get("SYSLOG_IDENTIFIER", ""),
            pid=entry.get("SYSLOG_PID", ""),
        )
        if record is not None:
            records.append(record)
    assert grammar.tally.unparsed == 0
    assert max(len(getattr(record, "recipients", None) or ()) for record in records) >= 60
