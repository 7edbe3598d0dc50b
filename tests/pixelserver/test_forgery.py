"""Forged tokens: none is believed, and refusing one says nothing about how near it came."""

from __future__ import annotations

import http.client
import random
import runpy
import sys
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from postwake.tokens import KeyRing, Purpose, Token

forgery = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("forgery.py"))))
KINDS = 19
GOOD = forgery.RING.sign(Purpose.CLICK, Token(bytes(range(16)), 3, 2, "https://example.com/" + "x" * 100))


def test_genuine_tokens_are_believed() -> None:
    """The forger's stock is good: what is refused below is refused for what was done to it."""
    forger = forgery.Forger(1)
    assert len(forger.genuine) == 180
    assert all(forgery.RING.verify(purpose, text) for purpose, text in forger.genuine)


def test_forgeries_are_refused() -> None:
    """Thirty thousand forgeries of every kind (`make fuzz-tokens`: a million) are all refused."""
    made, believed = forgery.attack(30_000, seed=random.randrange(2**32))
    assert (made.total(), len(made), believed) == (30_000, KINDS, [])


def test_forgeries_over_the_wire(make_server) -> None:
    """Two thousand of them on one connection: 404 or, once there were too many, 429; no Location; nothing recorded."""
    server = make_server()
    raw = forgery.decode(server.token(Purpose.CLICK, "https://example.com/"))
    chance = random.Random(7)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    statuses = set()
    for number in range(2000):
        wrong = bytearray(raw)
        wrong[chance.randrange(len(wrong))] ^= 1 << chance.randrange(8)
        connection.request("GET", f"/{'cu'[number % 2]}/{forgery.encode(bytes(wrong))}")
        response = connection.getresponse()
        assert response.read() == b"This link is not valid.\n"
        assert response.getheader("Location") is None
        statuses.add(response.status)
    connection.close()
    assert statuses == {404, 429}
    assert server.rows("SELECT count(*) FROM event") == [(0,)]
    assert server.get(f"/c/{server.token(Purpose.CLICK, 'https://example.com/')}").status == 307


def calls(ring: KeyRing, purpose: Purpose, text: str) -> list[str]:
    """Return every call, of Python and of C functions, that verifying *text* makes."""
    made: list[str] = []

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            made.append(frame.f_code.co_qualname)
        elif event == "c_call":
            made.append(argument.__qualname__)

    sys.setprofile(note)
    try:
        found = ring.verify(purpose, text)
    finally:
        sys.setprofile(None)
    assert found is None
    return [name for name in made if name != "setprofile"]


def near_misses() -> dict[str, tuple[Purpose, str]]:
    """Return tokens of one length that are wrong in one place, by where."""
    raw = forgery.decode(GOOD)

    def wrong(at: int, bit: int = 1) -> str:
        out = bytearray(raw)
        out[at] ^= bit
        return forgery.encode(bytes(out))

    places = {"flags": 2, "tracking ID": 5, "recipient": 19, "link": 20, "destination": 30}
    places |= {f"MAC byte {n}": n - 16 for n in range(16)}
    found = {name: (Purpose.CLICK, wrong(at)) for name, at in places.items()}
    found["a key there is none of"] = Purpose.CLICK, wrong(1, 0x40)
    found["another listed key"] = Purpose.CLICK, wrong(1, 7 ^ 1)
    found["another purpose"] = Purpose.OPEN, GOOD
    return found


def test_refusing_takes_the_same_steps_wherever_a_forgery_is_wrong() -> None:
    """Every near miss goes through the same calls in the same order, one constant-time comparison of MACs among them.

    The steps, not the clock: `make fuzz-tokens` measures the time of the same.
    """
    forgery.RING.verify(Purpose.CLICK, "x")
    traces = {name: calls(forgery.RING, purpose, text) for name, (purpose, text) in near_misses().items()}
    first = traces["MAC byte 0"]
    assert first.count("compare_digest") == 1
    assert {name for name, trace in traces.items() if trace != first} == set()


@pytest.mark.parametrize("text", ["", "x", "é" * 40, "A" * 60, GOOD[:-1], GOOD + "=", GOOD + "\n", "A" * 100_000])
def test_a_mac_is_computed_for_what_is_no_token_at_all(text: str) -> None:
    """What cannot even be decoded costs one MAC, too: no step is missing by which it could be told from a forgery."""
    made = calls(forgery.RING, Purpose.CLICK, text)
    assert [name for name in made if name == "_Mac.of"] == ["_Mac.of"]
