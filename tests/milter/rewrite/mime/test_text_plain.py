"""Links in plain text: the URL is taken, the sentence around it is not."""

from __future__ import annotations

import time

import pytest

from postwake_milter.rewrite.html_scan import apply_edits
from postwake_milter.rewrite.links import LinkRules
from postwake_milter.rewrite.text_plain import edit_text


class _Mint:
    def click_url(self, link: int, destination: str) -> str:
        return f"https://t.example/c/{link}"


RULES = LinkRules(
    own_hosts=frozenset({"t.example"}),
    excluded_hosts=("*.internal",),
    unsubscribe_targets=frozenset({"https://e.com/u?x"}),
)
OURS = b"https://t.example/c/0"

FOUND = [
    pytest.param(b"see https://e.com/a now", b"https://e.com/a", id="plain"),
    pytest.param(b"https://e.com/a.\r\n", b"https://e.com/a", id="full-stop"),
    pytest.param(b"Go to https://e.com/a, or not", b"https://e.com/a", id="comma"),
    pytest.param(b"(https://e.com/a)", b"https://e.com/a", id="parentheses-around"),
    pytest.param(b"https://e.com/A_(b)", b"https://e.com/A_(b)", id="parentheses-inside"),
    pytest.param(b"(see https://e.com/A_(b)).", b"https://e.com/A_(b)", id="both"),
    pytest.param(b"[x](https://e.com/a)!", b"https://e.com/a", id="markdown"),
    pytest.param(b"{https://e.com/a}.", b"https://e.com/a", id="braces"),
    pytest.param(b"(https://e.com/a)b)", b"https://e.com/a", id="closed-in-the-middle"),
    pytest.param(b"https://e.com/a.) and", b"https://e.com/a", id="full-stop-in-parentheses"),
    pytest.param(b"https:///e.com/a", None, id="no-host"),
    pytest.param(b"<https://e.com/a.> x", b"https://e.com/a.", id="angle-brackets-take-all"),
    pytest.param(b"<https://e.com/a.>", b"https://e.com/a.", id="angle-brackets-at-the-end"),
    pytest.param(b"<URL:https://e.com/a>", b"https://e.com/a", id="rfc3986-appendix-c"),
    pytest.param(b'"https://e.com/a"', b"https://e.com/a", id="quotes"),
    pytest.param(b"*https://e.com/a*", b"https://e.com/a", id="bold"),
    pytest.param(b"HTTP://E.com/?a=b&c=d;e", b"HTTP://E.com/?a=b&c=d;e", id="upper-case-and-query"),
    pytest.param(b"Link:https://e.com/a?!", b"https://e.com/a", id="after-a-colon"),
    pytest.param(b"https://e.com/reset?t=a_b-c~d%20e\n", b"https://e.com/reset?t=a_b-c~d%20e", id="token"),
    pytest.param(b"https://e.com/reset?t=a_", b"https://e.com/reset?t=a_", id="token-that-ends-in-an-underscore"),
    pytest.param(b"https://e.com/reset?t=a-.", b"https://e.com/reset?t=a-", id="token-that-ends-in-a-hyphen"),
    pytest.param(b"https://e.com/~", b"https://e.com/~", id="tilde"),
    pytest.param(b"a https://e.com/long \r\nflowed", b"https://e.com/long", id="flowed-line-ends-with-its-space"),
    pytest.param("\u201ehttps://e.com/a\u201c".encode()[3:], None, id="curly-quote-after"),
]


@pytest.mark.parametrize(("text", "url"), FOUND)
def test_where_a_url_ends(text: bytes, url: bytes | None) -> None:
    """Exactly the URL is replaced; punctuation and brackets of the sentence stay where they were."""
    result = edit_text(text, RULES, _Mint())

    if url is None:
        assert not result.edits
        return
    assert apply_edits(text, result.edits) == text.replace(url, OURS)
    assert [link.url for link in result.links] == [url.decode()]


def test_a_link_and_its_text_are_two_links() -> None:
    """In Markdown an address may stand twice without a space between."""
    text = b"[https://e.com/a](https://e.com/b), x"
    result = edit_text(text, RULES, _Mint())

    assert apply_edits(text, result.edits) == b"[https://t.example/c/0](https://t.example/c/1), x"
    assert [link.url for link in result.links] == ["https://e.com/a", "https://e.com/b"]


@pytest.mark.parametrize("end", ["-", "_"])
def test_no_url_of_ours_ends_in_a_hyphen(end: str) -> None:
    """Thunderbird leaves a hyphen at the end outside a link, others an underscore: the token would lack it."""

    class Mint:
        def click_url(self, link: int, destination: str) -> str:
            return f"https://t.example/c/x{end}"

    result = edit_text(b"(https://e.com/a).", RULES, Mint())

    assert [edit.replacement for edit in result.edits] == [f"https://t.example/c/x{end}/".encode()]


SKIPPED = [
    pytest.param(b"> https://e.com/a\r\n", "quoted", id="quoted"),
    pytest.param(b"x\r\n>> on https://e.com/a\r\n", "quoted", id="quoted-twice"),
    pytest.param(b"https://t.example/c/abc", "own-host", id="own-host"),
    pytest.param(b"https://wiki.internal/", "excluded", id="excluded"),
    pytest.param(b"https://e.com/u?x", "unsubscribe", id="unsubscribe"),
    pytest.param(b"https://e.com/{{name}}", "template", id="template"),
    pytest.param(b"https://e.com/a[[name]]", "template", id="template-in-brackets"),
    pytest.param(b"https://?path", "malformed", id="no-host"),
    pytest.param(b"foo=https://e.com/a", "embedded-url", id="in-a-word"),
    pytest.param(b"<https://e.com/a\r\nb>", "broken-url", id="broken-in-angle-brackets"),
    pytest.param("https://e.com/\u00e4".encode(), "charset", id="outside-ascii"),
    pytest.param(b'https://e.com/a[[data-msys-clicktrack="0"]] x', "opt-out", id="sparkpost-opt-out"),
]


MARKED = [
    pytest.param(b'%s[[data-msys-linkname="a b"]] x', b"%s x", None, id="sparkpost-name"),
    pytest.param(b"%s[[data-msys-sublink=open-in-app]].", b"%s.", None, id="sparkpost-path"),
    pytest.param(b'%s[[data-msys-linkname="a" data-msys-sublink="b"]]', b"%s", None, id="two-in-one"),
    pytest.param(b'%s[[data-msys-linkname="a"]][[ data-msys-clicktrack = "0" ]]\n', b"%s\n", "opt-out", id="two"),
    pytest.param(b'%s[[data-msys-clicktrack="1"]]', b"%s", None, id="sparkpost-tracked"),
    pytest.param(b'(%s[[data-msys-unsubscribe="1"]])', b"(%s)", "unsubscribe", id="sparkpost-unsubscribe"),
    pytest.param(b"<%s[[data-msys-unsubscribe=0]]>", b"<%s>", None, id="sparkpost-in-angle-brackets"),
    pytest.param(b"{{ses:openTracker}} %s {{ses:openTracker}}", b" %s ", None, id="amazon"),
]


@pytest.mark.parametrize(("text", "expected", "reason"), MARKED)
def test_marks_of_services_are_honoured_and_go(text: bytes, expected: bytes, reason: str | None) -> None:
    """What SparkPost reads behind a link goes, whatever it says; where clicks are not counted it goes as well."""
    url = b"https://e.com/a"
    result = edit_text(text % url, RULES, _Mint())

    assert apply_edits(text % url, result.edits) == expected % (OURS if reason is None else url)
    assert result.skipped == ({reason: 1} if reason else {})
    unwrapped = edit_text(text % url, RULES, _Mint(), wrap=False)
    assert apply_edits(text % url, unwrapped.edits) == expected % url
    assert (unwrapped.links, unwrapped.skipped) == ((), {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(b"see https+notrack://e.com/a.", b"see https://e.com/a.", id="https"),
        pytest.param(b"<HTTP+notrack://e.com/a>", b"<HTTP://e.com/a>", id="in-angle-brackets"),
        pytest.param(b"> https+notrack://e.com/a", b"> https://e.com/a", id="quoted"),
        pytest.param(
            b'https+notrack://e.com/a[[data-msys-linkname="x"]]', b"https://e.com/a", id="two-services-at-once"
        ),
    ],
)
@pytest.mark.parametrize("wrap", [True, False])
def test_links_marked_as_not_to_be_counted(text: bytes, expected: bytes, wrap: bool) -> None:
    """Postal's +notrack goes, since with it the link is dead, and the link is left alone, counted clicks or not."""
    result = edit_text(text, RULES, _Mint(), wrap=wrap)

    assert apply_edits(text, result.edits) == expected
    assert result.links == ()
    assert result.skipped == ({"opt-out": 1} if wrap else {})


@pytest.mark.parametrize(
    "text",
    [
        b"xhttps+notrack://e.com",
        b"https+notrack: //e.com",
        b"+notrack://e.com/",
        b'x [[data-msys-clicktrack="0"]]',
        b'[[data-msys-clicktrack="0"]]',
        b"https://e.com/a[[data-msys-linkname]]",
        b'https://e.com/a[[data-msys-linkname="x]]',
        b'https://e.com/a[[data-msys-linkname="{{name}}"]]',
        b"https://e.com/a[[name]]",
    ],
)
def test_what_is_no_mark_stays(text: bytes) -> None:
    """Marks behind no link, halves of marks and other brackets are text."""
    assert apply_edits(text, edit_text(text, RULES, _Mint(), wrap=False).edits) == text


@pytest.mark.parametrize(("text", "reason"), SKIPPED)
def test_skips_have_names(text: bytes, reason: str) -> None:
    """What is not a link to wrap stays as it is, and is counted under its reason."""
    result = edit_text(text, RULES, _Mint())

    assert result.skipped == {reason: 1}
    assert not result.links
    assert apply_edits(text, result.edits) == text.replace(b'[[data-msys-clicktrack="0"]]', b"")


def test_delsp_joins_lines_so_the_url_goes_on() -> None:
    """With DelSp=yes a URL before a flowed break is only half a URL; elsewhere in the text it is a whole one."""
    text = b"https://e.com/first \r\nhalf\r\nhttps://e.com/whole\r\n"
    result = edit_text(text, RULES, _Mint(), delsp=True)

    assert [link.url for link in result.links] == ["https://e.com/whole"]
    assert result.skipped == {"broken-url": 1}


def test_links_are_numbered_on() -> None:
    """Numbers go on from the parts before, in order, and lines are never joined or broken."""
    text = b"https://e.com/1\r\n\r\nhttps://e.com/2 https://e.com/3"
    result = edit_text(text, RULES, _Mint(), first_link=4)

    assert [link.index for link in result.links] == [4, 5, 6]
    assert apply_edits(text, result.edits).count(b"\r\n") == 2


@pytest.mark.parametrize(
    "shape",
    [
        b"http://",
        b"https://e.com/ ",
        b"https://e.com/)",
        b")",
        b"[[data-msys-clicktrack",
        b"https://a[[",
        b"<https://e.com/a\n",
        b"https://e.com/" + b")" * 50,
    ],
    ids=["schemes", "links", "brackets", "closing", "opt-outs", "half-opt-outs", "broken", "many-brackets"],
)
def test_time_is_linear(shape: bytes) -> None:
    """Eight times the input takes at most some twenty times as long, whatever its shape."""

    def seconds(count: int) -> float:
        text = shape * count
        best = float("inf")
        for _ in range(3):
            begun = time.process_time()
            edit_text(text, RULES, _Mint())
            best = min(best, time.process_time() - begun)
        return best

    assert seconds(16_000) < 20 * seconds(2_000) + 0.05
