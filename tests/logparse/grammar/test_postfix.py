# ruff: noqa: E501 (log lines are long)
"""Postfix's lines: one row of a table per shape, each with the fields that a naive reader gets wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postwake_logparse.postfix import PostfixGrammar, read_program
from postwake_logparse.record import (
    Attempt,
    Client,
    Deleted,
    Held,
    HostSaid,
    MessageId,
    NonDelivery,
    Probe,
    Queued,
    QueueExpired,
    Record,
    Rejected,
    Released,
    Removed,
)
from postwake_logparse.stamp import StampReader

ReadLine = Callable[[str], tuple[Record | None, PostfixGrammar]]

HEAD = "Mar  5 06:52:01 mx1 "
MARCH_5_US = 1_772_693_521_000_000
GMAIL = "gmail-smtp-in.l.google.com[2607:f8b0:400e:c04::1b]:25"


def field(record: object, path: str) -> object:
    """A record's field, or a field of its field: ``relay.host``."""
    for name in path.split("."):
        record = getattr(record, name)
    return record


# fmt: off
RECORDS = [
    pytest.param("postfix/smtp[12]: 7EE668039: to=<a@b.test>, relay=mx.b.test[192.0.2.1]:25, delay=3.6, delays=0.2/0.02/0.04/3.3, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 153053D)",
        Attempt, {"queue_id": "7EE668039", "recipient": "a@b.test", "original_recipient": None, "relay.host": "mx.b.test", "relay.ip": "192.0.2.1", "relay.port": "25", "delay_s": 3.6, "delays_s": (0.2, 0.02, 0.04, 3.3), "dsn": "2.0.0", "status": "sent", "reply": "250 2.0.0 Ok: queued as 153053D", "next_queue_id": "153053D", "agent": "smtp", "retry_only": False}, id="sent"),
    pytest.param("postfix/amavis/smtp[302609]: 4PbC4x469Jz3tBr: to=<u@n.test>, orig_to=<v@n.test>, relay=127.0.0.1[127.0.0.1]:10024, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as 4PbC4z6W5Qz3tG3)",
        Attempt, {"queue_id": "4PbC4x469Jz3tBr", "program.instance": "postfix", "program.service": "smtp", "original_recipient": "v@n.test", "next_queue_id": "4PbC4z6W5Qz3tG3", "reply": "250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as 4PbC4z6W5Qz3tG3"}, id="filter-nested-parentheses"),
    pytest.param("postfix-239.58.50.50/smtp[4608]: 20B4E3D5BD: to=<a@b.test>, relay=none, delay=1, delays=1/0/0/0, dsn=4.4.1, status=deferred (connect to b.test[192.0.2.1]:25: Connection timed out)",
        Attempt, {"program.instance": "postfix-239.58.50.50", "agent": "smtp", "status": "deferred", "relay.host": None, "relay.text": "none"}, id="syslog-name-with-address"),
    pytest.param("out.mx1.example/smtp[4608]: 20B4E3D5BD: to=<a@b.test>, relay=none, delay=1, delays=1/0/0/0, dsn=4.4.1, status=deferred (x)",
        Attempt, {"program.instance": "out.mx1.example", "agent": "smtp"}, id="syslog-name-without-postfix"),
    pytest.param("postfix/smtp[1]: 585BC3F: to=<a@b.test>, relay=mx[192.0.2.1]:25, delay=3, delays=0.08/0.02/0.85/0.14, tls=dane/!requiretls:nocertmatch, dsn=2.1.5, status=sent (250 ok)",
        Attempt, {"tls": "dane/!requiretls:nocertmatch", "dsn": "2.1.5", "queue_id": "585BC3F"}, id="tls-field"),
    pytest.param("postfix/smtp[1]: DEADBEEF: to=<a@b.test>, relay=mx[10.0.0.1]:25, conn_use=2 delay=1021, delays=1/2/3/4, dsn=2.0.0, status=sent (250 ok)",
        Attempt, {"conn_use": 2, "delay_s": 1021.0}, id="conn-use-without-comma"),
    pytest.param("postfix/smtp[1]: DEADBEEF: to=<a@b.test>, relay=mx[10.0.0.1]:25, conn_use=17, delay=0.1, delays=1/2/3/4, dsn=2.0.0, status=sent (250 ok)",
        Attempt, {"conn_use": 17, "delay_s": 0.1}, id="conn-use-with-comma"),
    pytest.param("postfix/smtp[1]: DEADBEEF: to=<to@example.com>, relay=none, delay=141602, status=deferred (connect to mx1.example.com[10.0.0.1]: Connection refused)",
        Attempt, {"dsn": None, "delays_s": None, "delay_s": 141602.0, "status": "deferred", "reply": "connect to mx1.example.com[10.0.0.1]: Connection refused"}, id="before-2.3"),
    pytest.param("postfix/local[1]: 2A22C263F6: to=user@host.example, orig_to=root@localhost, relay=local, delay=0.07, delays=0.04/0/0/0.03, dsn=2.0.0, status=sent (delivered to command: procmail -a \"$EXTENSION\")",
        Attempt, {"recipient": "user@host.example", "original_recipient": "root@localhost", "relay.host": "local", "agent": "local"}, id="no-angle-brackets"),
    pytest.param("postfix/smtp[1]: DEADBEEF: to=<>, relay=none, delay=1, status=bounced (mail for sample.net loops back to myself)",
        Attempt, {"recipient": "", "status": "bounced"}, id="empty-recipient"),
    pytest.param("postfix/cleanup[1]: DEADBEEF: to=<e@example.com>, relay=none, delay=0.11, delays=0.11/0/0/0, dsn=5.7.1, status=bounced optional text...",
        Attempt, {"status": "bounced", "reply": "optional text...", "agent": "cleanup"}, id="no-parentheses"),
    pytest.param("postfix/smtp[1]: 4TwNdH5zwCz7fxV: to=<a@b.test>, relay=127.0.0.1:2525, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 4TwNdH5zwCz7fxW) 257",
        Attempt, {"reply": "250 2.0.0 Ok: queued as 4TwNdH5zwCz7fxW", "next_queue_id": "4TwNdH5zwCz7fxW", "relay.ip": "127.0.0.1", "relay.port": "2525"}, id="text-after-the-reply"),
    pytest.param("postfix/local[1]: DEADBEEF: to=<to@b.test>, relay=local, delay=1, delays=0/0/0/1, dsn=4.1.1, status=SOFTBOUNCE (unknown user: \"to\")",
        Attempt, {"status": "deferred", "dsn": "4.1.1"}, id="softbounce-is-deferred"),
    pytest.param("postfix/smtp[1]: DEADBEEF: to=<to@b.test>, relay=none, delay=432001, delays=432000/0/1/0, dsn=4.4.1, status=expired (connect to mx.b.test[192.0.2.2]:25: Connection refused)",
        Attempt, {"status": "expired", "recipient": "to@b.test", "dsn": "4.4.1", "reply": "connect to mx.b.test[192.0.2.2]:25: Connection refused"}, id="expired-names-a-recipient"),
    pytest.param("postfix/qmgr[1]: DEADBEEF: to=<to@b.test>, relay=none, delay=9, delays=9/0/0/0, dsn=4.0.0, status=force-expired",
        Attempt, {"status": "expired", "reply": ""}, id="expired-by-force-names-a-recipient"),
    pytest.param("postfix/lmtp[1]: AD6E41CDC05C: to=<a@b.test>, relay=sub1.example.com[private/dovecot-lmtp], delay=0.15, delays=0.04/0/0.02/0.08, dsn=2.0.0, status=sent (250 2.0.0 <a@b.test> qYyyBMsl9FRuZQAAA15QOA Saved)",
        Attempt, {"relay.socket": "private/dovecot-lmtp", "relay.ip": None, "relay.host": "sub1.example.com", "agent": "lmtp", "next_queue_id": None}, id="relay-is-a-socket"),
    pytest.param(f"postfix/smtp[1]: 4E74613FE76: to=<r@gmail.test>, relay={GMAIL}, delay=1.9, delays=0.05/0/1.1/0.71, dsn=5.7.1, status=bounced (host gmail[2607:f8b0::1b] said: 550-5.7.1 [2607:4100:3:25:100::2      12] Our system 550-5.7.1 has 550 5.7.1 x (in reply to end of DATA command))",
        Attempt, {"relay.ip": "2607:f8b0:400e:c04::1b", "relay.port": "25", "reply": "host gmail[2607:f8b0::1b] said: 550-5.7.1 [2607:4100:3:25:100::2      12] Our system 550-5.7.1 has 550 5.7.1 x (in reply to end of DATA command)"}, id="ipv6-and-folded-reply"),
    pytest.param("postfix/local[1]: 4PbMVH1yTpz3tG2: to=<a@b.test>, relay=local, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (forwarded as 4PbMVH1yTpz3tG3)",
        Attempt, {"next_queue_id": "4PbMVH1yTpz3tG3", "status": "sent"}, id="forwarded-as"),
    pytest.param("postfix/discard[1]: 25F2E5E061: to=<g@b.test>, relay=none, delay=0.05, delays=0.05/0/0/0, dsn=2.0.0, status=sent (b.test)",
        Attempt, {"agent": "discard", "status": "sent"}, id="discard"),
    pytest.param("postfix/smtp[1]: 7EE668039: to=<\"a>b\"@c.test>, orig_to=<x>, relay=none, delay=1, delays=1/0/0/0, dsn=5.1.3, status=bounced (bad address syntax)",
        Attempt, {"recipient": '"a>b"@c.test', "original_recipient": "x"}, id="angle-bracket-in-a-quoted-local-part"),
    pytest.param("postfix/smtp[1]: 7EE668039: to=<grüße@b.test>, relay=none, delay=1, delays=1/0/0/0, dsn=5.1.3, status=bounced (Адрес)",
        Attempt, {"recipient": "grüße@b.test", "reply": "Адрес", "offset": 0}, id="utf-8"),
    pytest.param("postfix/qmgr[1]: 585BC3F: from=<>, status=expired, returned to sender", QueueExpired, {"sender": "", "forced": False}, id="expired"),
    pytest.param("postfix/qmgr[1]: BACE842E73: from=<n@d.test>, status=force-expired, returned to sender", QueueExpired, {"sender": "n@d.test", "forced": True}, id="force-expired"),
    pytest.param("postfix/error[1]: 3E29030F8637E: to=<u@y.test>, relay=none, delay=0.01, delays=0.01/0/0/0, dsn=5.1.1, status=undeliverable-but-not-cached (User unknown in virtual alias table)",
        Probe, {"status": "undeliverable-but-not-cached", "recipient": "u@y.test"}, id="probe-not-cached"),
    pytest.param("postfix/smtp[1]: 3E29030F8637E: to=<u@y.test>, relay=mx[192.0.2.1]:25, delay=0.01, delays=0.01/0/0/0, dsn=2.1.5, status=deliverable (250 2.1.5 Ok)", Probe, {"status": "deliverable"}, id="probe-deliverable"),
    pytest.param("postfix/smtp[1]: 644D53D: host g.test[192.0.2.26] said: 421-4.7.0 [1.2.3.4      15] rate 421 4.7.0 x (in reply to end of DATA command)",
        HostSaid, {"relay.host": "g.test", "relay.ip": "192.0.2.26", "reply": "421-4.7.0 [1.2.3.4      15] rate 421 4.7.0 x (in reply to end of DATA command)"}, id="host-said"),
    pytest.param("postfix/smtp[1]: 745137AA: lost connection with h.test[192.0.2.161] while sending RCPT TO", HostSaid, {"relay.host": "h.test", "reply": "lost connection with h.test[192.0.2.161] while sending RCPT TO"}, id="lost-connection"),
    pytest.param("postfix/smtp[1]: 78D6B41: conversation with mx00.g.test[192.0.2.4] timed out while receiving the initial server greeting", HostSaid, {"relay.ip": "192.0.2.4"}, id="conversation-timed-out"),
    pytest.param("postfix/smtp[1]: 40197AA: host mg2.e.test[192.0.2.86] refused to talk to me: 450 4.3.2 try again later", HostSaid, {"reply": "450 4.3.2 try again later"}, id="refused-to-talk"),
    pytest.param("postfix/smtpd[58176] E89FA2DEDA: client=srv05.source.test[10.11.12.13]", Client, {"queue_id": "E89FA2DEDA", "client_name": "srv05.source.test", "client_ip": "10.11.12.13", "sasl_username": None}, id="no-colon-after-the-pid"),
    pytest.param("postfix/submission/smtpd[1]: 4104E3D: client=unknown[2001:db8::1], sasl_method=PLAIN, sasl_username=shop@example.test", Client, {"client_ip": "2001:db8::1", "sasl_method": "PLAIN", "sasl_username": "shop@example.test"}, id="sasl"),
    pytest.param("postfix/smtpd[1]: 4104E3D: client=localhost[127.0.0.1]:40122, orig_queue_id=4104E00, orig_client=mx[192.0.2.7]", Client, {"client_ip": "127.0.0.1", "orig_queue_id": "4104E00", "orig_client": "mx[192.0.2.7]"}, id="xforward"),
    pytest.param("postfix/pickup[1]: D2FAE20586: uid=0 from=<fail2ban>", Client, {"uid": 0, "sender": "fail2ban", "client_ip": None}, id="pickup"),
    pytest.param("postfix/pickup[1]: D2FAE20586: uid=33 from=<www@x.test> orig_id=D2FAE20500", Client, {"uid": 33, "orig_queue_id": "D2FAE20500"}, id="pickup-requeued"),
    pytest.param("postfix/cleanup[1]: 0F5383D: message-id=<544D2523.30609@r.test>", MessageId, {"message_id": "544D2523.30609@r.test", "resent": False}, id="message-id"),
    pytest.param("postfix/cleanup[1]: 4104E3D: message-id=<>", MessageId, {"message_id": ""}, id="message-id-empty"),
    pytest.param("postfix/cleanup[1]: 4104E3D: resent-message-id=4739073.1", MessageId, {"message_id": "4739073.1", "resent": True}, id="message-id-resent-no-brackets"),
    pytest.param("postfix/cleanup[1]: ADD961003206D: message-id==?UTF-8?B?PDE5?= =?UTF-8?B?MTIyMDEx?=", MessageId, {"message_id": "=?UTF-8?B?PDE5?= =?UTF-8?B?MTIyMDEx?="}, id="message-id-encoded"),
    pytest.param("postfix/cleanup[1]: 4104E3D: message-id=<" + "QUJD" * 500 + ">", MessageId, {"message_id": "QUJD" * 500}, id="message-id-of-2000-characters"),
    pytest.param("postfix/qmgr[1]: 66C15648577B: from=<u@y.test>, size=25302, nrcpt=2 (queue active)", Queued, {"sender": "u@y.test", "size_bytes": 25302, "nrcpt": 2}, id="queued"),
    pytest.param("postfix/qmgr[1]: 66C15648577B: from=<>, size=2, nrcpt=1 (queue active)", Queued, {"sender": ""}, id="queued-bounce"),
    pytest.param("postfix/bounce[1]: 17CCA8044: sender non-delivery notification: ADD2F8052", NonDelivery, {"notice": "non-delivery", "audience": "sender", "new_queue_id": "ADD2F8052"}, id="non-delivery"),
    pytest.param("postfix/bounce[1]: 264FE1A18: sender delay notification: 0A87A1A08", NonDelivery, {"notice": "delay"}, id="delay-notice"),
    pytest.param("postfix/bounce[1]: 65AFB8B5: sender delivery status notification: 1DF35917", NonDelivery, {"notice": "delivery-status"}, id="success-notice"),
    pytest.param("postfix/bounce[1]: 482E4404AC8: postmaster non-delivery notification: 47335405A44", NonDelivery, {"audience": "postmaster"}, id="postmaster-notice"),
    pytest.param("postfix/qmgr[1]: D4F2023DB: removed", Removed, {"queue_id": "D4F2023DB"}, id="removed"),
    pytest.param("postfix/postsuper[1]: D4F2023DB: removed", Deleted, {"queue_id": "D4F2023DB"}, id="deleted-by-the-operator"),
    pytest.param("postfix/postsuper[1]: D4F2023DB: placed on hold", Held, {}, id="held"),
    pytest.param("postfix/postsuper[1]: D4F2023DB: released from hold", Released, {}, id="released"),
    pytest.param("postfix/postsuper[1]: D4F2023DB: requeued", Released, {"text": "requeued"}, id="requeued"),
    pytest.param("postfix/cleanup[1]: DEADBEEF: milter-hold: END-OF-MESSAGE from m[10.0.0.3]: milter triggers HOLD action; from=<a@b.test> to=<c@d.test> proto=ESMTP helo=<x>", Held, {"queue_id": "DEADBEEF"}, id="held-by-a-milter"),
    pytest.param("postfix/smtpd[1]: NOQUEUE: reject: RCPT from host[10.0.0.1]: 550 5.1.1 <to@e.test>: Recipient address rejected: User unknown; from=<f@s.test> to=<t@e.test> proto=ESMTP helo=<x>",
        Rejected, {"queue_id": "", "action": "reject", "stage": "RCPT", "client_name": "host", "client_ip": "10.0.0.1", "code": 550, "dsn": "5.1.1", "text": "550 5.1.1 <to@e.test>: Recipient address rejected: User unknown", "sender": "f@s.test", "recipient": "t@e.test", "protocol": "ESMTP", "helo": "x"}, id="rejected"),
    pytest.param("postfix/smtpd[1]: NOQUEUE: reject: VRFY from host[10.0.0.1]: 554 5.7.1 Service unavailable; Client host [10.0.0.1] blocked using zen.spamhaus.org; http://www.spamhaus.org/query/bl?ip=10.0.0.1; to=<u> proto=SMTP",
        Rejected, {"stage": "VRFY", "sender": None, "recipient": "u", "helo": None, "text": "554 5.7.1 Service unavailable; Client host [10.0.0.1] blocked using zen.spamhaus.org; http://www.spamhaus.org/query/bl?ip=10.0.0.1"}, id="rejected-with-semicolons"),
    pytest.param("postfix/postscreen[1]: NOQUEUE: reject: RCPT from [192.0.2.184]:2413: 550 5.5.1 Protocol error; from=<l@y.test>, to=<t@e.test>, proto=SMTP, helo=<m.test>", Rejected, {"client_ip": "192.0.2.184", "recipient": "t@e.test", "sender": "l@y.test", "helo": "m.test"}, id="postscreen-commas"),
    pytest.param("postfix/postscreen[1]: NOQUEUE: reject: CONNECT from [192.0.2.4]:1337: too many connections", Rejected, {"stage": "CONNECT", "code": None, "text": "too many connections"}, id="postscreen-connect"),
    pytest.param("postfix/smtpd[1]: NOQUEUE: milter-reject: RCPT from m[192.0.2.8]: 451 4.7.1 Greylisting in action; from=<s@e.test> to=<e@o.test> proto=ESMTP helo=<m>", Rejected, {"action": "milter-reject", "code": 451, "dsn": "4.7.1"}, id="milter-reject"),
    pytest.param("postfix/cleanup[1]: 4104E3D: milter-reject: END-OF-MESSAGE from m[192.0.2.86]: 5.7.1 Blocked by SpamAssassin; from=<w@c.test> to=<v@e.test> proto=ESMTP helo=<e>", Rejected, {"queue_id": "4104E3D", "code": None, "dsn": "5.7.1", "stage": "END-OF-MESSAGE"}, id="milter-reject-queued"),
    pytest.param("postfix/cleanup[1]: DEADBEEF: reject: header Subject: cheap from hb.test[10.0.0.1]; from=<e@e.test> to=<t@s.test> proto=ESMTP helo=<x>: 5.7.1 no thanks", Rejected, {"stage": "header", "client_ip": "10.0.0.1", "dsn": "5.7.1", "recipient": "t@s.test", "text": "5.7.1 no thanks"}, id="header-check"),
    pytest.param("postfix/cleanup[1]: DEADBEEF: discard: header Subject: **SPAM** from hb.test[10.0.0.1]; from=<e@e.test> to=<t@s.test> proto=ESMTP helo=<x>", Rejected, {"action": "discard", "queue_id": "DEADBEEF"}, id="discarded"),
    pytest.param("postfix/smtpd[1]: DEADBEEF: client=unknown[192.0.2.1]:unknown", Client, {"client_name": "unknown", "client_ip": "192.0.2.1"}, id="client-port-unknown"),
    pytest.param("postfix/smtpd[1]: NOQUEUE: reject: RCPT from unknown[192.0.2.4]: 554 5.7.1 <x@y.test>: Relay access denied; from=<\"a;b to=<q>\"@c.test> to=<x@y.test> proto=ESMTP helo=<a>",
        Rejected, {"sender": '"a;b to=<q>"@c.test', "recipient": "x@y.test", "helo": "a", "text": "554 5.7.1 <x@y.test>: Relay access denied"}, id="rejected-quoted-sender"),
    pytest.param("postfix/smtpd[1]: NOQUEUE: reject: MAIL from unknown[192.0.2.4]: 553 5.7.1 <a@b.test>: Sender address rejected: not owned by user joe; from=<a@b.test> proto=ESMTP helo=<x> sasl_username=<joe>",
        Rejected, {"sender": "a@b.test", "helo": "x", "text": "553 5.7.1 <a@b.test>: Sender address rejected: not owned by user joe"}, id="rejected-sasl-username"),
    pytest.param("postfix/smtp[1]: 585BC3F: to=<u@b.test>, relay=mx[192.0.2.1]:25, status=deferred (connect to mx[192.0.2.1]:25: Connection timed out)", Attempt, {"delay_s": None, "status": "deferred", "dsn": None}, id="no-delay"),
    pytest.param("postfix/pipe[1]: 585BC3F: to=<u@h.test>, relay=filter, delay=1.2, delays=0.2/0/0/1, dsn=2.0.0, status=sent (delivered via filter service (250 2.0.0 Ok: queued as 9BE3547AFE))",
        Attempt, {"agent": "pipe", "reply": "delivered via filter service (250 2.0.0 Ok: queued as 9BE3547AFE)", "next_queue_id": "9BE3547AFE"}, id="pipe-to-a-filter"),
    pytest.param("postfix/smtp[1]: 585BC3F: to=<\"j doe, jr\"@b.test>, orig_to=<\"a, relay=none, delay=0, status=sent\"@b.test>, relay=mx[2001:db8::1]:25, delay=1, delays=0/0/0/1, dsn=5.1.1, status=bounced (host mx[2001:db8::1] said: 550 5.1.1 unknown (status=sent (ok)) ((( (in reply to RCPT TO command))",
        Attempt, {"recipient": '"j doe, jr"@b.test', "original_recipient": '"a, relay=none, delay=0, status=sent"@b.test', "relay.ip": "2001:db8::1", "status": "bounced", "reply": "host mx[2001:db8::1] said: 550 5.1.1 unknown (status=sent (ok)) ((( (in reply to RCPT TO command)"}, id="addresses-and-replies-that-look-like-fields"),
    pytest.param("postfix/smtp[1]: 585BC3F: to=<u@b.test>, relay=mx[192.0.2.1]:25, delay=1, delays=0/0/0/1, dsn=5.7.1, status=bounced (host mx[192.0.2.1] said: 550 5.7.1 cut by sysl",
        Attempt, {"status": "bounced", "reply": "host mx[192.0.2.1] said: 550 5.7.1 cut by sysl"}, id="reply-cut-by-syslog"),
]

SHAPES = [
    pytest.param("postfix/smtpd[1]: connect from unknown[unknown]", "connect", id="connect"),
    pytest.param("postfix/smtpd[1]: disconnect from unknown[192.0.2.1] ehlo=1 quit=1 commands=2", "disconnect", id="disconnect"),
    pytest.param("postfix/smtpd[1]: warning: unknown[192.0.2.1]: SASL LOGIN authentication failed", "warning", id="warning"),
    pytest.param("postfix/smtpd[1]: NOQUEUE: reject_warning: RCPT from h[10.0.0.1]: 550 x; from=<> to=<a@b> proto=SMTP helo=<x>", "access reject_warning", id="reject-warning-lets-it-pass"),
    pytest.param("postfix/smtpd[1]: NOQUEUE: filter: RCPT from h[10.0.0.1]: <a>: FILTER x; from=<a> to=<b> proto=ESMTP helo=<x>", "access filter", id="filter"),
    pytest.param("postfix/cleanup[1]: D8B07E3DB6: warning: header Subject: x from local; from=<a@b> to=<c@d>", "access warning", id="header-warning"),
    pytest.param("postfix/qmgr[1]: DEADBEEF: status=deferred (bounce failed)", "queue status without recipient", id="status-without-recipient"),
    pytest.param("postfix/qmgr[1]: ED06590130AA1C9D6D862: skipped, still being delivered", "remark on a message", id="skipped"),
    pytest.param("postfix/smtp[1]: connect to intern.test[192.0.2.98]:25: Connection timed out", "host connection failed", id="connect-to"),
    pytest.param("postfix/postscreen[1]: PASS OLD [192.0.2.86]:53024", "postscreen pass", id="postscreen"),
    pytest.param("postfix/postsuper[1]: Deleted: 115 messages", "operator summary", id="postsuper-summary"),
    pytest.param("postfix/anvil[1]: statistics: max cache size 1 at Oct 26 18:13:50", "statistics", id="anvil"),
    pytest.param("postfix/policy-spf[1]: 39053DC: SPF none: smtp_comment=x", "helper program", id="policy-server"),
    pytest.param("dovecot: imap-login: Login: user=<a>, method=PLAIN", "other program", id="dovecot"),
    pytest.param("opendkim[1]: 4104E3D: DKIM-Signature field added (s=mail, d=x)", "other program", id="opendkim"),
    pytest.param("sendmail[1]: x1A: to=<a@b.test>, delay=00:00:01, mailer=esmtp, relay=x, dsn=2.0.0, stat=Sent", "other program", id="sendmail-is-not-postfix"),
    pytest.param("postfix-tlspol[1]: 12:00:00  INFO  Evaluated policy for example.com", "helper program", id="helper-with-a-name-of-its-own"),
    pytest.param("postfix/bounce[1]: 585BC3F: undeliverable postmaster notification discarded", "remark on a message", id="notice-discarded"),
]
# fmt: on


@pytest.mark.parametrize(("line", "kind", "expected"), RECORDS)
def test_a_line_that_tells_a_fate_is_a_record(
    postfix_line: ReadLine, line: str, kind: type, expected: dict[str, object]
) -> None:
    """Each shape of line makes the record it means, with its fields taken apart."""
    record, grammar = postfix_line(HEAD + line)
    assert type(record) is kind
    assert {name: field(record, name) for name in expected} == expected
    assert (field(record, "at_us"), field(record, "host")) == (MARCH_5_US, "mx1")
    assert grammar.tally.records == {kind.__name__: 1}
    assert grammar.tally.unparsed == 0


@pytest.mark.parametrize(("line", "kind", "expected"), RECORDS)
def test_journal_entries_read_like_lines(
    clock: StampReader, line: str, kind: type, expected: dict[str, object]
) -> None:
    """The same text as a journal entry, its prefix already apart, makes the same record."""
    tag, _, rest = line.partition("[")
    body = rest.partition("] ")[2] if "]: " not in rest[:8] and "] " in rest[:8] else rest.partition("]: ")[2]
    record = PostfixGrammar().parse_entry(body, at_us=MARCH_5_US, host="mx1", tag=tag)
    assert type(record) is kind
    assert {name: field(record, name) for name in expected} == expected


@pytest.mark.parametrize(("line", "shape"), SHAPES)
def test_a_line_without_a_fate_is_counted_under_its_shape(postfix_line: ReadLine, line: str, shape: str) -> None:
    """What tells no message's fate makes no record and is accounted for by name."""
    record, grammar = postfix_line(HEAD + line)
    assert record is None
    assert grammar.tally.shapes == {shape: 1}
    assert grammar.tally.unparsed == 0


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("postfix/smtp[1]: 7EE668039: to=<a@b.test>, relay=none, del", id="cut-short"),
        pytest.param(
            "postfix/smtp[1]: 7EE668039: to=<a@b.test>, relay=none, delay=1, status=teleported (x)", id="new-status"
        ),
        pytest.param("postfix/smtpd[1]: something nobody has seen before", id="unknown"),
        pytest.param("postfix/qmgr[1]: 7EE668039: from=<a@b.test>, status=vanished", id="new-queue-status"),
    ],
)
def test_a_line_that_nobody_understands_is_counted_with_a_sample(postfix_line: ReadLine, line: str) -> None:
    """An unknown line of Postfix's is neither guessed at nor dropped: it is unparsed, and a sample of it is kept."""
    record, grammar = postfix_line(HEAD + line)
    assert record is None
    assert grammar.tally.unparsed == 1
    assert any(line.partition("]: ")[2] in sample for sample in grammar.tally.samples.values())


def test_a_line_cut_short_does_not_swallow_the_next(clock: StampReader) -> None:
    """A line that a crash cut off ends where it ends: the line after it is read."""
    whole = HEAD + "postfix/smtp[1]: 4104E3D: to=<c@d.test>, relay=none, delay=1, status=sent (ok)\n"
    for cut in range(len(HEAD) + 16, len(whole) - 1):
        grammar = PostfixGrammar()
        records = list(grammar.parse_block(whole[:cut].encode() + b"\n" + whole.encode(), clock))
        assert records[-1].offset == cut + 1
        assert records[-1].queue_id == "4104E3D"
        assert len(records) == 1 or records[0].offset == 0


def test_offsets_are_bytes_from_the_start_of_the_block(clock: StampReader) -> None:
    """A record's offset is where its line starts, in bytes, whatever stands before it and however long the block is."""
    line = (HEAD + "postfix/qmgr[1]: D4F2023DB: removed\n").encode()
    noise = (HEAD + "postfix/smtpd[1]: warning: grüße €\n").encode()
    block = (noise + line) * 2000
    records = list(PostfixGrammar().parse_block(block, clock))
    assert [record.offset for record in records] == [len(noise) + n * (len(noise) + len(line)) for n in range(2000)]
    assert all(block[record.offset :].startswith(line) for record in records[::100])


def test_the_last_line_may_lack_its_newline(clock: StampReader) -> None:
    """The end of a file that ends without a newline is a line."""
    block = (HEAD + "postfix/qmgr[1]: D4F2023DB: removed").encode()
    assert [type(record) for record in PostfixGrammar().parse_block(block, clock)] == [Removed]


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("postfix/smtp", ("postfix", "smtp")),
        ("postfix/relay/smtp", ("postfix", "smtp")),
        ("postfix-out/smtp", ("postfix-out", "smtp")),
        ("mail.example.test/cleanup", ("mail.example.test", "cleanup")),
        ("postfix/policyd-spf", ("postfix", "policyd-spf")),
        ("postfix", ("postfix", "")),
        ("postfix-tlspol", ("postfix-tlspol", "postfix-tlspol")),
        ("dovecot", None),
        ("spamd/child", None),
    ],
)
def test_a_tag_tells_whose_line_it_is(tag: str, expected: tuple[str, str] | None) -> None:
    """Postfix is what ends in a Postfix service or begins with postfix, whatever the syslog_name says."""
    program = read_program(tag)
    assert (None if program is None else (program.instance, program.service)) == expected


@given(st.lists(st.sampled_from([row.values[0] for row in (*RECORDS, *SHAPES)]), max_size=12), st.data())
def test_damaged_lines_never_break_the_grammar(lines: list[str], data: st.DataObject) -> None:
    """However lines are damaged, every line is counted exactly once: a record, a shape, or unparsed."""
    text = "".join(f"{HEAD}{line}\n" for line in lines).encode()
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.binary(max_size=3)) + text[at + data.draw(st.integers(0, 9)) :]
    grammar = PostfixGrammar()
    reader = StampReader(reference_us=MARCH_5_US, timezone="UTC")
    records = list(grammar.parse_block(text, reader))
    tally = grammar.tally
    assert tally.lines == text.count(b"\n") + (1 if text and not text.endswith(b"\n") else 0)
    assert tally.lines == len(records) + sum(tally.shapes.values()) + tally.unparsed


@given(st.binary(max_size=400))
def test_any_bytes_are_read(data: bytes) -> None:
    """A log of noise is counted and makes no exception."""
    grammar = PostfixGrammar()
    list(grammar.parse_block(data, StampReader(reference_us=MARCH_5_US, timezone="UTC")))
    assert grammar.tally.lines == data.count(b"\n") + (1 if data and not data.endswith(b"\n") else 0)
