"""Parts that come again: remembered or not, a message comes out the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postwake.tokens import KeyRing, Privacy
from postwake_lab import mails
from postwake_milter.mint import TokenMint
from postwake_milter.rewrite.engine import Plan, Rewritten, rewrite
from postwake_milter.rewrite.headers import read_block
from postwake_milter.rewrite.html_edit import HtmlPlan, draft_html
from postwake_milter.rewrite.memory import Memory

RING = KeyRing({1: b"k" * 32})
PLAN = Plan(own_hosts=frozenset({"track.example.com"}))
MIB = 1 << 20


def mint_of(number: int, base: str = "https://track.example.com") -> TokenMint:
    """The mint of message *number*."""
    return TokenMint(RING, base, number.to_bytes(16, "big"), 1, Privacy.FULL)


def put_through(raw: bytes, number: int, memory: Memory, plan: Plan = PLAN) -> Rewritten:
    """Rewrite the message *raw* as message *number*."""
    block = read_block(raw, 0)
    return rewrite(
        [(item.name, item.value) for item in block.fields], raw[block.body_start :], plan, mint_of(number), memory
    )


@pytest.mark.parametrize("encoding", ["quoted-printable", "base64", "7bit", "8bit"])
def test_what_is_remembered_comes_out_the_same(encoding: str) -> None:
    """The second and third message with a body are what they would be if nobody had seen the first."""
    memory = Memory(MIB)
    raw = mails.newsletter(1, "ada@example.net", encoding=encoding)
    for number in (1, 2, 2**100):
        assert put_through(raw, number, memory) == put_through(raw, number, Memory(0))
    assert memory.size_bytes > 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=3), st.integers(0, 5000)), max_size=8))
def test_bodies_that_are_nearly_the_same_are_told_apart(changes: list[tuple[int, bytes, int]]) -> None:
    """Whatever came before, a message with some other bytes is rewritten by its own bytes."""
    memory = Memory(MIB)
    kinds = ("quoted-printable", "base64", "7bit", "8bit")
    for number, (kind, junk, at) in enumerate(changes, 1):
        raw = mails.newsletter(1, "ada@example.net", encoding=kinds[kind])
        head, _, body = raw.partition(b"\r\n\r\n")
        at = min(at, len(body))
        raw = head + b"\r\n\r\n" + body[:at] + junk + body[at + len(junk) :]
        assert put_through(raw, number, memory) == put_through(raw, number, Memory(0))


def test_the_same_bytes_under_another_plan_are_decided_anew() -> None:
    """What one sender wants tracked is not what the next one wants, though they send the same newsletter."""
    memory = Memory(MIB)
    raw = mails.newsletter(1, "ada@example.net")
    both = put_through(raw, 1, memory)
    clicks = put_through(raw, 1, memory, replace(PLAN, opens=False))
    excluded = put_through(raw, 1, memory, replace(PLAN, excluded_hosts=("shop.example.com",)))
    assert (both.opens, clicks.opens) == (1, 0)
    assert len(excluded.destinations) < len(both.destinations)
    assert excluded == put_through(raw, 1, Memory(0), replace(PLAN, excluded_hosts=("shop.example.com",)))


def test_each_recipient_may_have_a_way_out_of_their_own() -> None:
    """List-Unsubscribe of each message decides about its own links, though the newsletter is the same."""
    memory = Memory(MIB)
    raw = mails.newsletter(1, "ada@example.net")
    for target in (
        "shop.example.com/account",
        "lists.example.org/u/1",
        "lists.example.org/u/2",
        "shop.example.com/account",
    ):
        listed = f"List-Unsubscribe: <https://{target}>\r\n".encode() + raw
        assert put_through(listed, 1, memory) == put_through(listed, 1, Memory(0))
    left_out = put_through(b"List-Unsubscribe: <https://shop.example.com/account>\r\n" + raw, 2, memory)
    assert "https://shop.example.com/account" not in left_out.destinations


def test_memory_is_bounded() -> None:
    """However many bodies come, what is kept stays under the limit; one that would fill it is not kept at all."""
    memory = Memory(300_000)
    for number in range(30):
        put_through(mails.of_size(6_000 + 300 * number, 2), number, memory)
        assert memory.size_bytes <= 300_000
    kept = memory.size_bytes
    assert kept > 150_000
    put_through(mails.of_size(80_000, 2), 99, memory)
    assert memory.size_bytes == kept


def test_a_body_that_comes_again_pushes_no_other_out() -> None:
    """What is used stays; what was not used for longest goes."""
    memory = Memory(5 * 25_000)
    often, *others = (mails.of_size(size, 1) for size in (7_000, 7_500, 8_000, 8_500))
    put_through(often, 0, memory)
    for other in others:
        put_through(other, 1, memory)
        before = memory.size_bytes
        put_through(often, 2, memory)
        assert memory.size_bytes == before


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("https://t.example/c/ab--", b"http://x.example", id="would-end-the-comment"),
        pytest.param("https://t.example/c/a--b", b"https://t.example/c/a--b", id="harmless"),
    ],
)
def test_no_url_ends_a_comment(url: str, expected: bytes) -> None:
    """An unquoted link at the end of a tag in a conditional comment stays as it is where the URL would make ``-->``."""

    class Mint:
        def open_url(self, position: int) -> str:
            return f"https://t.example/o/{position}"

        def click_url(self, link: int, destination: str) -> str:
            return url

    html = b"<p>a</p><!--[if mso]><a href=http://x.example>x</a><![endif]--><p>b</p>"
    draft = draft_html(html, HtmlPlan(opens=False, clicks=True), "t.example")
    assert draft.replacements(Mint()) == [expected]


def test_a_url_of_other_letters_is_refused() -> None:
    """The judge has seen stand-ins; what could mean something else than they do never gets into a mail."""

    class Mint:
        def open_url(self, position: int) -> str:
            return "https://t.example/o/0"

        def click_url(self, link: int, destination: str) -> str:
            return 'https://t.example/c/0"onclick="x'

    draft = draft_html(b"<a href='http://x.example'>x</a>", HtmlPlan(opens=True, clicks=True), "t.example")
    with pytest.raises(ValueError, match="expected URLs of ASCII letters"):
        draft.replacements(Mint())
