"""What goes over the socket, byte for byte: Postfix's side of the conversation is written here."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from postwake_lab import mails

RECEIPT = mails.receipt(1, "ada@accept.test")
ADD_HEADERS, CHANGE_BODY, CHANGE_HEADERS, SET_MACROS = 0x1, 0x2, 0x10, 0x100
NO_HELO, NO_HEADER_REPLY, NO_EOH, NO_UNKNOWN, NO_DATA, SKIP = 0x2, 0x80, 0x40, 0x100, 0x200, 0x400
NO_CONNECT_REPLY, NO_MAIL_REPLY, NO_RCPT_REPLY = 0x1000, 0x4000, 0x8000


def test_negotiated(daemon: Any) -> None:
    """We ask for what we use and nothing else: three actions, no needless calls, no needless answers, three macros."""
    version, actions, protocol, macros = daemon.client().negotiate()

    assert version == 6
    assert actions == ADD_HEADERS | CHANGE_BODY | CHANGE_HEADERS | SET_MACROS
    no_replies = NO_CONNECT_REPLY | NO_MAIL_REPLY | NO_RCPT_REPLY | NO_HEADER_REPLY
    assert protocol == NO_HELO | NO_EOH | NO_UNKNOWN | NO_DATA | SKIP | no_replies
    stages = dict(re.findall(rb"\0\0\0([\0-\6])([^\0]+)\0", macros))
    assert (stages[b"\0"], stages[b"\2"], stages[b"\5"]) == (b"j", b"{auth_authen}", b"i")
    assert {names for stage, names in stages.items() if stage not in b"\2\5"} == {b"j"}


@pytest.mark.parametrize(
    ("actions", "protocol"),
    [
        pytest.param(0x1F, 0x3F, id="sendmail-8.9"),
        pytest.param(0x1FF, 0x1FFFFF & ~SKIP, id="without-skip"),
        pytest.param(0xFF, 0x1FFFFF, id="without-macro-lists"),
    ],
)
def test_older_mtas(daemon: Any, actions: int, protocol: int) -> None:
    """What an MTA does not offer is not asked for, and every command it waits for is answered."""
    client = daemon.client()
    _, got_actions, got_protocol, _ = client.negotiate(actions, protocol)
    assert got_actions & ~actions == 0
    assert got_protocol & ~protocol == 0

    def command(letter: bytes, data: bytes, no_reply: int) -> None:
        client.send(letter, data)
        if not got_protocol & no_reply:
            assert client.receive()[0] == b"c"

    command(b"C", b"client.test\x004\x09\xdd127.0.0.1\0", NO_CONNECT_REPLY)
    command(b"M", b"<news@example.com>\0", NO_MAIL_REPLY)
    command(b"R", b"<ada@accept.test>\0", NO_RCPT_REPLY)
    head, _, body = RECEIPT.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b": ")
        command(b"L", name + b"\0" + value + b"\0", NO_HEADER_REPLY)
    if not got_protocol & NO_EOH:
        command(b"N", b"", NO_EOH)
    command(b"B", body, 0)

    assert [letter for letter, _ in client.end()] == [b"h", b"b", b"a"]


def test_edits_byte_for_byte(daemon: Any) -> None:
    """Header changes first, then the body, once and whole, then accept: and of the body only href and pixel change."""
    client = daemon.client()
    client.connect()
    message = RECEIPT.replace(b"Subject:", b"X-Tag: receipt\r\nX-Metadata-Order: 1\r\nSubject:")

    packets = client.message(message, b"4Qbytes")

    assert [letter for letter, _ in packets] == [b"m", b"m", b"h", b"b", b"a"]
    assert packets[0][1] == struct.pack(">I", 1) + b"X-Tag\0\0"
    assert packets[1][1] == struct.pack(">I", 1) + b"X-Metadata-Order\0\0"
    [(tracking_id,)] = daemon.rows("SELECT lower(hex(tracking_id)) FROM message WHERE queue_id = '4Qbytes'")
    assert packets[2][1] == b"X-Postwake-ID\0" + tracking_id.encode() + b"\0"
    before = message.partition(b"\r\n\r\n")[2].replace(b"=\r\n", b"")
    after = packets[3][1].replace(b"=\r\n", b"")
    href = re.compile(rb"(?<=<a href=3D')[^']*")
    assert href.search(after)[0].startswith(b"https://track.example.com/c/")
    pixel = re.compile(rb'<img src=3D"https://track.example.com/o/[A-Za-z0-9_-]+.gif"[^>]*>')
    assert href.sub(b"", pixel.sub(b"", after, count=1)) == href.sub(b"", before)
    assert packets[4][1] == b""


def test_a_long_body_comes_in_pieces(daemon: Any) -> None:
    """A body longer than a packet is replaced by consecutive packets that are the whole, once."""
    client = daemon.client()
    client.connect()
    message = mails.of_size(150_000, 20)

    packets = client.message(message, b"4Qlong")

    letters = b"".join(letter for letter, _ in packets)
    assert re.fullmatch(b"hb{3}a", letters)
    changed = b"".join(data for letter, data in packets if letter == b"b")
    body = message.partition(b"\r\n\r\n")[2]
    assert changed.count(b"\r\n") >= body.count(b"\r\n")
    assert changed[:200] == body[:200]


@pytest.mark.parametrize(
    ("address", "login", "reason"),
    [
        pytest.param(b"203.0.113.9", b"", "inbound", id="inbound"),
        pytest.param(b"203.0.113.9", b"ada", None, id="authenticated"),
        pytest.param(b"127.0.0.1", b"", None, id="internal"),
    ],
)
def test_origin(daemon: Any, address: bytes, login: bytes, reason: str | None) -> None:
    """Address and login decide; of inbound mail the body is not even fetched to its end."""
    client = daemon.client()
    client.connect(address)
    queue_id = b"4Qorigin" + address[:3] + login
    client.envelope(login=login)
    body = client.header(mails.of_size(150_000, 1))

    answers = client.body(body)
    packets = client.end(queue_id)

    assert answers == ([b"s"] if reason else [b"c"] * 3)
    assert [letter for letter, _ in packets] == ([b"a"] if reason else [b"h", b"b", b"b", b"b", b"a"])
    assert daemon.rows(f"SELECT untracked_reason FROM message WHERE queue_id = '{queue_id.decode()}'") == [(reason,)]


def test_too_large(daemon: Any) -> None:
    """As soon as a body is known to be too large the rest is not wanted; it stays, and control fields go."""
    client = daemon.client()
    client.connect()
    client.envelope()
    body = client.header(b"X-Tag: autumn\r\n" + mails.of_size(400_000, 3))

    assert client.body(body) == [b"c", b"c", b"c", b"s"]  # 200,000 bytes are allowed
    assert client.end(b"4Qlarge") == [(b"m", b"\0\0\0\1X-Tag\0\0"), (b"a", b"")]
    assert daemon.rows("SELECT untracked_reason, tag FROM message WHERE queue_id = '4Qlarge'") == [
        ("too-large", "autumn")
    ]


def test_many_large_bodies_at_once(make_daemon: Callable[..., Any]) -> None:
    """Past milter.max_held_bytes no more of a body is fetched; what is held counts until its message has gone."""
    daemon = make_daemon(milter="max_held_bytes = 300000")
    message = b"X-Tag: autumn\r\n" + mails.of_size(400_000, 3)
    alone, late, dropped = (daemon.client() for _ in range(3))
    for client in (alone, late, dropped):
        client.connect()

    def fetched(client: Any) -> bytes:
        client.envelope()
        return b"".join(client.body(client.header(message)))

    assert fetched(alone) == b"cccccc", "one alone is never too much"
    assert fetched(late) == b"ccs"  # a small one is always fetched
    assert late.end(b"4Qlate") == [(b"m", b"\0\0\0\1X-Tag\0\0"), (b"a", b"")]
    assert alone.end(b"4Qalone")[-1] == (b"a", b"")
    assert fetched(dropped) == b"cccccc"
    dropped.close()
    daemon.wait_until(lambda: fetched(late) == b"cccccc")
    assert late.end(b"4Qlater")[-1] == (b"a", b"")
    assert daemon.rows("SELECT queue_id, tracked, untracked_reason, tag FROM message ORDER BY queue_id") == [
        ("4Qalone", 1, None, "autumn"),
        ("4Qlate", 0, "busy", "autumn"),
        ("4Qlater", 1, None, "autumn"),
    ]


@pytest.mark.parametrize("missing", [ADD_HEADERS, CHANGE_HEADERS, CHANGE_BODY])
def test_an_mta_that_does_not_take_every_edit(daemon: Any, missing: int) -> None:
    """Where the MTA does not let us replace the body or change fields, nothing is edited, and the reason says so."""
    client = daemon.client()
    client.negotiate(actions=(ADD_HEADERS | CHANGE_HEADERS | CHANGE_BODY) & ~missing)
    client.connect(negotiate=False)
    queue_id = f"4Qno{missing}"

    assert client.message(b"X-Tag: autumn\r\n" + RECEIPT, queue_id.encode()) == [(b"a", b"")]
    assert daemon.rows(f"SELECT untracked_reason FROM message WHERE queue_id = '{queue_id}'") == [("body-not-offered",)]


def test_a_control_field_of_any_name(daemon: Any) -> None:
    """A control field whose name is not ASCII, though it is UTF-8, is taken out under that name."""
    client = daemon.client()
    client.connect()
    packets = client.message("X-Metadata-Größe: 7\r\n".encode() + RECEIPT, b"4Qname")

    assert packets[0] == (b"m", "\0\0\0\1X-Metadata-Größe\0\0".encode())
    assert [letter for letter, _ in packets] == [b"m", b"h", b"b", b"a"]


STAGES: dict[str, Callable[[Any], object]] = {
    "before-negotiation": lambda client: None,
    "after-negotiation": lambda client: client.negotiate(),
    "after-connect": lambda client: client.connect(),
    "after-mail": lambda client: (client.connect(), client.send(b"M", b"<news@example.com>\0")),
    "after-rcpt": lambda client: (client.connect(), client.envelope()),
    "in-header": lambda client: (client.connect(), client.envelope(), client.send(b"L", b"Subject\0x\0")),
    "in-body": lambda client: (client.connect(), client.envelope(), client.header(RECEIPT), client.body(b"<html>")),
    "at-the-end": lambda client: (
        *(client.connect(), client.envelope(), client.body(client.header(RECEIPT))),
        *(client.macros(b"E", b"i", b"4Qdropped"), client.send(b"E")),
    ),
    "in-a-packet": lambda client: (client.connect(), client.socket.sendall(b"\0\0\0\x20Mnews")),
    "a-huge-packet": lambda client: (client.connect(), client.socket.sendall(b"\xff\xff\xff\xffM")),
    "abort-before-any-message": lambda client: (client.connect(), client.send(b"A")),
    "quit": lambda client: (client.connect(), client.send(b"Q")),
    "an-unknown-command": lambda client: (client.connect(), client.send(b"\xee", b"what")),
}


@pytest.mark.parametrize("stage", STAGES)
def test_connections_that_end(daemon: Any, stage: str) -> None:
    """A connection may end at any moment: the next one is served by the same process."""
    workers = daemon.workers()
    client = daemon.client()
    STAGES[stage](client)
    client.close()

    after = daemon.client()
    after.connect()

    assert [letter for letter, _ in after.message(RECEIPT, b"4Qafter")] == [b"h", b"b", b"a"]
    assert daemon.workers() == workers


def test_many_messages_on_one_connection(daemon: Any) -> None:
    """Nothing of a message is left for the next, also when one is aborted half-way, twice, or before it begins."""
    client = daemon.client()
    client.connect()
    client.send(b"A")
    client.envelope(b"given-up@example.com", b"x@accept.test", b"y@accept.test")
    client.header(RECEIPT)
    client.send(b"A")
    client.send(b"A")
    for number in range(3):
        queue_id = f"4Qmany{number}"
        packets = client.message(mails.receipt(number, f"r{number}@accept.test"), queue_id.encode())
        assert [letter for letter, _ in packets] == [b"h", b"b", b"a"]
    assert client.message(mails.plain(1, "x@accept.test"), b"4Qmany3") == [(b"a", b"")]

    found = daemon.rows(
        "SELECT queue_id, sender, recipients, tracked, subject FROM message WHERE queue_id LIKE '4Qmany%'"
    )
    assert found == [
        ("4Qmany0", "news@example.com", 1, 1, "Your order 0"),
        ("4Qmany1", "news@example.com", 1, 1, "Your order 1"),
        ("4Qmany2", "news@example.com", 1, 1, "Your order 2"),
        ("4Qmany3", "news@example.com", 1, 0, "Note 1"),
    ]


def test_an_edit_of_a_message_after_untracked_ones(daemon: Any) -> None:
    """SKIP for one message does not make the next one's body unwanted."""
    client = daemon.client()
    client.connect()
    client.envelope()
    client.body(client.header(mails.of_size(400_000, 3)))
    client.end(b"4Qskip1")

    assert [letter for letter, _ in client.message(RECEIPT, b"4Qskip2")] == [b"h", b"b", b"a"]


@pytest.mark.parametrize(
    "field",
    [
        pytest.param(b"X-B\xe9d: caf\xe9", id="name-not-utf8"),
        pytest.param(b"X-Metadata-B\xe9d: caf\xe9", id="control-name-not-utf8"),
        pytest.param(b"Subject: caf\xe9 \xff", id="value-not-utf8"),
        pytest.param(b"X-Folded: a\r\n\tb\r\n c", id="folded"),
        pytest.param(b"X-Long: " + b"x" * 60_000, id="long"),
        pytest.param(b"X-Empty:", id="empty"),
        pytest.param(b"Subject: =?utf-7?q?+2AA-?=", id="half-a-character"),
        pytest.param(b"From: =?unicode_escape?q?=5Cud800?= <news@example.com>", id="no-charset-but-a-codec"),
    ],
)
def test_odd_fields(daemon: Any, field: bytes) -> None:
    """A field of any bytes never refuses a mail, and the mail is tracked all the same."""
    client = daemon.client()
    client.connect()
    packets = client.message(field + b"\r\n" + RECEIPT, b"4Qodd")
    assert [letter for letter, _ in packets] == [b"h", b"b", b"a"]


def test_half_a_character_in_a_control_field(daemon: Any) -> None:
    """JSON can say half a surrogate pair; the mail is tracked, and its row is written."""
    client = daemon.client()
    client.connect()
    field = rb'X-Mailgun-Variables: {"k": "\ud800"}' + b"\r\nX-Mailgun-Tag: =?utf-7?q?+2AA-?=\r\n"
    packets = client.message(field + RECEIPT, b"4Qhalf")

    assert packets[-1][0] == b"a"
    assert daemon.rows("SELECT tracked, tag FROM message WHERE queue_id = '4Qhalf'") == [(1, "?")]


@pytest.mark.parametrize("name", [b"i", b"j", b"{auth_authen}"])
def test_a_macro_that_is_not_utf8(daemon: Any, name: bytes) -> None:
    """A macro's value in Latin-1 counts as none and never refuses a mail."""
    client = daemon.client()
    client.connect()
    client.macros(b"M", name, b"caf\xe9")
    client.envelope()
    client.body(client.header(RECEIPT))
    client.macros(b"E", name, b"caf\xe9")
    client.send(b"E")
    letters = []
    while not letters or letters[-1] not in b"actrd":
        letters.append(client.receive()[0])
    assert letters == [b"h", b"b", b"a"]


def test_a_helo_that_comes_unasked(daemon: Any) -> None:
    """An MTA that sends HELO although it agreed not to, and in Latin-1, is answered and its mail is tracked."""
    client = daemon.client()
    client.connect()
    client.send(b"H", b"caf\xe9.test\0")
    assert client.receive()[0] == b"c"
    assert [letter for letter, _ in client.message(RECEIPT, b"4Qhelo")] == [b"h", b"b", b"a"]


@pytest.mark.parametrize(
    ("data", "client"),
    [
        pytest.param(b"mail.test\x004\x09\xdd192.0.2.1\0", "mail.test[192.0.2.1]", id="ipv4"),
        pytest.param(b"mail.test\x006\x09\xdd2001:db8::1\0", "mail.test[2001:db8::1]", id="ipv6"),
        pytest.param(b"mail.test\x006\x09\xddIPv6:2001:db8::1\0", "mail.test[2001:db8::1]", id="ipv6-sendmail"),
        pytest.param(b"localhost\0U", "localhost[]", id="sendmail-no-address"),
        pytest.param(b"localhost\0L\0\0/some/socket\0", "localhost[]", id="unix"),
    ],
)
def test_addresses(daemon: Any, data: bytes, client: str) -> None:
    """Every kind of client address is understood."""
    connection = daemon.client()
    connection.negotiate()
    connection.send(b"C", data)
    connection.message(RECEIPT, b"4Qaddr", login=b"ada")
    assert daemon.rows("SELECT client FROM message WHERE queue_id = '4Qaddr' ORDER BY id DESC LIMIT 1") == [(client,)]


def test_a_client_name_that_is_not_utf8(daemon: Any) -> None:
    """A client whose name cannot be read is a stranger: its mail is inbound, unless it authenticated."""
    client = daemon.client()
    client.connect(address=b"203.0.113.9", name=b"caf\xe9.test")

    assert client.message(RECEIPT, b"4Qstranger") == [(b"a", b"")]
    assert daemon.rows("SELECT untracked_reason FROM message WHERE queue_id = '4Qstranger'") == [("inbound",)]
    assert [letter for letter, _ in client.message(RECEIPT, b"4Qlogin", login=b"ada")] == [b"h", b"b", b"a"]


def test_smtputf8_addresses(daemon: Any) -> None:
    """Internationalised addresses are stored as they are."""
    client = daemon.client()
    client.connect()
    client.message(RECEIPT, b"4Qutf8", sender="jörg@example.com".encode())
    assert daemon.rows("SELECT sender, tracked FROM message WHERE queue_id = '4Qutf8'") == [("jörg@example.com", 1)]


def test_twenty_connections_at_once(daemon: Any) -> None:
    """Messages on interleaved connections do not mix."""
    clients = [daemon.client() for _ in range(20)]
    for number, client in enumerate(clients):
        client.connect()
        client.envelope(b"news@example.com", f"r{number}@accept.test".encode())
    bodies = [client.header(mails.receipt(n, f"r{n}@accept.test")) for n, client in enumerate(clients)]
    for client, body in zip(clients, bodies, strict=True):
        client.body(body)
    for number, client in enumerate(clients):
        client.macros(b"E", b"i", f"4Qtwenty{number}".encode())
        client.send(b"E")
    for client in clients:
        assert [client.receive()[0] for _ in range(3)] == [b"h", b"b", b"a"]

    found = daemon.rows(
        "SELECT m.queue_id, m.subject, d.recipient FROM message m JOIN delivery d ON d.message = m.id"
        " WHERE m.queue_id LIKE '4Qtwenty%'"
    )
    assert sorted(found) == sorted((f"4Qtwenty{n}", f"Your order {n}", f"r{n}@accept.test") for n in range(20))


def test_a_probe_of_the_socket(daemon: Any) -> None:
    """A monitor that only connects and hangs up disturbs nobody."""
    for _ in range(5):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(daemon.socket))
    client = daemon.client()
    client.connect()
    assert client.message(mails.plain(1, "a@accept.test"), b"4Qprobe") == [(b"a", b"")]
