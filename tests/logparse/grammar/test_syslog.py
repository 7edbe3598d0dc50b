# ruff: noqa: E501 (log lines are long)
"""The prefix that syslog puts before a program's text, and whose text it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postwake_logparse.detect import AutoGrammar, detect_mta, open_grammar
from postwake_logparse.exim import EximGrammar
from postwake_logparse.postfix import PostfixGrammar
from postwake_logparse.record import Removed
from postwake_logparse.shapes import MAX_SAMPLES, Tally, chunks, mask
from postwake_logparse.stamp import StampReader
from postwake_logparse.syslog import Entry, decode, split_line

ISO = "2026-03-05T06:52:01.257375+00:00"
MARCH_5_US = 1_772_693_521_000_000

# fmt: off
LINES = [
    pytest.param("Mar  5 06:52:01 mx1 postfix/smtp[42]: body", Entry("Mar  5 06:52:01", "mx1", "postfix/smtp", "42", "body"), id="traditional"),
    pytest.param(f"{ISO} mx1 postfix/smtp[42]: body: more", Entry(ISO, "mx1", "postfix/smtp", "42", "body: more"), id="rfc3339"),
    pytest.param("Mar  5 06:52:01 mx1 dovecot: body", Entry("Mar  5 06:52:01", "mx1", "dovecot", "", "body"), id="no-pid"),
    pytest.param("Mar  5 06:52:01 mx1 postfix/smtpd[42] body", Entry("Mar  5 06:52:01", "mx1", "postfix/smtpd", "42", "body"), id="no-colon-after-the-pid"),
    pytest.param("Mar  5 06:52:01 mx1 postfix/smtp[42]:", Entry("Mar  5 06:52:01", "mx1", "postfix/smtp", "42", ""), id="empty-body"),
    pytest.param("<22>Mar  5 06:52:01 postfix/smtp[42]: body", Entry("Mar  5 06:52:01", "", "postfix/smtp", "42", "body"), id="datagram-without-host"),
    pytest.param("<22>Mar  5 06:52:01 mx1 postfix/smtp[42]: body\n", Entry("Mar  5 06:52:01", "mx1", "postfix/smtp", "42", "body"), id="datagram-relayed"),
    pytest.param(f"<22>1 {ISO} mx1 postfix/smtp 42 - - body", Entry(ISO, "mx1", "postfix/smtp", "42", "body"), id="rfc5424"),
    pytest.param(f"<22>1 {ISO} mx1 postfix/smtp - ID47 [a@1 b=\"x\\]y\"][c@2] \ufeffbody", Entry(ISO, "mx1", "postfix/smtp", "", "body"), id="rfc5424-structured-data-and-bom"),
    pytest.param("<22>1 - - postfix/smtp 42 - - body", Entry(None, "", "postfix/smtp", "42", "body"), id="rfc5424-nils"),
    pytest.param("Mar  5 06:52:01 mx1 postfix/smtpd[27]: [ID 197553 mail.info] body", Entry("Mar  5 06:52:01", "mx1", "postfix/smtpd", "27", "body"), id="solaris"),
    pytest.param("Mar  5 06:52:01 mx1 exim[42]: a#011b", Entry("Mar  5 06:52:01", "mx1", "exim", "42", "a\tb"), id="rsyslog-tab"),
    pytest.param("7EE668039: to=<a@b.test>, relay=none", Entry(None, "", "", "", "7EE668039: to=<a@b.test>, relay=none"), id="bare-body"),
    pytest.param("Mar 5 06:52:01 mx1 postfix/smtp[42]: body", Entry("Mar 5 06:52:01", "mx1", "postfix/smtp", "42", "body"), id="day-of-one-character"),
    pytest.param("Jul 05 06:52:01 mx1 postfix/smtp[42]: body", Entry("Jul 05 06:52:01", "mx1", "postfix/smtp", "42", "body"), id="postlogd-day-with-a-zero"),
    pytest.param("Mar  5 06:52:01.257375 mx1 postfix/smtp[42]: body", Entry("Mar  5 06:52:01.257375", "mx1", "postfix/smtp", "42", "body"), id="journalctl-short-precise"),
    pytest.param("Thu 2026-03-05 06:52:01 CET mx1 postfix/smtp[42]: body", Entry("2026-03-05 06:52:01", "mx1", "postfix/smtp", "42", "body"), id="journalctl-short-full"),
    pytest.param("Thu 2026-03-05 06:52:01 UTC mx1 postfix/smtp[42]: body", Entry("2026-03-05 06:52:01Z", "mx1", "postfix/smtp", "42", "body"), id="journalctl-short-full-utc"),
    pytest.param("1772693521.257375 mx1 postfix/smtp[42]: body", Entry("1772693521.257375", "mx1", "postfix/smtp", "42", "body"), id="journalctl-short-unix"),
    pytest.param("2026-03-05 06:52:01.257 mx1 postfix/smtp[42]: body", Entry("2026-03-05 06:52:01.257", "mx1", "postfix/smtp", "42", "body"), id="space-between-date-and-time"),
    pytest.param("Mar  5 06:52:01 <mail.info> mx1 postfix/smtp[42]: body", Entry("Mar  5 06:52:01", "mx1", "postfix/smtp", "42", "body"), id="freebsd-facility"),
    pytest.param(f"78 <22>1 {ISO} mx1 postfix/smtp 42 - - body", Entry(ISO, "mx1", "postfix/smtp", "42", "body"), id="rfc5424-octets-counted"),
    pytest.param("", Entry(None, "", "", "", ""), id="empty"),
]
# fmt: on


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_the_prefix_is_taken_off(line: str, expected: Entry) -> None:
    """Stamp, host, tag, pid and body are apart, in every framing that reaches us."""
    assert split_line(line) == expected


@pytest.mark.parametrize(
    "prefix",
    ["Mar  5 06:52:01 mx1 ", "2026-03-05T06:52:01+00:00 mx1 ", "<22>Mar  5 06:52:01 ", "<22>Mar  5 06:52:01 mx1 "],
)
def test_every_framing_makes_the_same_record(prefix: str) -> None:
    """The same body is the same record whatever stands before it."""
    grammar, clock = PostfixGrammar(), StampReader(reference_us=MARCH_5_US, timezone="UTC")
    line = f"{prefix}postfix/qmgr[42]: 7EE668039: removed\n"
    (record,) = grammar.parse_block(line.encode(), clock)
    assert isinstance(record, Removed)
    assert (record.at_us, record.queue_id, record.program.service) == (MARCH_5_US, "7EE668039", "qmgr")


def test_a_bare_body_is_as_old_as_the_newest_line() -> None:
    """A line without any stamp gets the newest time seen, or the reference when nothing was seen."""
    grammar, clock = PostfixGrammar(), StampReader(reference_us=MARCH_5_US, timezone="UTC")
    first, second, third = grammar.parse_block(
        b"7EE668039: removed\nFeb  1 06:00:00 mx1 postfix/qmgr[1]: 7EE668039: removed\n7EE668039: removed\n", clock
    )
    assert first.at_us == MARCH_5_US
    assert third.at_us == second.at_us < MARCH_5_US


def test_bytes_that_are_no_utf8_stay_readable() -> None:
    """A byte that is no UTF-8 becomes its escape: storable, visible, never an error."""
    assert decode(b"gr\xc3\xbc\xdfe") == "grü\\xdfe"


@given(st.text(max_size=200))
def test_no_line_breaks_the_splitter(line: str) -> None:
    """Whatever arrives is an entry; what is not framed is all body."""
    entry = split_line(line)
    assert all(isinstance(part, str) for part in entry[1:])


@pytest.mark.parametrize(
    ("data", "mta"),
    [
        pytest.param(b"Mar  5 06:52:01 mx1 postfix/smtp[42]: x\n", "postfix", id="postfix"),
        pytest.param(b"Mar  5 06:52:01 mx1 out/smtp[42]: x\n", "postfix", id="postfix-other-syslog-name"),
        pytest.param(b"7EE668039: to=<a@b.test>, relay=none, delay=1, status=sent (x)\n", "postfix", id="postfix-bare"),
        pytest.param(
            b"<22>1 2026-03-05T06:52:01Z mx1 postfix/smtp 1 - - 7EE668039: to=<a>\n", "postfix", id="postfix-rfc5424"
        ),
        pytest.param(b"2026-03-05 06:52:01 1xUz23-0005zv-2n Completed\n", "exim", id="exim"),
        pytest.param(b"2026-03-05 06:52:01.123 +0100 [7] 10HmbD-000000005vi-0000 Completed\n", "exim", id="exim-long"),
        pytest.param(b"2026-03-05 06:52:01 Start queue run: pid=7\n", "exim", id="exim-no-message"),
        pytest.param(b"Mar  5 06:52:01 mx1 exim[42]: x\n", "exim", id="exim-syslog"),
        pytest.param(b"<22>1 2026-03-05T06:52:01Z mx1 exim 42 - - x\n", "exim", id="exim-rfc5424"),
        pytest.param(b"Mar  5 06:52:01 mx1 dovecot: x\n" * 9, None, id="neither"),
        pytest.param(b"", None, id="empty"),
    ],
)
def test_whose_log_it_is(data: bytes, mta: str | None) -> None:
    """The MTA is told from its own lines; a log without any tells nothing."""
    assert detect_mta(data) == mta


def test_auto_waits_for_a_block_that_tells_and_stays_with_it() -> None:
    """A block of another program's lines decides nothing; the first block with the MTA's does, for good."""
    grammar, clock = AutoGrammar(), StampReader(reference_us=MARCH_5_US, timezone="UTC")
    assert list(grammar.parse_block(b"Mar  5 06:52:01 mx1 dovecot: x\n", clock)) == []
    assert grammar.mta is None
    assert len(list(grammar.parse_block(b"2026-03-05 06:52:01 1xUz23-0005zv-2n Completed\n", clock))) == 1
    assert grammar.mta == "exim"
    assert grammar.tally.lines == 2


def test_a_journal_holds_everybodys_entries() -> None:
    """Entries are dispatched by their identifier, whatever the others were."""
    grammar = AutoGrammar()
    one = grammar.parse_entry("7EE668039: removed", at_us=1, host="h", tag="postfix/qmgr")
    two = grammar.parse_entry("1xUz23-0005zv-2n Completed", at_us=2, host="h", tag="exim", pid="7")
    assert [type(one), type(two)] == [Removed, Removed]
    assert grammar.parse_entry("x", at_us=3, host="h", tag="sshd") is None
    assert grammar.tally.shapes == {"other program": 1}


def test_grammars_by_name() -> None:
    """The three names of the contract open their grammar; a fourth is refused by name."""
    assert [type(open_grammar(mta)) for mta in ("postfix", "exim", "auto")] == [
        PostfixGrammar,
        EximGrammar,
        AutoGrammar,
    ]
    with pytest.raises(ValueError, match="sendmail"):
        open_grammar("sendmail")


@given(st.lists(st.integers(0, 90_000), max_size=6))
def test_portions_cover_the_block_and_end_at_line_ends(lengths: list[int]) -> None:
    """A block is cut without loss or overlap, after newlines only, lines longer than a portion included."""
    data = b"".join(b"x" * length + b"\n" for length in lengths)
    parts = [data[start:end] for start, end in chunks(data)]
    assert b"".join(parts) == data
    assert all(part.endswith(b"\n") for part in parts)


def test_the_table_of_samples_is_bounded() -> None:
    """Endless kinds of unknown lines are counted and only so many are kept."""
    tally = Tally()
    for number in range(MAX_SAMPLES * 3):
        tally.unknown("word " * (number % 11 + 1) + "abcdefghijklmnopqrstuvwxyz"[number % 26] * (number + 1))
    assert tally.unparsed == MAX_SAMPLES * 3
    assert len(tally.samples) == MAX_SAMPLES


def test_samples_of_one_form_are_one() -> None:
    """Lines that differ in addresses, numbers and IDs alone are one form."""
    assert (
        mask("gone a@b.test after 3 tries [x]") == mask("gone c@d.test after 99 tries [y]") == "gone * after * tries *"
    )


def test_tallies_add_up_and_reset() -> None:
    """Sums of accounts keep every count; a reset account counts from nothing."""
    one, two = Tally(lines=2, unparsed=1), Tally(lines=3)
    one.unknown("strange thing")
    two.unknown("strange thing")
    two.add(one)
    assert (two.lines, two.unparsed, two.sample_counts) == (5, 3, {"strange thing": 2})
    two.reset()
    assert two == Tally()
