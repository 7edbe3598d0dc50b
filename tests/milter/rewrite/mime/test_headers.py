"""Header blocks lose no byte; values are read however they are written."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postwake_milter.rewrite.content import describe
from postwake_milter.rewrite.headers import decode_text, parse_parameters, read_block

BLOCKS = [
    pytest.param(b"A: 1\r\nB: 2\r\n\r\nbody", [b"A", b"B"], b"body", False, id="crlf"),
    pytest.param(b"A: 1\nB: 2\n\nbody", [b"A", b"B"], b"body", False, id="lf"),
    pytest.param(b"A: 1\r\n\tmore\r\n \r\n\r\nbody", [b"A"], b"body", False, id="folded-and-blank-continuation"),
    pytest.param(b"A : 1\n\nbody", [b"A"], b"body", False, id="space-before-colon"),
    pytest.param(b"A: 1\nno colon here\nmore", [b"A"], b"no colon here\nmore", True, id="no-empty-line"),
    pytest.param(b" starts folded\nA: 1\n\n", [], b" starts folded\nA: 1\n\n", True, id="continues-nothing"),
    pytest.param(b"A: 1", [b"A"], b"", True, id="cut-off"),
    pytest.param(b"\nbody", [], b"body", False, id="empty-block"),
    pytest.param(b"", [], b"", True, id="nothing"),
    pytest.param(b"A: 1\rB: 2\n\nbody", [b"A"], b"body", False, id="bare-cr-is-in-the-line"),
    pytest.param(b"A: 1\r\n\nbody", [b"A"], b"body", False, id="mixed-endings"),
    pytest.param(b"A:\nB:\n\n", [b"A", b"B"], b"", False, id="empty-values"),
]


@pytest.mark.parametrize(("text", "names", "body", "malformed"), BLOCKS)
def test_read_block(text: bytes, names: list[bytes], body: bytes, malformed: bool) -> None:
    """A block ends before the empty line or before what is no field, and its fields hold all of its bytes."""
    block = read_block(text)

    assert [item.name for item in block.fields] == names
    assert text[block.body_start :] == body
    assert block.malformed is malformed
    assert b"".join(text[item.start : item.end] for item in block.fields) == text[block.start : block.end]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([b"A: x", b"B:", b" ", b"\t", b"\r\n", b"\n", b"\r", b"junk", b"--b", b":", b"\xff"])).map(
        b"".join
    )
)
def test_read_block_loses_nothing(text: bytes) -> None:
    """Fields, what parts header and body, and the body are the whole text, whatever it is."""
    block = read_block(text)

    at = block.start
    for item in block.fields:
        assert item.start == at
        assert text[item.value_start : item.value_start + len(item.value)] == item.value
        assert text[item.value_start + len(item.value) : item.end] in (b"", b"\n", b"\r\n")
        at = item.end
    assert at == block.end
    assert text[block.end : block.body_start] in (b"", b"\n", b"\r\n")


PARAMETERS = [
    pytest.param(b" text/html; charset=utf-8", "text/html", {"charset": "utf-8"}, id="plain"),
    pytest.param(
        b' Text/HTML;\r\n\tcharset="UTF-8" ; x=y', "text/html", {"charset": "UTF-8", "x": "y"}, id="quoted-folded"
    ),
    pytest.param(b" text/html (really); charset=us-ascii (Plain)", "text/html", {"charset": "us-ascii"}, id="comments"),
    pytest.param(b' multipart/mixed; boundary="a;b\\"c"', "multipart/mixed", {"boundary": 'a;b"c'}, id="escapes"),
    pytest.param(b' multipart/mixed; boundary="abc', "multipart/mixed", {"boundary": "abc"}, id="quote-never-closes"),
    pytest.param(b" multipart/mixed; boundary=a b", "multipart/mixed", {"boundary": "a b"}, id="space-in-value"),
    pytest.param(b"\xa0 text/html\x85; \x1fa=b", "\xa0 text/html\x85", {"\x1fa": "b"}, id="no-space-in-ASCII"),
    pytest.param(b" multipart/mixed; boundary=a\xa0", "multipart/mixed", {"boundary": "a\xa0"}, id="ends-in-no-space"),
    pytest.param(
        b" text/plain; charset=utf-8 format=flowed",
        "text/plain",
        {"charset": "utf-8", "format": "flowed"},
        id="no-semicolon",
    ),
    pytest.param(b" text/plain;; ;charset=utf-8;", "text/plain", {"charset": "utf-8"}, id="stray-semicolons"),
    pytest.param(b" text/plain; charset = utf-8", "text/plain", {"charset": "utf-8"}, id="spaces-around-equals"),
    pytest.param(b" text/plain; charset", "text/plain", {}, id="no-value"),
    pytest.param(b' x/y; boundary*0=a; boundary*1="b c"', "x/y", {"boundary": "ab c"}, id="rfc2231-continued"),
    pytest.param(b" x/y; n*=utf-8''%c3%a4", "x/y", {"n": "\u00c3\u00a4"}, id="rfc2231-encoded"),
    pytest.param(b" x/y; n*0*=utf-8''%41; n*1=B; n*3=D", "x/y", {"n": "AB"}, id="rfc2231-gap"),
    pytest.param(b" x/y; n=plain; n*=utf-8''other", "x/y", {"n": "plain"}, id="plain-name-wins"),
    pytest.param(b' multipart/mixed; boundary="=_a"b', "multipart/mixed", {"boundary": "=_a"}, id="text-after-quote"),
    pytest.param(b"", "", {}, id="empty"),
    pytest.param(b" ;;;", "", {}, id="semicolons-only"),
]


@pytest.mark.parametrize(("value", "main", "parameters"), PARAMETERS)
def test_parse_parameters(value: bytes, main: str, parameters: dict[str, str]) -> None:
    """Parameters read as mail programs read them, standard or not."""
    parsed = parse_parameters(value)

    assert parsed.value == main
    assert parsed.parameters == parameters


def test_what_is_no_space_is_part_of_the_type() -> None:
    """A type with a no-break space before it is a type that nobody knows; what boundary ends in one, readers differ."""
    assert describe([(b"Content-Type", b"\xa0text/html")]).type == ""
    assert describe([(b"Content-Type", b" multipart/mixed; boundary=a\xa0 ")]).ambiguous
    assert not describe([(b"Content-Type", b" multipart/mixed; boundary=a\xc3\xa4")]).ambiguous


def test_contradicting_parameters_are_ambiguous() -> None:
    """The same parameter twice with two values is not decided for the reader; twice the same is."""
    assert parse_parameters(b"x/y; boundary=a; boundary=b").ambiguous == {"boundary"}
    assert not parse_parameters(b"x/y; boundary=a; boundary=a").ambiguous
    assert parse_parameters(b'x/y; boundary="a" b').ambiguous == {"boundary"}
    assert parse_parameters(b'x/y; a="b="c"; boundary="d"').ambiguous == {"a", "boundary"}
    assert parse_parameters(b'x/y; boundary="a ').ambiguous == {"boundary"}
    assert parse_parameters(b'x/y; a=b boundary="c"').ambiguous == {"boundary"}
    assert parse_parameters(b'x/y; a=b"; boundary="c"').ambiguous == {"boundary"}
    assert parse_parameters(b'x/y; boundary="c"d=e').ambiguous == {"boundary", "d"}
    assert not parse_parameters(b'x/y; boundary=c; charset=utf-8"').ambiguous
    assert not parse_parameters(b'x/y; a="b\\"c"; boundary=d').ambiguous
    assert not parse_parameters(b'x/y; a=b; boundary="c" charset=d').ambiguous
    assert not parse_parameters(b'x/y; charset="utf-8').ambiguous
    assert not parse_parameters(b'x/y; boundary="a" (b); x="y" z=1 ').ambiguous


@pytest.mark.parametrize(
    "value",
    [b";" * 50_000 + b"(", b" " * 50_000 + b"x", b"; a" * 20_000, b'; a="' * 10_000, b"; a= b" * 10_000, b"(" * 50_000],
    ids=["semicolons", "spaces", "names", "quotes", "words", "parentheses"],
)
def test_parameters_take_linear_time(value: bytes) -> None:
    """A header of 50 kB built to be slow is read in far less than a second."""
    begun = time.process_time()
    parse_parameters(b" text/html; charset=x" + value)

    assert time.process_time() - begun < 1.0


SUBJECTS = [
    pytest.param(b" plain text", "plain text", id="plain"),
    pytest.param(b" =?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Gr\u00fc\u00dfe", id="q"),
    pytest.param(b" =?UTF-8?B?R3LDvMOfZQ==?=", "Gr\u00fc\u00dfe", id="b"),
    pytest.param(b" =?utf-8?b?R3LD?=\r\n =?utf-8?b?vMOfZQ==?=", "Gr\u00fc\u00dfe", id="character-cut-in-half"),
    pytest.param(b" a =?utf-8?q?b?= =?utf-8?q?c?= d", "a bc d", id="white-space-between-words-goes"),
    pytest.param(b" =?iso-8859-1*de?q?=FC_x?=", "\u00fc x", id="language-tag"),
    pytest.param(b" =?x-unknown?q?abc?=", "=?x-unknown?q?abc?=", id="unknown-charset-stays"),
    pytest.param(b" =?utf-8?b?!!!?= x", "=?utf-8?b?!!!?= x", id="broken-base64-stays"),
    pytest.param(b" Gr\xc3\xbc\xc3\x9fe", "Gr\u00fc\u00dfe", id="raw-utf-8"),
    pytest.param(b" Gr\xfc", "Gr\ufffd", id="raw-latin-1"),
    pytest.param(b" =?utf-8?q?a=0D=0AX:=00?=", "a  X: ", id="no-control-characters"),
    pytest.param(b" folded\r\n\tsubject", "folded subject", id="folded"),
    pytest.param(b" =?utf-7?q?+2AA-?=", "?", id="half-a-surrogate-pair"),
    pytest.param(b" =?unicode_escape?q?=5Cud800?=", "=?unicode_escape?q?=5Cud800?=", id="no-charset-but-a-codec"),
    pytest.param(b" =?gb2312?b?6UY=?=", "\u9555", id="larger-set-under-a-smaller-name"),
]


@pytest.mark.parametrize(("value", "text"), SUBJECTS)
def test_decode_text(value: bytes, text: str) -> None:
    """A subject reads as a person sees it, on one line, and never raises."""
    assert decode_text(value) == text


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                b"=?",
                b"utf-8",
                b"?q?",
                b"?b?",
                b"=C3",
                b"?=",
                b" ",
                b"\xff",
                b"A",
                b"\n\t",
                b"rot13",
                b"*",
                b"utf-7",
                b"+2AA-",
            ]
        )
    ).map(b"".join)
)
def test_decode_text_never_raises(value: bytes) -> None:
    """Any bytes give one line of text that can be stored and printed."""
    text = decode_text(value)

    text.encode("utf-8")
    assert text.isprintable() or not any(ord(char) < 0x20 for char in text)


@pytest.mark.parametrize(
    ("fields", "kind", "encoding", "ambiguous"),
    [
        ([], "text/plain", "identity", False),
        ([(b"content-type", b" html")], "", "identity", False),
        ([(b"Content-Type", b" TEXT/Html")], "text/html", "identity", False),
        ([(b"Content-Transfer-Encoding", b" Base64")], "text/plain", "base64", False),
        ([(b"Content-Transfer-Encoding", b' "quoted-printable"; x')], "text/plain", 'quoted-printable"; x', False),
        ([(b"Content-Transfer-Encoding", b' "base64"; ')], "text/plain", "base64", False),
        ([(b"Content-Transfer-Encoding", b" ;base64")], "text/plain", ";base64", False),
        ([(b"Content-Transfer-Encoding", b" 8bit (as is)")], "text/plain", "identity", False),
        ([(b"Content-Type", b" text/html"), (b"Content-Type", b" text/plain")], "text/html", "identity", True),
        ([(b"Content-Type", b" text/html"), (b"Content-Type", b" text/html")], "text/html", "identity", False),
        (
            [(b"Content-Transfer-Encoding", b" 7bit"), (b"Content-Transfer-Encoding", b" base64")],
            "text/plain",
            "identity",
            True,
        ),
    ],
    ids=[
        "none",
        "no-slash",
        "case",
        "base64",
        "junk-encoding",
        "junk-behind-the-encoding",
        "junk-before-the-encoding",
        "comment",
        "two-types",
        "same-type-twice",
        "two-encodings",
    ],
)
def test_describe(fields: list[tuple[bytes, bytes]], kind: str, encoding: str, ambiguous: bool) -> None:
    """The Content- fields mean what RFC 2045 says, and two that disagree mean nothing."""
    content = describe(fields)

    assert (content.type, content.encoding, content.ambiguous) == (kind, encoding, ambiguous)


def test_long_fields_are_not_remembered() -> None:
    """What fields say is remembered for the next message that has the same, unless they are long."""
    short, long = [(b"Content-Type", b" text/html")], [(b"Content-Type", b" text/html; name=" + b"x" * 1000)]
    assert describe(short) is describe(list(short))
    assert describe(long) is not describe(list(long))
    assert describe(long) == describe(long)
