"""The real server, asked with a real client: what it answers and what it records."""

from __future__ import annotations

import os

import pytest

from postwake.events import EventType, Who
from postwake.tokens import Privacy, Purpose

PIXEL = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00"
    b"\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
BY_MESSAGE = (
    "SELECT type, who, reason, link, (SELECT text FROM url WHERE url.id = event.url), event.client, recipient_idx"
    " FROM event JOIN message ON message.id = event.message WHERE tracking_id = ? ORDER BY event.id"
)


def test_pixel_is_43_bytes_and_recorded_before_the_answer(server) -> None:
    """A good token: the pixel, never cached, and the open is in the store when the answer is there."""
    tracking_id = os.urandom(16)
    answer = server.get(f"/o/{server.token(Purpose.OPEN, tracking_id=tracking_id)}.gif")
    assert (answer.status, answer.body, len(answer.body)) == (200, PIXEL, 43)
    assert answer.headers["content-type"] == "image/gif"
    assert "no-store" in answer.headers["cache-control"]
    assert "noindex" in answer.headers["x-robots-tag"]
    assert "set-cookie" not in answer.headers
    assert server.rows(BY_MESSAGE, tracking_id) == [(EventType.OPENED, Who.HUMAN, "browser", 0, None, "127.0.0.1", 1)]


def test_pixel_answers_a_bad_token_and_records_nothing(server) -> None:
    """A bad token gets the same bytes; nothing is stored."""
    good = server.token(Purpose.OPEN)
    before = server.rows("SELECT count(*) FROM event")
    for token in ("x", good[:-2], good + "A", server.token(Purpose.CLICK, "https://example.com/"), "%00", "a" * 3000):
        answer = server.get(f"/o/{token}.gif")
        assert (answer.status, answer.body) == (200, PIXEL)
        assert answer.headers["content-type"] == "image/gif"
    assert server.rows("SELECT count(*) FROM event") == before


DESTINATIONS = {
    "plain": ("https://example.com/path?a=1&b=2", None),
    "fragment": ("https://example.com/app#/route?x=1&y=2", None),
    "percent": ("https://example.com/%7Ea/%zz?q=%26%3D%2B+%20", None),
    "ampersands": ("https://example.com/?a=1&amp;b=2&sectionId=3", None),
    "dot segments": ("https://example.com/a/../b//c/./d", None),
    "brackets": ("https://example.com/?a[]=1&b={x}|y^z`", None),
    "userinfo": ("https://user:p%40ss@example.com/", None),
    "backslash": ("https://example.com/a\\b", None),
    "upper case": ("HTTPS://EXAMPLE.com/X", None),
    "nested": ("https://example.com/?u=https%3A%2F%2Fother.example%2F%3Fx%3D1%23y", None),
    "IDN": (
        "https://bücher.example/größe?q=日本#é",
        "https://xn--bcher-kva.example/gr%C3%B6%C3%9Fe?q=%E6%97%A5%E6%9C%AC#%C3%A9",
    ),
    "space": ("https://example.com/a b?c d#e f", "https://example.com/a%20b?c%20d#e%20f"),
    "2000 bytes": ("https://example.com/?q=" + "x" * 1977, None),
}


@pytest.mark.parametrize(("url", "expected"), DESTINATIONS.values(), ids=DESTINATIONS)
def test_redirect_goes_exactly_there(server, url: str, expected: str | None) -> None:
    """307 to the signed URL, byte for byte where a header can carry it; recorded as it was signed."""
    tracking_id = os.urandom(16)
    answer = server.get(f"/c/{server.token(Purpose.CLICK, url, tracking_id=tracking_id, link=7)}")
    assert answer.status == 307
    assert answer.headers["location"] == (expected or url)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "noindex" in answer.headers["x-robots-tag"]
    assert "set-cookie" not in answer.headers
    assert server.rows(BY_MESSAGE, tracking_id) == [(EventType.CLICKED, Who.HUMAN, "browser", 7, url, "127.0.0.1", 1)]


def test_head_answers_like_get_and_counts_as_a_machine(server) -> None:
    """HEAD has the same headers, no body, and is a machine's."""
    tracking_id = os.urandom(16)
    path = f"/c/{server.token(Purpose.CLICK, 'https://example.com/x', tracking_id=tracking_id)}"
    head = server.request(
        "HEAD", path, {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"}
    )
    assert (head.status, head.headers["location"], head.body) == (307, "https://example.com/x", b"")
    assert [row[1:3] for row in server.rows(BY_MESSAGE, tracking_id)] == [(Who.MACHINE, "head")]
    pixel = server.request("HEAD", f"/o/{server.token(Purpose.OPEN)}.gif")
    assert (pixel.status, pixel.body, pixel.headers["content-length"]) == (200, b"", "43")


def test_prefetch_is_answered_and_a_machines(server) -> None:
    """A browser that looks ahead gets its redirect; it is no click of a person."""
    tracking_id = os.urandom(16)
    token = server.token(Purpose.CLICK, "https://example.com/x", tracking_id=tracking_id)
    assert server.get(f"/c/{token}", Sec_Purpose="prefetch;prerender").status == 307
    assert [row[1:3] for row in server.rows(BY_MESSAGE, tracking_id)] == [(Who.MACHINE, "prefetch")]


def test_query_strings_added_on_the_way_do_no_harm(server) -> None:
    """Forwarding services append parameters to links; the token still leads where it was signed to lead."""
    answer = server.get(
        f"/c/{server.token(Purpose.CLICK, 'https://example.com/?a=1')}?fbclid=x&url=https://evil.example/"
    )
    assert (answer.status, answer.headers["location"]) == (307, "https://example.com/?a=1")


@pytest.mark.parametrize("end", ["/", ".", "*", ")", "%3E", "%22", "%60", "~", ").", "%7C"])
def test_the_end_of_a_sentence_does_no_harm(server, end: str) -> None:
    """A mail program that makes links of plain text takes too much at times: the link leads on all the same."""
    answer = server.get(f"/c/{server.token(Purpose.CLICK, 'https://example.com/?a=1')}{end}")
    assert (answer.status, answer.headers["location"]) == (307, "https://example.com/?a=1")


def test_a_header_cannot_break_out(server) -> None:
    """Agents that are no text at all are recorded, cut, and answered."""
    for agent in ("\x80\xff" * 50, "A" * 5000, "'; DROP TABLE event; --"):
        tracking_id = os.urandom(16)
        path = f"/c/{server.token(Purpose.CLICK, 'https://example.com/x', tracking_id=tracking_id)}"
        raw = server.raw(
            b"GET %s HTTP/1.1\r\nHost: t\r\nUser-Agent: %s\r\nConnection: close\r\n\r\n"
            % (path.encode(), agent.encode("latin-1"))
        )
        assert raw.startswith(b"HTTP/1.1 307 ")
        assert len(server.rows(BY_MESSAGE, tracking_id)) == 1


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        (b"User-Agent: M\xfc\xffller\r\n", (Who.UNKNOWN, "unreadable-agent", "\ufffd")),
        (b"", (Who.MACHINE, "no-agent", None)),
        (b"User-Agent: \xe6\x97\xa5\xe6\x9c\xac\r\n", (Who.UNKNOWN, "unreadable-agent", "\ufffd")),
    ],
    ids=["Latin-1", "none", "UTF-8"],
)
def test_an_agent_that_is_no_text_is_not_no_agent(server, agent: bytes, expected: tuple) -> None:
    """A name that is not ASCII, which granian keeps to itself, is told apart from none: no machine's for that alone."""
    tracking_id = os.urandom(16)
    path = f"/c/{server.token(Purpose.CLICK, 'https://example.com/x', tracking_id=tracking_id)}".encode()
    raw = server.raw(b"GET %s HTTP/1.1\r\nHost: t\r\n%sConnection: close\r\n\r\n" % (path, agent))
    assert raw.startswith(b"HTTP/1.1 307 ")
    stored = server.rows(
        "SELECT who, reason, user_agent.text FROM event JOIN message ON message.id = event.message"
        " LEFT JOIN user_agent ON user_agent.id = event.user_agent WHERE tracking_id = ?",
        tracking_id,
    )
    assert stored == [expected]


METHODS = ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "BREW"]


@pytest.mark.parametrize("method", METHODS)
def test_other_methods_are_not_allowed(server, method: str) -> None:
    """405 with the constant body, on good and bad tokens alike, and nothing is recorded."""
    before = server.rows("SELECT count(*) FROM event")
    good = server.token(Purpose.CLICK, "https://example.com/")
    for path in (f"/c/{good}", "/c/x", f"/o/{server.token(Purpose.OPEN)}.gif", "/healthz", "/robots.txt"):
        answer = server.request(method, path)
        assert answer.status == 405
        assert answer.headers["allow"] == "GET, HEAD"
        assert answer.body in (b"", b"This address does not answer that method.\n")
        assert "access-control-allow-origin" not in answer.headers
    assert server.rows("SELECT count(*) FROM event") == before


def test_unsubscribe_get_asks_and_does_nothing(server) -> None:
    """A link scanner that follows the link unsubscribes nobody."""
    tracking_id = os.urandom(16)
    path = f"/u/{server.token(Purpose.UNSUBSCRIBE, tracking_id=tracking_id)}"
    answer = server.get(path, Accept_Language="fr-CA,fr;q=0.9")
    assert answer.status == 200
    assert answer.headers["content-language"] == "fr"
    assert answer.headers["vary"] == "Accept-Language"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "set-cookie" not in answer.headers
    assert "désabonner" in answer.body.decode()
    assert server.request("HEAD", path).body == b""
    assert server.rows(BY_MESSAGE, tracking_id) == []


@pytest.mark.parametrize("privacy", list(Privacy), ids=lambda mode: mode.name)
def test_one_click_unsubscribe(server, privacy: Privacy) -> None:
    """RFC 8058: one POST, without cookies or page, does it, in every privacy mode, however often it is sent."""
    tracking_id = os.urandom(16)
    fields = {"tracking_id": tracking_id, "recipient": 2, "privacy": privacy}
    path = f"/u/{server.token(Purpose.UNSUBSCRIBE, 'https://list.example/u', **fields)}"
    for _ in range(3):
        answer = server.request(
            "POST", path, {"Content-Type": "application/x-www-form-urlencoded"}, b"List-Unsubscribe=One-Click"
        )
        assert answer.status == 200
    rows = server.rows(BY_MESSAGE, tracking_id)
    assert {(*row[:3], row[6]) for row in rows} == {(EventType.UNSUBSCRIBED, Who.HUMAN, "one-click", 2)}
    assert server.rows(
        "SELECT count(*), count(unsubscribed_us) FROM engagement JOIN message ON message.id = message"
        " WHERE tracking_id = ?",
        tracking_id,
    ) == [(1, 1)]


def test_page_button_and_second_thoughts(server) -> None:
    """The form's own targets unsubscribe and subscribe again."""
    tracking_id = os.urandom(16)
    path = f"/u/{server.token(Purpose.UNSUBSCRIBE, tracking_id=tracking_id)}"
    engaged = (
        "SELECT unsubscribed_us IS NOT NULL FROM engagement JOIN message ON message.id = message WHERE tracking_id = ?"
    )
    assert b'action="?page=1"' in server.get(path).body
    done = server.request("POST", path + "?page=1", {}, b"")
    assert b'action="?again=1"' in done.body
    assert server.rows(engaged, tracking_id) == [(1,)]
    assert server.request("POST", path + "?again=1", {}, b"").status == 200
    assert server.rows(engaged, tracking_id) == [(0,)]
    assert [row[0] for row in server.rows(BY_MESSAGE, tracking_id)] == [EventType.UNSUBSCRIBED, EventType.RESUBSCRIBED]


def test_privacy_modes_over_the_wire(server) -> None:
    """What the token says about privacy is what the store holds."""
    kept = {}
    for mode in Privacy:
        tracking_id = os.urandom(16)
        fields = {"tracking_id": tracking_id, "recipient": 3, "privacy": mode}
        server.get(f"/c/{server.token(Purpose.CLICK, 'https://example.com/', **fields)}")
        kept[mode] = [
            (row[5], row[6], bool(agent))
            for row, (agent,) in zip(
                server.rows(BY_MESSAGE, tracking_id),
                server.rows(
                    "SELECT user_agent FROM event JOIN message ON message.id = message WHERE tracking_id = ?",
                    tracking_id,
                ),
                strict=True,
            )
        ]
    assert kept[Privacy.FULL] == [("127.0.0.1", 3, True)]
    [(client, recipient, agent)] = kept[Privacy.PSEUDONYMOUS]
    assert client.startswith("~")
    assert (recipient, agent) == (3, True)
    assert kept[Privacy.ANONYMOUS] == [(None, 0, False)]
    assert kept[Privacy.OFF] == []


def test_health_and_robots(server) -> None:
    """/healthz says that readers are answered; robots are asked to stay away."""
    assert server.get("/healthz").body == b"ok\n"
    assert server.get("/robots.txt").body == b"User-agent: *\nDisallow: /\n"
