"""Events as JSON lines: what goes in comes out, and nothing else gets through."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postwake.events import HIT_TYPES, Accepted, Direction, Event, Hit, Requeued, Who, decode, encode
from postwake.tokens import Privacy

text = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
number = st.integers(-(2**63), 2**63 - 1)
identity = st.binary(min_size=16, max_size=16)
by_annotation = {
    "int": number,
    "str": text,
    "bool": st.booleans(),
    "bytes": identity,
    "tuple[str, ...]": st.lists(text, max_size=3).map(tuple),
    "dict[str, str]": st.dictionaries(text, text, max_size=3),
    "dict[str, int]": st.dictionaries(text, number, max_size=3),
    "Direction": st.sampled_from(Direction),
    "EventType": st.sampled_from(HIT_TYPES),
    "Who": st.sampled_from(Who),
    "Privacy": st.sampled_from(Privacy),
}
events = st.one_of(
    *(
        st.builds(kind, **{item.name: by_annotation[str(item.type)] for item in fields(kind)})
        for kind in (Accepted, Requeued, Hit)
    )
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(events)
@settings(max_examples=200, deadline=None)
def test_round_trip(event: Event) -> None:
    """Every event of every kind is one ASCII line that reads back as an equal one."""
    line = encode(event)
    assert line.isascii()
    assert "\n" not in line
    assert decode(line) == event


def test_lone_surrogates_survive(accepted: Callable[..., Accepted]) -> None:
    """A subject that is no Unicode waits in the spool like any other."""
    event = accepted(subject="a\ud800b\x00c\ndé")
    assert decode(encode(event)) == event


@given(st.text(max_size=50) | json_values.map(json.dumps))
@settings(max_examples=300, deadline=None)
def test_garbage(line: str) -> None:
    """A line that is no event is a ValueError, whatever it is."""
    with pytest.raises(ValueError):  # noqa: PT011 - any text
        decode(line)


@given(events, st.data())
@settings(max_examples=300, deadline=None)
def test_wrong_values(event: Event, data: st.DataObject) -> None:
    """An event with one value replaced by any JSON is an event of the right types or a ValueError."""
    fields_ = json.loads(encode(event))
    name = data.draw(st.sampled_from(sorted(fields_)))
    fields_[name] = data.draw(json_values)
    try:
        found = decode(json.dumps(fields_))
    except ValueError:
        return
    assert decode(encode(found)) == found
    assert all(type(getattr(found, item.name)) is type(getattr(event, item.name)) for item in fields(found))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("at_us", 2**63, id="beyond-64-bits"),
        pytest.param("at_us", 1.5, id="fraction"),
        pytest.param("at_us", True, id="bool-for-int"),
        pytest.param("recipients", "ann@example.net", id="string-for-list"),
        pytest.param("recipients", [1], id="number-for-recipient"),
        pytest.param("subject", None, id="null"),
        pytest.param("metadata", {"a": 1}, id="number-in-metadata"),
        pytest.param("tracking_id", "AAAA", id="short-id"),
        pytest.param("tracking_id", "****", id="not-base64"),
        pytest.param("direction", 9, id="unknown-direction"),
        pytest.param("kind", "Accepted", id="other-kind"),
        pytest.param("kind", ["accepted"], id="list-for-kind"),
        pytest.param("colour", "blue", id="unknown-field"),
    ],
)
def test_no_such_event(name: str, value: object, accepted: Callable[..., Accepted]) -> None:
    """A field of the wrong type or range is a ValueError: the store would trip over it later."""
    with pytest.raises(ValueError):  # noqa: PT011 - any text
        decode(json.dumps({**json.loads(encode(accepted())), name: value}))


@pytest.mark.parametrize("line", ["[" * 100_000, '{"a":' * 100_000, "1" * 5000], ids=["lists", "objects", "digits"])
def test_deep_and_long(line: str) -> None:
    """Nesting beyond any reason, and numbers too long to read, are ValueErrors too."""
    with pytest.raises(ValueError):  # noqa: PT011 - any text
        decode(line)


def test_a_hit_is_something_a_reader_did(hit: Callable[..., Hit]) -> None:
    """A hit of a type that is none is refused: it has no place in the counts."""
    line = encode(hit())
    with pytest.raises(ValueError, match="a hit of type sent"):
        decode(line.replace('"type":7', '"type":3'))
