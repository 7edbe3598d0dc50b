"""Whatever is sent: no redirect without our signature, no leak, no crash."""

from __future__ import annotations

import base64
import os
import select
import socket
import time

import pytest

from postwake.tokens import KeyRing, Purpose, Token
from postwake_pixelserver import daemon

NOT_FOUND = b"This link is not valid.\n"
URL = "https://example.com/"


@pytest.fixture(scope="module")
def guarded(make_server):
    """A server of its own: these tests use up allowances for bad tokens."""
    return make_server()


def forgeries(good: str, other_ring: KeyRing, url: str) -> dict[str, str]:
    """Return tokens that must not work, by what is wrong with them."""
    raw = base64.urlsafe_b64decode(good + "=" * (-len(good) % 4))

    def encode(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    last = good[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return {
        "empty MAC": encode(raw[:-16] + bytes(16)),
        "truncated by one character": good[:-1],
        "truncated by four": good[:-4],
        "lengthened": good + "AAAA",
        "padded": good + "=",
        "standard alphabet": good.replace("-", "+").replace("_", "/") + "+",
        "non-canonical last character": good[:-1] + alphabet[alphabet.index(last) ^ 1],
        "white space": good[:5] + "%20" + good[5:],
        "newline at the end": good + "%0A",
        "NUL at the end": good + "%00",
        "other version": encode(b"\x02" + raw[1:]),
        "other key id": encode(raw[:1] + b"\x63" + raw[2:]),
        "other destination": encode(raw[:-16].replace(b"example.com", b"evil.exampl") + raw[-16:]),
        "foreign key": other_ring.sign(Purpose.CLICK, Token(bytes(16), 1, 0, url)),
        "open token used as a link": other_ring.sign(Purpose.OPEN, Token(bytes(16), 1, 0, url)),
        "plain URL": "https:%2F%2Fevil.example%2F",
        "base64 of a URL": encode(b"https://evil.example/"),
        "unicode look-alike": good[:-1] + "%EF%BC%A1",
        "dots": "..",
        "very long": "A" * 7000,
        "case swapped": good.swapcase(),
    }


def test_forged_links_are_404_with_a_constant_body(make_server) -> None:
    """Every forgery answers the same 404; none redirects; none is recorded."""
    guarded = make_server()  # with its whole allowance for bad tokens
    good = guarded.token(Purpose.CLICK, URL)
    assert guarded.get(f"/c/{good}").status == 307
    before = guarded.rows("SELECT count(*) FROM event")
    for name, token in forgeries(good, KeyRing({1: os.urandom(32)}), URL).items():
        answer = guarded.get(f"/c/{token}")
        assert (answer.status, answer.body) == (404, NOT_FOUND), name
        assert "location" not in answer.headers, name
    for purpose, path in ((Purpose.OPEN, "/c/{}"), (Purpose.UNSUBSCRIBE, "/c/{}"), (Purpose.CLICK, "/u/{}")):
        assert guarded.get(path.format(guarded.token(purpose, URL))).status == 404
    assert guarded.rows("SELECT count(*) FROM event") == before


PATHS = {
    "protocol-relative": "//evil.example/c/{}",
    "triple slash": "///evil.example/%2e%2e",
    "backslash": "/\\evil.example/c/{}",
    "dot segment": "/./c/{}",
    "parent segment": "/x/../c/{}",
    "encoded parent": "/x/%2e%2e/c/{}",
    "trailing path": "/c/{}/x",
    "matrix parameter": "/c/{};x=1",
    "redirect parameter": "/c/?url=https://evil.example/",
    "nothing": "/c/",
    "root": "/",
    "file": "/etc/passwd",
    "dot file": "/.env",
    "pixel without suffix": "/o/{}",
    "other case": "/C/{}",
    "CRLF": "/c/%0d%0aLocation:%20https://evil.example/",
    "CRLF behind a good token": "/c/{}%0d%0aLocation:%20https://evil.example/",
    "CR LF in two bytes of another code page": "/c/{}%E5%98%8D%E5%98%8ALocation:%20https://evil.example/",
    "tab": "/c/%09https://evil.example/",
    "newline in the middle": "/c/htt%0Aps://evil.example/",
    "address as it is": "/c/https://evil.example/",
    "address, encoded twice": "/c/https%253A%252F%252Fevil.example%252F",
    "protocol-relative behind the route": "/c//evil.example/{}",
    "backslashes behind the route": "/c/%5C%5Cevil.example/{}",
    "user information": "/c/{}@evil.example",
    "token as user information": "/c/https:%2F%2F{}@evil.example%2F",
    "encoded dots and slash": "/c/%2e%2e%2f{}",
    "dots encoded twice": "/c/%252e%252e/{}",
    "NUL before": "/c/%00{}",
    "NUL after": "/c/{}%00.gif",
    "overlong UTF-8 slash": "/c/%c0%af{}",
    "full-width solidus": "/c/%EF%BC%8Fevil.example/{}",
    "pixel's suffix on a link": "/c/{}.gif",
    "two tokens": "/c/{}/c/{}",
    "route as a parameter": "/c;/{}",
    "absolute form of another host": "http://evil.example/c/x",
    "absolute form with user information": "http://t@evil.example/c/x",
    "asterisk": "*",
    "fragment sent": "/c/#{}",
    "wordpress": "/wp-login.php",
}


SAME_PATHS = {
    "double slash": "//c/{}",
    "encoded slash": "/c%2F{}",
    "trailing slash": "/c/{}/",
    "absolute form": "http://t/c/{}",
    "absolute form of another host": "http://evil.example/c/{}",
    "parameters behind": "/c/{}?url=https://evil.example/&next=//evil.example",
}
LOOKALIKES = {
    "Cyrillic": "track.ex\u0430mple.com",
    "as Punycode": "xn--track.exmple-5ng.com",
    "full-width": "ｔrack.example.com",
    "with a trailing dot": "track.example.com.",
    "as user information": "track.example.com@evil.example",
    "with a port": "track.example.com:80@evil.example",
}


@pytest.mark.parametrize("name", LOOKALIKES.values(), ids=LOOKALIKES)
def test_a_host_that_looks_like_ours_changes_nothing(guarded, name: str) -> None:
    """The Host is nothing we look at: the answer is the signed URL, or the same 404, whatever it says."""
    for token, status in ((guarded.token(Purpose.CLICK, URL), 307), ("x", 404)):
        head = f"GET /c/{token} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
        raw = guarded.raw(head.encode("utf-8"))
        if not raw.startswith(b"HTTP/1.1 400 "):  # a Host that is none may be refused, and then nothing else is said
            assert int(raw.split(b" ", 2)[1]) in (status, 429 if status == 404 else status)
        assert b"evil" not in raw
        assert (b"\r\nlocation: " + URL.encode() + b"\r\n" in raw) == (raw.startswith(b"HTTP/1.1 307 "))


@pytest.mark.parametrize("path", SAME_PATHS.values(), ids=SAME_PATHS)
def test_other_spellings_of_a_good_link_lead_where_it_leads(guarded, path: str) -> None:
    """A rewriter that doubles or encodes a slash leaves the token whole: it leads to the signed URL, directly."""
    target = path.format(guarded.token(Purpose.CLICK, URL))
    raw = guarded.raw(f"GET {target} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n".encode())
    assert raw.startswith(b"HTTP/1.1 307 ")
    assert b"\r\nlocation: " + URL.encode() + b"\r\n" in raw
    assert b"evil" not in raw
    assert guarded.get(path.format("x")).status in (404, 429)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_path_tricks_lead_nowhere(guarded, path: str) -> None:
    """No path but the documented ones answers anything but 404, and never with a Location."""
    token = guarded.token(Purpose.CLICK, URL)
    raw = guarded.raw(f"GET {path.format(token, token)} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n".encode())
    status = int(raw.split(b" ", 2)[1])
    assert status in (400, 404, 429)
    assert b"\nlocation:" not in raw.lower()
    assert b"evil" not in raw


def test_percent_encoding_of_plain_characters_is_the_same_link(guarded) -> None:
    """RFC 3986 section 6.2.2.2: %41 is A. A gateway that rewrites so does not kill the link."""
    token = guarded.token(Purpose.CLICK, URL)
    encoded = "".join(f"%{ord(char):02X}" for char in token)
    answer = guarded.get(f"/c/{encoded}")
    assert (answer.status, answer.headers.get("location")) == (307, URL)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:80\t"},
        {"Host": "t", "X-Forwarded-Host": "evil.example"},
        {"Host": "t", "X-Forwarded-Proto": "javascript", "X-Forwarded-Prefix": "//evil.example"},
        {"Host": "t", "X-Original-URL": "/c/x", "X-Rewrite-URL": "/c/x"},
        {"Host": "t", "X-HTTP-Method-Override": "DELETE"},
        {"Host": "t", "Origin": "https://evil.example"},
        {"Host": "a" * 300},
        {"Host": "[::1"},
    ],
    ids=lambda headers: ",".join(headers) + headers["Host"][:12],
)
def test_host_and_forwarding_headers_change_nothing(guarded, headers: dict[str, str]) -> None:
    """The answer depends on path and token only."""
    token = guarded.token(Purpose.CLICK, URL)
    answer = guarded.request("GET", f"/c/{token}", headers)
    assert (answer.status, answer.headers["location"]) == (307, URL)
    assert "access-control-allow-origin" not in answer.headers
    assert b"evil" not in guarded.request("GET", "/c/x", headers).body


def test_forwarded_address_is_not_believed_unasked(guarded) -> None:
    """Without proxy_hops, X-Forwarded-For and its cousins are noise."""
    tracking_id = os.urandom(16)
    guarded.request(
        "GET",
        f"/c/{guarded.token(Purpose.CLICK, URL, tracking_id=tracking_id)}",
        {
            "X-Forwarded-For": "6.6.6.6",
            "X-Real-IP": "6.6.6.6",
            "Forwarded": "for=6.6.6.6",
            "CF-Connecting-IP": "6.6.6.6",
        },
    )
    sql = "SELECT event.client FROM event JOIN message ON message.id = message WHERE tracking_id = ?"
    assert guarded.rows(sql, tracking_id) == [("127.0.0.1",)]


POST = b"POST /u/x HTTP/1.1\r\nHost: t\r\nConnection: close\r\n"
MALFORMED = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no version": b"GET /c/x\r\n\r\n",
    "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunks": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative length": POST + b"Content-Length: -1\r\n\r\n",
    "bad chunk": POST + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
    "space in name": b"GET /c/x HTTP/1.1\r\nHost: t\r\nX Y: z\r\nConnection: close\r\n\r\n",
    "NUL in header": b"GET /c/x HTTP/1.1\r\nHost: t\r\nX: a\0b\r\nConnection: close\r\n\r\n",
    "raw byte in path": b"GET /c/\xff HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
    "head of 1 MB": b"GET /c/x HTTP/1.1\r\nHost: t\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n",
    "10,000 headers": b"GET /c/x HTTP/1.1\r\nHost: t\r\n" + b"X: a\r\n" * 10_000 + b"\r\n",
    "path of 1 MB": b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: t\r\n\r\n",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed_requests_are_refused_and_the_server_lives(guarded, data: bytes) -> None:
    """A 4xx or a closed connection; the next reader is answered."""
    try:
        raw = guarded.raw(data)
    except (ConnectionError, TimeoutError):
        raw = b""
    assert raw == b"" or raw.split(b" ", 2)[1][:1] == b"4"
    assert guarded.get("/healthz").status == 200


def test_a_body_is_never_waited_for(guarded) -> None:
    """A client that promises a body and does not send it is answered at once."""
    path = f"/u/{guarded.token(Purpose.UNSUBSCRIBE)}".encode()
    with socket.create_connection(("127.0.0.1", guarded.port), timeout=5) as client:
        started = time.monotonic()
        client.sendall(b"POST " + path + b" HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000\r\n\r\nList-")
        assert client.recv(64).startswith(b"HTTP/1.1 200 ")
        assert time.monotonic() - started < 2


SLOW = {
    "nothing": (b"", b""),
    "half a line": (b"GET /c/x", b"a"),
    "a header now and then": (b"GET /c/x HTTP/1.1\r\nHost: t\r\n", b"X: a\r\n"),
    "half a header": (b"GET /c/x HTTP/1.1\r\nHost: t\r\nX: ", b"a"),
    "a second request": (b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\nGET /c/", b"a"),
    "nothing after an answer": (b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n", b""),
    "a body": (b"POST /u/x HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000\r\n\r\n", b"a"),
    "chunks": (b"POST /u/x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
}


@pytest.mark.slow
def test_slow_clients_keep_nobody_waiting_and_are_cut_off(guarded) -> None:
    """Three hundred clients that send slowly, in eight ways, hold sockets, not threads, and are cut off in time."""
    slow = []
    for number in range(300):
        first, drip = list(SLOW.values())[number % len(SLOW)]
        client = socket.create_connection(("127.0.0.1", guarded.port), timeout=5)
        client.sendall(first)
        slow.append((client, drip))
    opened = time.monotonic()
    longest_s = 0.0
    while slow:
        assert time.monotonic() - opened < 2 * daemon.HEAD_TIMEOUT_MS / 1000, f"{len(slow)} are still there"
        assert guarded.get(f"/c/{guarded.token(Purpose.CLICK, URL)}").status == 307
        started = time.monotonic()
        assert guarded.get("/healthz").status == 200  # which waits for no disk
        longest_s = max(longest_s, time.monotonic() - started)
        slow = [(client, drip) for client, drip in slow if _is_open(client, drip)]
        select.select([client for client, _ in slow], [], [], 0.3)
    assert longest_s < 2


def _is_open(client: socket.socket, drip: bytes) -> bool:
    """Whether the server still listens to *client*, which sends it *drip*; closes it here if not."""
    try:
        client.sendall(drip)
        client.setblocking(False)
        while client.recv(65536):
            pass
    except BlockingIOError:
        client.settimeout(5)
        return True
    except OSError:
        pass
    client.close()
    return False


def test_bad_tokens_are_limited_good_ones_never(make_server) -> None:
    """After its allowance a source gets 429 for bad tokens, 307 for good ones, and the pixel always."""
    server = make_server()
    statuses = [server.get("/c/x").status for _ in range(80)]
    assert statuses[:60] == [404] * 60
    assert statuses[-1] == 429
    assert server.get(f"/c/{server.token(Purpose.CLICK, URL)}").status == 307
    assert server.get("/o/x.gif").status == 200
    assert server.get(f"/u/{server.token(Purpose.UNSUBSCRIBE)}").status == 200
