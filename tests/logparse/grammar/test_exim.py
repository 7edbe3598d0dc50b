# ruff: noqa: E501 (log lines are long)
"""Exim's lines: one row of a table per shape, each with the fields that a naive reader gets wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postwake_logparse.exim import EximGrammar
from postwake_logparse.exim_fields import fold, seconds
from postwake_logparse.record import (
    Arrival,
    Attempt,
    Deleted,
    Held,
    HostSaid,
    Record,
    Rejected,
    Released,
    Removed,
)
from postwake_logparse.stamp import StampReader

ReadLine = Callable[[str], tuple[Record | None, EximGrammar]]

STAMP = "2026-03-05 06:52:01 "
MARCH_5_US = 1_772_693_521_000_000
ID = "1xUz23-0005zv-2n"
LONG_ID = "10HmbD-000000005vi-0000"


def field(record: object, path: str) -> object:
    """A record's field, or a field of its field: ``relay.host``."""
    for name in path.split("."):
        record = getattr(record, name)
    return record


# fmt: off
RECORDS = [
    pytest.param(f"{ID} <= app@sender.test H=(client.test) [127.0.0.1] P=esmtp S=419 id=179.1@app.test",
        Arrival, {"queue_id": ID, "sender": "app@sender.test", "client_ip": "127.0.0.1", "client_name": None, "helo": "client.test", "protocol": "esmtp", "size_bytes": 419, "message_id": "179.1@app.test", "subject": None, "parent_id": None, "recipients": None, "fake_reject": False}, id="arrival"),
    pytest.param(f"{LONG_ID} <= x@s.test H=mail.s.test (mail) [192.0.2.7]:38460 I=[127.0.0.1]:2551 P=esmtpsa L.- X=TLS1.3:ECDHE:256 CV=no A=plain:shop@s.test:env S=430 M8S=0 DKIM=s.test RT=0.000s id=a b@c T=\"Gr\\303\\274\\303\\237e \\\"quoted\\\"\" from <x@s.test> for a@b.test \"c d\"@b.test o'b@b.test",
        Arrival, {"queue_id": LONG_ID, "client_name": "mail.s.test", "client_ip": "192.0.2.7", "helo": "mail", "sasl_method": "plain", "sasl_username": "shop@s.test", "message_id": "a b@c", "subject": "Grüße \"quoted\"", "recipients": ("a@b.test", "\"c d\"@b.test", "o'b@b.test"), "size_bytes": 430}, id="arrival-every-selector"),
    pytest.param(f"{ID} <= <> R=1xUzAU-0002vm-29 U=Debian-exim P=local S=1948",
        Arrival, {"sender": "", "parent_id": "1xUzAU-0002vm-29", "local_user": "Debian-exim", "protocol": "local", "client_ip": None, "message_id": None}, id="bounce-refers-to-its-parent"),
    pytest.param(f"{ID} <= \"john doe\"@s.test H=([192.0.2.7]) [192.0.2.8] P=smtp S=9", Arrival, {"sender": "\"john doe\"@s.test", "helo": "[192.0.2.7]", "client_ip": "192.0.2.8"}, id="quoted-sender-and-literal-helo"),
    pytest.param(f"{ID} <= a@s.test NEW=1 H=mail.s.test (mail) [192.0.2.7]:38460 P=esmtpsa X=TLS1.3 ODD A=plain:shop@s.test SNI=\"mx a\" S=430 ZZ=\"x y\" id=1@s.test T=\"Hi \\\"you\\\"\" from <a@s.test> for a@b.test c@d.test",
        Arrival, {"sender": "a@s.test", "client_name": "mail.s.test", "client_ip": "192.0.2.7", "helo": "mail", "protocol": "esmtpsa", "sasl_method": "plain", "sasl_username": "shop@s.test", "size_bytes": 430, "message_id": "1@s.test", "subject": "Hi \"you\"", "recipients": ("a@b.test", "c@d.test")}, id="arrival-with-fields-of-a-later-version"),
    pytest.param(f"{ID} (= b2@dump.test H=(x) [192.0.2.8] P=smtp S=9", Arrival, {"fake_reject": True, "sender": "b2@dump.test"}, id="fakereject"),
    pytest.param(f"{ID} <= u@x.test U=CALLER P=local S=sss", Arrival, {"size_bytes": None, "local_user": "CALLER"}, id="size-not-a-number"),
    pytest.param(f"{ID} => ok1@a.test F=<app@s.test> P=<app@s.test> R=remote T=remote_smtp S=1280 H=mx.a.test [192.0.2.9]:2526 I=[127.0.0.1]:43598 X=TLS1.3:x:256 CV=yes L K C=\"250 2.0.0 Ok: queued as 0000000003E9\" QT=1m10s DT=0.004s",
        Attempt, {"status": "sent", "recipient": "ok1@a.test", "original_recipient": None, "sender": "app@s.test", "transport": "remote_smtp", "agent": "smtp", "relay.host": "mx.a.test", "relay.ip": "192.0.2.9", "relay.port": "2526", "relay.text": "mx.a.test[192.0.2.9]:2526", "reply": "250 2.0.0 Ok: queued as 0000000003E9", "dsn": "2.0.0", "delay_s": 70.0, "next_queue_id": "0000000003E9", "tls": "TLS1.3:x:256"}, id="sent-every-selector"),
    pytest.param(f"{ID} -> b@a.test R=remote T=remote_smtp H=127.0.0.1 [127.0.0.1]* C=\"250 OK id={LONG_ID}\"", Attempt, {"recipient": "b@a.test", "conn_use": 2, "next_queue_id": LONG_ID, "status": "sent"}, id="further-address-reused-connection"),
    pytest.param(f"{ID} >> u@d.test P=<c@m.test> R=all T=smtp H=127.0.0.1 [127.0.0.1] C=\"250 OK\"", Attempt, {"recipient": "u@d.test", "status": "sent"}, id="cut-through"),
    pytest.param(f"{ID} => usery@domain1 <userx@domain1> R=smtp T=smtp H=h [192.0.2.1] C=\"250 OK\"", Attempt, {"recipient": "usery@domain1", "original_recipient": "userx@domain1"}, id="original-address"),
    pytest.param(f"{ID} => alice <alice@lab.test> R=local_user T=local_mbox", Attempt, {"recipient": "alice@lab.test", "original_recipient": None, "agent": "local", "relay.text": "local_mbox"}, id="local-part-only"),
    pytest.param(f"{ID} => /dev/null (faq@n.test) <faq@n.test> R=aliases T=**bypassed**", Attempt, {"recipient": "faq@n.test", "status": "sent", "agent": "file", "transport": "**bypassed**"}, id="asterisks-that-are-no-failure"),
    pytest.param(f"{ID} => :blackhole: <hole@lab.test> R=alias", Attempt, {"recipient": "hole@lab.test", "agent": "discard", "transport": None}, id="blackhole-address"),
    pytest.param(f"{ID} => |/usr/bin/prog -a b <pipe-u=x@t.test> R=r2 T=t2", Attempt, {"recipient": "pipe-u=x@t.test", "agent": "pipe"}, id="pipe"),
    pytest.param(f"{ID} => >userx (page+userx@t.test) <page+ux@t.test> R=userforward T=address_reply", Attempt, {"recipient": "page+ux@t.test", "agent": "autoreply"}, id="autoreply"),
    pytest.param(f"{ID} => a b@q.test <\"a b\"@q.test> R=remote T=remote_smtp H=h [192.0.2.1] C=\"250 OK\"", Attempt, {"recipient": "a b@q.test", "original_recipient": "\"a b\"@q.test"}, id="space-in-the-local-part"),
    pytest.param(f"{ID} => user.γλυκύρριζα@t.test F=<userU@t.test> R=rmt T=rmt_smtp H=h [192.0.2.1] C=\"250 OK\"", Attempt, {"recipient": "user.γλυκύρριζα@t.test", "sender": "userU@t.test"}, id="utf-8"),
    pytest.param(f"{ID} => a@t.test R=r T=t H=h [192.0.2.1] C=\"250- 3nn byte chunk, total 3nn\\\\n250 OK id={LONG_ID}\"", Attempt, {"reply": f"250- 3nn byte chunk, total 3nn 250 OK id={LONG_ID}", "next_queue_id": LONG_ID}, id="reply-of-two-lines"),
    pytest.param(f"{ID} => a@t.test R=r T=lmtp H=h [/run/lmtp] C=\"250 OK\"", Attempt, {"relay.socket": "/run/lmtp", "relay.ip": None, "agent": "lmtp"}, id="lmtp-socket"),
    pytest.param(f"{ID} == d450@a.test R=remote T=remote_smtp defer (-44) H=127.0.0.1 [127.0.0.1]:2526 I=[127.0.0.1]:43602 DT=0.000s: SMTP error from remote mail server after RCPT TO:<d450@a.test>: 450 4.2.1 busy",
        Attempt, {"status": "deferred", "recipient": "d450@a.test", "relay.text": "127.0.0.1[127.0.0.1]:2526", "dsn": "4.2.1", "reply": "SMTP error from remote mail server after RCPT TO:<d450@a.test>: 450 4.2.1 busy", "retry_only": False, "agent": "smtp"}, id="deferred-host-after-the-code"),
    pytest.param(f"{ID} == l@t.test R=client T=send_to_server defer (-44) H=127.0.0.1 [127.0.0.1]: SMTP error: 451 Temp", Attempt, {"reply": "SMTP error: 451 Temp", "relay.ip": "127.0.0.1"}, id="deferred-without-selectors"),
    pytest.param(f"{ID} == r@c.test R=remote T=remote_smtp defer (111): Connection refused", Attempt, {"reply": "Connection refused", "agent": "smtp", "relay.host": "remote_smtp", "relay.ip": None}, id="deferred-errno"),
    pytest.param(f"{ID} == r@c.test R=remote T=remote_smtp defer (110): Connection timed out H=mx [192.0.2.1] DT=5m: SMTP timeout after end of data", Attempt, {"reply": "Connection timed out: SMTP timeout after end of data", "relay.host": "mx"}, id="deferred-errno-host-and-text"),
    pytest.param(f"{ID} == r3.a@o.test routing defer (-52): retry time not reached", Attempt, {"retry_only": True, "recipient": "r3.a@o.test"}, id="retry-time-is-no-attempt"),
    pytest.param(f"{ID} == r@o.test R=alias defer (-1): forced defer", Attempt, {"retry_only": False, "reply": "forced defer", "agent": "error"}, id="router-defers"),
    pytest.param(f"{ID} ** f550@a.test F=<a@s.test> P=<a@s.test> R=remote T=remote_smtp H=mx [192.0.2.1]:2526 I=[127.0.0.1]:43612: SMTP error from remote mail server after RCPT TO:<f550@a.test>: 550 5.1.1 <f550@a.test>: unknown DT=0.000s",
        Attempt, {"status": "bounced", "recipient": "f550@a.test", "relay.host": "mx", "dsn": "5.1.1", "sender": "a@s.test", "reply": "SMTP error from remote mail server after RCPT TO:<f550@a.test>: 550 5.1.1 <f550@a.test>: unknown"}, id="bounced-time-at-the-end"),
    pytest.param(f"{ID} ** x@t.test routing yielded a local delivery", Attempt, {"status": "bounced", "recipient": "x@t.test", "reply": "routing yielded a local delivery"}, id="words-glued-to-the-address"),
    pytest.param(f"{ID} ** x@t.test: retry timeout exceeded", Attempt, {"status": "bounced", "recipient": "x@t.test", "reply": "retry timeout exceeded", "agent": "error"}, id="colon-glued-to-the-address"),
    pytest.param(f"{ID} ** usery@d1 <userx@d1> R=smtp T=smtp H=127.0.0.1 [127.0.0.1] : SMTP error from remote mail server after RCPT TO:<usery@d1>: 550 Not that one", Attempt, {"recipient": "usery@d1", "original_recipient": "userx@d1", "reply": "SMTP error from remote mail server after RCPT TO:<usery@d1>: 550 Not that one"}, id="space-before-the-colon"),
    pytest.param(f"{ID} ** m@a.test R=r T=t H=h [192.0.2.1]: LMTP error after DATA: 550-I don't like this user\\n550 Bad \\303\\251 user C:\\path", Attempt, {"reply": "LMTP error after DATA: 550-I don't like this user 550 Bad é user C:\\path"}, id="escapes-undone-others-kept"),
    pytest.param(f"{ID} Completed", Removed, {"queue_id": ID}, id="completed"),
    pytest.param(f"{ID} Completed QT=0.022s", Removed, {}, id="completed-with-time"),
    pytest.param(f"{ID} Frozen (delivery error message)", Held, {}, id="frozen"),
    pytest.param(f"{ID} frozen by root", Held, {}, id="frozen-by-the-operator"),
    pytest.param(f"{ID} Unfrozen by errmsg timer", Released, {}, id="unfrozen"),
    pytest.param(f"{ID} unfrozen by root", Released, {}, id="unfrozen-by-the-operator"),
    pytest.param(f"{ID} cancelled by timeout_frozen_after", Deleted, {"by": "timeout_frozen_after"}, id="cancelled"),
    pytest.param(f"{ID} removed by CALLER", Deleted, {"by": "CALLER"}, id="removed-by-the-operator"),
    pytest.param(f"{ID} H=mx.t.test [192.0.2.4] SMTP error from remote mail server after RCPT TO:<u@t.test>: 451 Recipient deferred", HostSaid, {"relay.ip": "192.0.2.4", "reply": "SMTP error from remote mail server after RCPT TO:<u@t.test>: 451 Recipient deferred"}, id="host-error-without-a-flag"),
    pytest.param(f"{ID} H=mx.t.test [192.0.2.4] Connection refused", HostSaid, {"relay.host": "mx.t.test"}, id="host-refused"),
    pytest.param("H=(c.test) [192.0.2.1] F=<s@t.test> rejected RCPT <r@t.test>: relay not permitted", Rejected, {"queue_id": "", "stage": "RCPT", "client_ip": "192.0.2.1", "helo": "c.test", "sender": "s@t.test", "recipient": "r@t.test", "text": "relay not permitted", "code": 550}, id="rejected-rcpt"),
    pytest.param("H=mail.t.test (c) [192.0.2.1]:4711 F=<s@t.test> temporarily rejected RCPT <r@t.test>: greylisted", Rejected, {"code": 451, "client_name": "mail.t.test"}, id="rejected-temporarily"),
    pytest.param(f"{ID} H=(c.test) [192.0.2.1] F=<s@t.test> rejected after DATA: no thanks", Rejected, {"queue_id": ID, "stage": "DATA", "sender": "s@t.test", "recipient": None}, id="rejected-after-data"),
    pytest.param("H=(c.test) [192.0.2.1] rejected MAIL <s@t.test>: bad sender", Rejected, {"stage": "MAIL", "sender": "s@t.test", "recipient": None}, id="rejected-mail"),
    pytest.param("H=(c.test) [192.0.2.1] F=<s@t.test> RCPT <r@t.test>: discarded by RCPT ACL: spam", Rejected, {"action": "discard", "recipient": "r@t.test", "code": None}, id="discarded-rcpt"),
    pytest.param(f"{ID} => blackhole (RCPT ACL discarded recipients)", Rejected, {"action": "discard", "queue_id": ID}, id="discarded-after-rcpt"),
    # exim: src/macros.h. 4.8x and 4.92 begin these numbers at -51, 4.96 to 4.98 at -52, later ones at -59.
    pytest.param(f"{ID} == u@a.test routing defer (-51): retry time not reached", Attempt, {"retry_only": True, "status": "deferred"}, id="retry-time-4.92"),
    pytest.param(f"{ID} == u@a.test R=r T=t defer (-61): retry time not reached for any host for 'a.test'", Attempt, {"retry_only": True}, id="retry-time-after-4.98"),
    pytest.param(f"{ID} == u@a.test R=alias defer (-53): not now please", Attempt, {"retry_only": False, "reply": "not now please"}, id="a-routers-defer-after-4.98"),
    pytest.param(f"{ID} == u@a.test R=r T=t defer (-56): domain is in queue_domains", Attempt, {"retry_only": True}, id="queue-domains"),
    pytest.param(f"{ID} ** john: doe@a.test <\"john: doe\"@a.test> R=r T=t H=h [192.0.2.1]: SMTP error from remote mail server after RCPT TO:<\"john: doe\"@a.test>: 550 x",
        Attempt, {"recipient": "john: doe@a.test", "original_recipient": '"john: doe"@a.test', "relay.ip": "192.0.2.1", "transport": "t", "reply": "SMTP error from remote mail server after RCPT TO:<\"john: doe\"@a.test>: 550 x"}, id="colon-in-a-local-part"),
    pytest.param(f"{ID} => u@a.test R=r T=t H=h [192.0.2.1] C=\"250 cut by sysl", Attempt, {"reply": "250 cut by sysl", "status": "sent"}, id="reply-cut-by-syslog"),
    pytest.param("H=(y.test) [192.0.2.178]:3755 I=[192.0.2.4]:25 F=m@l.test rejected RCPT dir@ml3.test: relay not permitted", Rejected, {"sender": "m@l.test", "recipient": "dir@ml3.test", "text": "relay not permitted"}, id="rejected-without-angle-brackets"),
    # exim: src/deliver.c, delivery_log(): with SRS built in, its sender stands before the return path.
    pytest.param(f"{ID} => u+01 - test (\"u+01 - Test\"@a.test, u@a.test) <u@a.test> SRS=<SRS0=zT=ZG=b.test=c@a.test> R=virtual_user T=dovecot_virtual_delivery C=\"250 2.0.0 <u@a.test> x Saved\"",
        Attempt, {"recipient": "u@a.test", "original_recipient": None, "transport": "dovecot_virtual_delivery", "dsn": "2.0.0"}, id="srs-sender-and-parents-with-spaces"),
    pytest.param(f"{ID} ** u@a.test SRS=<SRS0=a=b=c=d@e.test> R=r T=t H=mx.a.test [192.0.2.1]: SMTP error from remote mail server after end of data: 550 x", Attempt, {"recipient": "u@a.test", "relay.ip": "192.0.2.1"}, id="srs-sender-of-a-failure"),
    pytest.param(f"{ID} => s+spam |/usr/local/bin/autorespond s@a.test /home/a/.autorespond (s@a.test) <s@a.test> R=virtual_aliases T=virtual_address_pipe", Attempt, {"recipient": "s@a.test", "original_recipient": None, "agent": "pipe"}, id="command-behind-a-local-part"),
    pytest.param(f"{ID} => u@a.test R=r T=t H=mx.a.test", Attempt, {"relay.host": "mx.a.test", "relay.ip": None, "relay.text": "mx.a.test"}, id="host-without-an-address"),
    pytest.param(f"{ID} == u@a.test R=dnslookup T=remote_smtp defer (-44): SMTP error from remote mail server after RCPT TO:<u@a.test>: host mx.a.test [192.0.2.1]: 450 4.3.2 Too many mails",
        Attempt, {"relay.text": "mx.a.test[192.0.2.1]", "dsn": "4.3.2", "reply": "SMTP error from remote mail server after RCPT TO:<u@a.test>: host mx.a.test [192.0.2.1]: 450 4.3.2 Too many mails"}, id="host-in-the-text"),
    pytest.param(f"{ID} ** u@a.test R=enforce_mail_permissions: Domain b.test has exceeded the max emails per hour (101/100 (101%)) allowed.  Message discarded.", Attempt, {"status": "bounced", "relay.text": "", "reply": "Domain b.test has exceeded the max emails per hour (101/100 (101%)) allowed.  Message discarded."}, id="cpanel-limit"),
]

SHAPES = [
    pytest.param(f"{ID} *> x@t.test R=r2 T=t1 H=t [192.0.2.2] C=\"delivery bypassed by -N option\"", "dry run", id="dry-run"),
    pytest.param(f"{ID} Message is frozen", "still frozen", id="still-frozen"),
    pytest.param(f"{ID} u@d.test: error ignored", "error ignored", id="error-ignored"),
    pytest.param(f"{ID} no immediate delivery: queued by ACL", "spool", id="no-immediate-delivery"),
    pytest.param(f"{ID} address <a@b.test> marked delivered by root", "operator on one recipient", id="operator-marks"),
    pytest.param("Start queue run: pid=4711", "queue run", id="queue-run"),
    pytest.param("cwd=/ 5 args: /usr/sbin/exim4 -bdf -q4s", "life of the daemon", id="arguments"),
    pytest.param("SMTP connection from (c) [192.0.2.1]:38460 closed by QUIT", "connection", id="connection"),
    pytest.param("whatever an ACL's logwrite says", "remark", id="logwrite"),
    pytest.param(f"{ID} whatever an ACL's logwrite says => x@y.test", "remark on a message", id="logwrite-with-an-arrow"),
]
# fmt: on

STAMPS = [
    pytest.param("2026-03-05 06:52:01 ", 0, id="plain"),
    pytest.param("2026-03-05 06:52:01.447 ", 447_000, id="milliseconds"),
    pytest.param("2026-03-05 07:52:01 +0100 ", 0, id="zone"),
    pytest.param("2026-03-05 07:52:01.447 +0100 [4711] ", 447_000, id="milliseconds-zone-pid"),
    pytest.param("2026-03-05 06:52:01 [4711] ", 0, id="pid"),
    pytest.param("Mar  5 06:52:01 mx1 exim[4711]: 2026-03-05 07:52:01 ", 0, id="syslog-own-stamp-in-another-zone"),
    pytest.param("Mar  5 06:52:01 mx1 exim[4711]: ", 0, id="syslog-without-own-stamp"),
    pytest.param("2026-03-05 06:52:01 mx1 exim4[4711]: 2026-03-05 07:52:01 ", 0, id="syslog-stamp-like-exims-own"),
    pytest.param(
        "2026-03-05T06:52:01.000447+00:00 mx1 exim[4711]: 2026-03-05 07:52:01 [4711] ", 447, id="syslog-rfc3339"
    ),
    pytest.param("<22>Mar  5 06:52:01 exim[4711]: 2026-03-05 07:52:01 ", 0, id="datagram"),
]


@pytest.mark.parametrize(("line", "kind", "expected"), RECORDS)
def test_a_line_that_tells_a_fate_is_a_record(
    exim_line: ReadLine, line: str, kind: type, expected: dict[str, object]
) -> None:
    """Each shape of line makes the record it means, with its fields taken apart."""
    record, grammar = exim_line(STAMP + line)
    assert type(record) is kind
    assert {name: field(record, name) for name in expected} == expected
    assert field(record, "at_us") == MARCH_5_US
    assert grammar.tally.records == {kind.__name__: 1}


@pytest.mark.parametrize(("line", "shape"), SHAPES)
def test_a_line_without_a_fate_is_counted_under_its_shape(exim_line: ReadLine, line: str, shape: str) -> None:
    """What tells no message's fate makes no record and is accounted for by name."""
    record, grammar = exim_line(STAMP + line)
    assert record is None
    assert grammar.tally.shapes == {shape: 1}
    assert grammar.tally.unparsed == 0


@pytest.mark.parametrize(("stamp", "fraction_us"), STAMPS)
@pytest.mark.parametrize("message", [ID, LONG_ID])
def test_every_dress_of_a_line_is_the_same_line(
    exim_line: ReadLine, stamp: str, fraction_us: int, message: str
) -> None:
    """With any log_selector's stamp, as a file or in syslog's clothes: the same moment, the same delivery."""
    record, _ = exim_line(f'{stamp}{message} => a@b.test R=r T=t H=h [192.0.2.1] C="250 OK"')
    assert isinstance(record, Attempt)
    assert (record.at_us, record.queue_id, record.recipient) == (MARCH_5_US + fraction_us, message, "a@b.test")


def test_pieces_of_a_long_syslog_line_are_joined(clock: StampReader) -> None:
    """[n/m] pieces of one process make one line, even cut inside an address and mixed with another process's."""
    text = f'2026-03-05 06:52:01 {ID} => a@b.test R=r T=t H=h [192.0.2.1] C="250 OK"'
    block = (
        f"Mar  5 06:52:01 mx exim[1]: [1/3] {text[:50]}\n"
        f"Mar  5 06:52:01 mx exim[2]: [1/2] 2026-03-05 06:52:01 {LONG_ID} Comp\n"
        f"Mar  5 06:52:01 mx exim[1]: [2/3] {text[50:60]}\n"
        f"Mar  5 06:52:01 mx exim[2]: [2/2] leted\n"
        f"Mar  5 06:52:02 mx exim[1]: [3/3] {text[60:]}\n"
    ).encode()
    grammar = EximGrammar()
    removed, sent = grammar.parse_block(block, clock)
    assert (type(removed), removed.queue_id) == (Removed, LONG_ID)
    assert isinstance(sent, Attempt)
    assert (sent.recipient, sent.reply) == ("a@b.test", "250 OK")
    assert grammar.tally.shapes == {"piece of a line": 3}


def test_a_space_lost_at_a_cut_comes_back(clock: StampReader) -> None:
    """A log daemon took the space off a full piece's end: two recipients do not become one."""
    head = f"2026-03-05 06:52:01 {ID} <= s@t.test U=u P=local S=9 for "
    first = "x" * (869 - len(head) - len("@a.test")) + "@a.test"
    block = f"Mar  5 06:52:01 mx exim[1]: [1/2] {head}{first}\nMar  5 06:52:01 mx exim[1]: [2/2] b@a.test\n".encode()
    (record,) = EximGrammar().parse_block(block, clock)
    assert isinstance(record, Arrival)
    assert record.recipients == (first, "b@a.test")


def test_a_piece_without_its_beginning_makes_nothing(clock: StampReader) -> None:
    """The end of a line whose beginning was never seen is accounted for and is no line of its own."""
    grammar = EximGrammar()
    assert list(grammar.parse_block(b"Mar  5 06:52:01 mx exim[1]: [2/2] => a@b.test\n", clock)) == []
    assert grammar.tally.shapes == {"piece of a line": 1}


def test_a_refusal_that_syslog_got_twice_is_one(clock: StampReader) -> None:
    """syslog_duplication writes a rejection to both logs: the twin is dropped, a third and real one is not."""
    line = (
        b"Mar  5 06:52:01 mx exim[7]: 2026-03-05 06:52:01 H=(c) [192.0.2.1] F=<s@t.test> rejected RCPT <r@t.test>: no\n"
    )
    grammar = EximGrammar()
    assert len(list(grammar.parse_block(line * 3, clock))) == 2
    assert grammar.tally.shapes == {"written twice": 1}


def test_another_programs_line_is_not_exims(exim_line: ReadLine) -> None:
    """In a shared syslog file, what other programs write is accounted for as theirs."""
    record, grammar = exim_line("Mar  5 06:52:01 mx dovecot: imap-login: Login: user=<a>")
    assert record is None
    assert grammar.tally.shapes == {"other program": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.019s", 0.019), ("21s", 21.0), ("1m10s", 70.0), ("2d3h", 183_600.0), ("qqs", None), ("", None)],
)
def test_durations(text: str, expected: float | None) -> None:
    """Exim's durations in seconds; a munged or missing one is None."""
    assert seconds(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a\\nb", "a b"), ("\\303\\251", "é"), ("\\377x", "\\377x"), ("C:\\path", "C:\\path"), ("plain", "plain")],
)
def test_replies_are_folded_as_postfix_folds_them(text: str, expected: str) -> None:
    """Line ends become spaces, octal becomes the UTF-8 it is, and what is no escape stays."""
    assert fold(text) == expected


@given(st.lists(st.sampled_from([row.values[0] for row in (*RECORDS, *SHAPES)]), max_size=12), st.data())
def test_damaged_lines_never_break_the_grammar(lines: list[str], data: st.DataObject) -> None:
    """However lines are damaged, every line is counted exactly once: a record, a shape, or unparsed."""
    text = "".join(f"{STAMP}{line}\n" for line in lines).encode()
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.binary(max_size=3)) + text[at + data.draw(st.integers(0, 9)) :]
    grammar = EximGrammar()
    records = list(grammar.parse_block(text, StampReader(reference_us=MARCH_5_US, timezone="UTC")))
    tally = grammar.tally
    assert tally.lines == text.count(b"\n") + (1 if text and not text.endswith(b"\n") else 0)
    assert tally.lines == len(records) + sum(tally.shapes.values()) + tally.unparsed


@given(st.binary(max_size=400))
def test_any_bytes_are_read(data: bytes) -> None:
    """A log of noise is counted and makes no exception."""
    grammar = EximGrammar()
    list(grammar.parse_block(data, StampReader(reference_us=MARCH_5_US, timezone="UTC")))
    assert grammar.tally.lines == data.count(b"\n") + (1 if data and not data.endswith(b"\n") else 0)
