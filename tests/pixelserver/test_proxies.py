"""Whose address it is, over the wire: hops and proxies as configured, never as somebody says."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from postwake.events import Who
from postwake.tokens import Purpose

URL = "https://example.com/"
HIT = (
    "SELECT event.client, who, reason FROM event JOIN message ON message.id = event.message WHERE tracking_id = ?"
    " AND event.hit_id IS NOT NULL"
)
PROXY, STRANGER = "127.0.0.2", "127.0.0.3"
"""Both are on this machine's loopback; the server is told that only the first is a proxy."""


def ask(server, peer: str, *fields: str, target: str = "", agent: str = "Mozilla/5.0 (X11) Gecko/ x") -> tuple:
    """Follow a new link from address *peer* with header *fields*; return status and what was recorded."""
    tracking_id = os.urandom(16)
    target = target or f"/c/{server.token(Purpose.CLICK, URL, tracking_id=tracking_id)}"
    head = "".join(f"{field}\r\n" for field in (f"GET {target} HTTP/1.1", "Host: t", f"User-Agent: {agent}", *fields))
    with socket.create_connection(("127.0.0.1", server.port), timeout=10, source_address=(peer, 0)) as client:
        client.sendall(f"{head}Connection: close\r\n\r\n".encode("latin-1"))
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    rows = server.rows(HIT, tracking_id)
    return int(answer.split(b" ", 2)[1]), rows[0] if rows else None


@pytest.fixture(scope="module")
def one_hop(make_server):
    """A server behind one proxy, which has an address of its own."""
    return make_server(pixelserver={"proxy_hops": 1, "trusted_proxies": [f"{PROXY}/32", "2001:db8::/32"]})


@pytest.fixture(scope="module")
def two_hops(make_server):
    """A server behind a load balancer behind a content network."""
    return make_server(pixelserver={"proxy_hops": 2, "trusted_proxies": [f"{PROXY}/32"]})


READER, SPOOFED = "198.51.100.7", "6.6.6.6"
ONE_HOP = {
    "the proxy says who": (PROXY, (f"X-Forwarded-For: {READER}",), READER),
    "the reader lied to the proxy": (PROXY, (f"X-Forwarded-For: {SPOOFED}, {READER}",), READER),
    "the reader lied in a field of its own": (
        PROXY,
        (f"X-Forwarded-For: {SPOOFED}", f"X-Forwarded-For: {READER}"),
        READER,
    ),
    "a stranger pretends to be a proxy": (STRANGER, (f"X-Forwarded-For: {READER}",), STRANGER),
    "loopback is no proxy once others are named": ("127.0.0.1", (f"X-Forwarded-For: {READER}",), "127.0.0.1"),
    "the proxy says nothing": (PROXY, (), PROXY),
    "other fields are not read": (
        PROXY,
        (
            f"X-Real-IP: {SPOOFED}",
            f"Forwarded: for={SPOOFED}",
            f"CF-Connecting-IP: {SPOOFED}",
            f"True-Client-IP: {SPOOFED}",
        ),
        PROXY,
    ),
    "with an underscore it is another field": (PROXY, (f"X_Forwarded_For: {SPOOFED}",), PROXY),
    "IPv6 with a port": (PROXY, ("X-Forwarded-For: [2001:db8::7]:4711",), "2001:db8::7"),
    "no address at all": (PROXY, ("X-Forwarded-For: unknown",), None),
    "no text at all": (PROXY, ("X-Forwarded-For: \xff\xfe",), None),
    "empty": (PROXY, ("X-Forwarded-For: ",), PROXY),
    "very long": (PROXY, ("X-Forwarded-For: " + f"{SPOOFED}, " * 2000 + READER,), READER),
}


@pytest.mark.parametrize(("peer", "fields", "expected"), ONE_HOP.values(), ids=ONE_HOP)
def test_one_hop(one_hop, peer: str, fields: tuple[str, ...], expected: str | None) -> None:
    """The last entry, if a configured proxy brought it; else the peer."""
    status, recorded = ask(one_hop, peer, *fields)
    assert (status, recorded[0]) == (307, expected)


TWO_HOPS = {
    "both said who": (f"{READER}, 192.0.2.1", READER),
    "and the reader lied": (f"{SPOOFED}, {READER}, 192.0.2.1", READER),
    "only one did": (READER, PROXY),
}


@pytest.mark.parametrize(("forwarded", "expected"), TWO_HOPS.values(), ids=TWO_HOPS)
def test_two_hops(two_hops, forwarded: str, expected: str) -> None:
    """The entry before the last; with fewer entries than hops nothing is guessed."""
    status, recorded = ask(two_hops, PROXY, f"X-Forwarded-For: {forwarded}")
    assert (status, recorded[0]) == (307, expected)


def test_bad_tokens_are_counted_by_reader(one_hop) -> None:
    """Behind a proxy one reader's forgeries cost that reader, and neither another nor somebody who claims to be him."""

    def bad(peer: str, reader: str) -> int:
        return ask(one_hop, peer, f"X-Forwarded-For: {reader}", target="/c/x")[0]

    assert [bad(PROXY, "203.0.113.9") for _ in range(61)] == [404] * 60 + [429]
    assert bad(PROXY, "203.0.113.200") == 429, "a neighbour in the same /24 is the same source"
    assert bad(PROXY, "198.51.100.1") == 404
    assert bad(STRANGER, "203.0.113.9") == 404
    # Good tokens never wait.
    assert ask(one_hop, PROXY, "X-Forwarded-For: 203.0.113.9")[0] == 307


def test_own_networks_and_agents_are_read_again(make_server, tmp_path) -> None:
    """Rules of the administrator's own come before ours, and SIGHUP brings a changed file into force; a bad one not."""
    networks, agents = tmp_path / "networks", tmp_path / "agents.toml"
    networks.write_text("192.0.2.0/24 partner clicks\n")
    agents.write_text('[[agent]]\nname = "our-reader"\nagent = "curl/"\nwho = "human"\non = "click"\n')
    server = make_server(
        pixelserver={
            "proxy_hops": 1,
            "trusted_proxies": [f"{PROXY}/32"],
            "scanner_networks": str(networks),
            "scanner_agents": str(agents),
        }
    )

    def verdict(client: str, agent: str = "Mozilla/5.0 (X11) Gecko/ x") -> tuple[Who, str]:
        who, reason = ask(server, PROXY, f"X-Forwarded-For: {client}", agent=agent)[1][1:]
        return Who(who), reason

    assert verdict("192.0.2.9") == (Who.MACHINE, "network-partner")
    assert verdict(READER, "curl/8.5.0") == (Who.HUMAN, "our-reader")
    assert verdict(READER, "AcmeGate/7") == (Who.UNKNOWN, "unfamiliar")

    def reload(expected: str) -> None:
        before = server.log().count(expected)
        server.process.send_signal(signal.SIGHUP)
        server.await_log(expected, before + 1)

    networks.write_text("# none any more\n")
    agents.write_text('[[agent]]\nname = "our-gateway"\nagent = "AcmeGate/[0-9]"\nwho = "machine"\n')
    reload("reload=done")
    assert verdict("192.0.2.9") == (Who.HUMAN, "browser")
    assert verdict(READER, "curl/8.5.0") == (Who.MACHINE, "http-library")
    assert verdict(READER, "AcmeGate/7") == (Who.MACHINE, "our-gateway")

    networks.write_text("192.0.2.0/24 partner\n300.0.0.0/8\n")
    agents.write_text('[[agent]]\nname = "broken"\nagent = "["\nwho = "machine"\n')
    reload("reload=failed")
    assert verdict("192.0.2.9") == (Who.HUMAN, "browser")
    for problem in ("networks:2", "300.0.0.0/8", "agent 1 (broken)"):
        assert problem in server.log()


def test_a_name_that_is_no_text_is_no_missing_name(server) -> None:
    """A browser that writes Latin-1 into its name has one: nobody knows which, but it is no machine's silence."""
    named = ask(server, "127.0.0.1", agent="Mozilla/5.0 (Linux; Telef\xf3nica) AppleWebKit/537.36")
    assert named == (307, ("127.0.0.1", Who.UNKNOWN, "unreadable-agent"))
