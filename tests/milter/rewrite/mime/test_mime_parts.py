"""The splitter finds the parts that mail programs find, gives their byte spans, and takes linear time."""

from __future__ import annotations

import email
import email.policy
import re
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from postwake_milter.rewrite.content import describe
from postwake_milter.rewrite.mime_parts import MAX_DEPTH, MAX_PARTS, Part, StructureError, split


def _split(body: bytes, boundary: str = "b", kind: str = "multipart/mixed") -> list[Part]:
    return split(body, describe([(b"Content-Type", f'{kind}; boundary="{boundary}"'.encode())]))


SHAPES = [
    pytest.param(b"--b\n\none\n--b\n\ntwo\n--b--\n", [b"one", b"two"], id="lf"),
    pytest.param(b"--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n", [b"one", b"two"], id="crlf"),
    pytest.param(b"pre\n--b\n\none\n--b--\nepi\n--b\n\nnot a part\n", [b"one"], id="preamble-and-epilogue"),
    pytest.param(b"--b  \t\n\none\n--b-- \t\nepi", [b"one"], id="white-space-after-boundary"),
    pytest.param(b"--b\n\none\n--b\n\ntwo", [b"one", b"two"], id="never-closed"),
    pytest.param(b"--b\n\none\n--bc\n --b\ntwo\n--b--", [b"one\n--bc\n --b\ntwo"], id="longer-and-indented-are-text"),
    pytest.param(b"--b\n\n--b--\n", [b""], id="empty-part"),
    pytest.param(b"--b\n--b\nX: y\n--b--\n", [b"", b""], id="no-body"),
    pytest.param(b"--b\n\n\n\n--b--\n", [b"\n"], id="blank-lines-are-content"),
    pytest.param(b"nothing here", [], id="no-delimiter"),
    pytest.param(b"--b--\n", [], id="closed-at-once"),
    pytest.param(b"", [], id="empty"),
]


@pytest.mark.parametrize(("body", "contents"), SHAPES)
def test_flat(body: bytes, contents: list[bytes]) -> None:
    """Each part is the bytes between its empty line and the line break of the next delimiter."""
    assert [body[part.body_start : part.body_end] for part in _split(body)] == contents


NESTED = (
    b"--out\nContent-Type: multipart/alternative; boundary=outer-in\n\npreamble\n"
    b"--outer-in\nContent-Type: text/plain\n\nplain\n"
    b"--outer-in\nContent-Type: text/html\n\nhtml\n%s"
    b"--out\nContent-Type: image/gif\n\nGIF\n--out--\n"
)


@pytest.mark.parametrize("closing", [b"--outer-in--\nepilogue\n", b""], ids=["closed", "left-open"])
def test_nested_boundary_that_starts_like_the_outer_one(closing: bytes) -> None:
    """Delimiters are matched whole, and an outer one closes whatever is open inside."""
    body = NESTED % closing
    parts = split(body, describe([(b"Content-Type", b"multipart/mixed; boundary=out")]))

    assert [(part.content.type, part.parents, part.position) for part in parts] == [
        ("text/plain", ("multipart/mixed", "multipart/alternative"), 0),
        ("text/html", ("multipart/mixed", "multipart/alternative"), 1),
        ("image/gif", ("multipart/mixed",), 1),
    ]
    assert [body[part.body_start : part.body_end] for part in parts] == [b"plain", b"html", b"GIF"]


def test_attached_message_is_a_leaf() -> None:
    """A message inside a message is not looked into, nor is a digest's part without a type."""
    inner = b"Content-Type: multipart/mixed; boundary=i\n\n--i\n\nx\n--i--\n"
    parts = _split(b"--b\nContent-Type: message/rfc822\n\n" + inner + b"--b--\n")

    assert [part.content.type for part in parts] == ["message/rfc822"]
    assert [part.content.type for part in _split(b"--b\n\nx\n--b--\n", kind="multipart/digest")] == ["message/rfc822"]


def test_multipart_without_boundary_is_a_leaf() -> None:
    """Without a boundary there is nothing to split at."""
    parts = _split(b"--b\nContent-Type: multipart/mixed\n\nx\n--b--\n")

    assert [part.content.type for part in parts] == ["multipart/mixed"]


@pytest.mark.parametrize(
    "body",
    [
        b"--b\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b--\n",
        b"--b\nContent-Type: multipart/mixed; boundary=b--\n\n--b--\n\nx\n--b----\n",
        b"--b\n\none\r--b\n\ntwo\n--b--\n",
        b"--b\n\none\n--b \rtwo\n--b--\n",
        b"--b\nContent-Type: multipart/mixed; boundary=i; boundary=j\n\n--i\n\nx\n",
        b"--b\nSubject: a\rb\nContent-Type: multipart/mixed; boundary=i\n\n--i\n\nx\n",
        b"--b\nContent-Type : multipart/mixed; boundary=i\n\n--i\n\nx\n",
    ],
    ids=[
        "same-boundary-inside",
        "looks-like-a-closing-one",
        "delimiter-after-bare-cr",
        "delimiter-before-bare-cr",
        "two-boundaries",
        "multipart-behind-a-bare-cr",
        "multipart-behind-a-spaced-name",
    ],
)
def test_what_two_readers_read_differently_is_refused(body: bytes) -> None:
    """Where mail programs would see different messages, there is no reading."""
    with pytest.raises(StructureError, match="ambiguous-structure"):
        _split(body)


def test_broken_header_block_is_marked() -> None:
    """A part whose header block holds something else is found, but marked."""
    (part,) = _split(b"--b\nContent-Type: text/html\noops\n\nx\n--b--\n")

    assert part.malformed
    assert not _split(b"--b\nContent-Type: text/html\n--b--\n")[0].malformed
    assert _split(b"--b\nA: 1\rB: 2\n\nx\n--b--\n")[0].malformed


def test_limits() -> None:
    """Nesting and number of parts are bounded, each with its reason."""
    deep = b"".join(
        b"--b%d\nContent-Type: multipart/mixed; boundary=b%d\n\n" % (n, n + 1) for n in range(MAX_DEPTH + 1)
    )
    with pytest.raises(StructureError, match="mime-too-deep"):
        _split(deep, "b0")
    with pytest.raises(StructureError, match="mime-too-many-parts"):
        _split(b"--b\n\nx\n" * (MAX_PARTS + 1))


LINES = st.sampled_from(
    [
        b"--b\n",
        b"--b--\n",
        b"--c\n",
        b"--c--\n",
        b"--d\n",
        b"\n",
        b"text\n",
        b"--b \n",
        b"--bb\n",
        b"X: y\n",
        b" folded\n",
        b"Content-Type: multipart/mixed; boundary=c\n",
        b"Content-Type: multipart/mixed; boundary=d\n",
        b"Content-Type: text/html\n",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(LINES, max_size=40).map(b"".join))
def test_same_leaves_as_the_standard_library(body: bytes) -> None:
    """Where both find parts and none is marked, the leaves are those of the standard library, byte for byte."""
    try:
        parts = _split(body)
    except StructureError:
        return
    raw = b"Content-Type: multipart/mixed; boundary=b\n\n" + body
    message = email.message_from_bytes(raw, policy=email.policy.compat32)
    leaves = [leaf for leaf in message.walk() if not leaf.is_multipart()]
    marked = any(part.malformed or part.content.is_multipart for part in parts)
    broken = marked or any(leaf.defects for leaf in message.walk())

    at = 0
    for part in parts:
        assert at <= part.header_start <= part.header_end <= part.body_start <= part.body_end <= len(body)
        at = part.body_end
    if not broken and message.is_multipart():
        # Two delimiters in a row are one for the library, and have an empty part between them for us.
        assume(not re.search(rb"(?m)^--b ?\n--b--$", body))  # the second of which it takes for no end then
        ours = [body[part.body_start : part.body_end] for part in parts]
        theirs = [leaf.get_payload().encode() for leaf in leaves]
        assert [text for text in ours if text] == [text for text in theirs if text]


GROWING = {
    "delimiters": lambda n: b"--b\n" * min(n, MAX_PARTS - 1) + b"--c\n" * n,
    "hyphens": lambda n: b"--\n" * n,
    "one-line": lambda n: b"--b\n\n" + b"-" * n * 4,
    "headers": lambda n: b"--b\n" + b"--x: y\n" * n,
    "folds": lambda n: b"--b\nA: b\n" + b" c\n" * n,
    "no-blank-line": lambda n: (b"--b\n" + b"A: b\n" * 9) * min(n // 10, MAX_PARTS - 1) + b"A: b\n" * n,
    "carriage-returns": lambda n: b"--b\n\n" + b"\r" * n * 4,
    "spaces": lambda n: b"--b" + b" " * n * 4 + b"x\n" + b"--b" + b" " * n * 4,
}


@pytest.mark.parametrize("shape", GROWING)
def test_time_is_linear(shape: str) -> None:
    """Eight times the input takes at most some twenty times as long, whatever its shape."""

    def seconds(size: int) -> float:
        data = GROWING[shape](size)
        best = float("inf")
        for _ in range(3):
            begun = time.process_time()
            _split(data)
            best = min(best, time.process_time() - begun)
        return best

    assert seconds(160_000) < 20 * seconds(20_000) + 0.05
