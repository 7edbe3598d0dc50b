"""The OpenAPI description is the truth: it names the routes there are, and the real server answers as it says."""

from __future__ import annotations

import http.client
import itertools
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from schemathesis.generation import GenerationMode

from postwake.tokens import KeyRing, Purpose
from postwake_pixelserver.app import Settings, create_app
from postwake_pixelserver.denied import DeniedDestinations
from postwake_pixelserver.live import Live, LiveState
from postwake_pixelserver.measures import Measures
from postwake_pixelserver.who import Rules

PATH = Path(__file__).parents[2] / "docs" / "openapi.yaml"
DESCRIPTION: dict[str, Any] = yaml.safe_load(PATH.read_text(encoding="utf-8"))
METHODS = ("get", "head", "post", "put", "patch", "delete", "options", "trace")
URL = "https://example.com/a?b=c#d"
GOOD: list[str] = []
"""Genuine tokens of the server that is asked, of each purpose."""

schemathesis.openapi.format(
    "postwake-token",
    st.one_of(
        st.deferred(lambda: st.sampled_from(GOOD)),
        st.text("ABCxyz0123456789-_", min_size=1, max_size=200),
        st.text(min_size=1, max_size=40).filter(lambda text: "/" not in text and text not in (".", "..")),
    ),
)
SCHEMA = schemathesis.openapi.from_dict(DESCRIPTION)
OPERATIONS = [result.ok() for result in SCHEMA.get_all_operations()]


def test_description_names_the_routes_there_are() -> None:
    """Paths and methods of the description are those of the application, both ways."""
    live = LiveState(lambda: Live(KeyRing({1: bytes(32)}), DeniedDestinations(), Rules((), ())))
    app = create_app(Settings(), live, Measures(CollectorRegistry()))
    routes = {
        (rule.rule.replace("<", "{").replace(">", "}"), method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    }
    described = {(path, method) for path, item in DESCRIPTION["paths"].items() for method in item if method in METHODS}
    assert described == routes


@pytest.fixture(scope="module")
def described(make_server):
    """A server of its own, whose tokens the strategies take."""
    server = make_server()
    GOOD[:] = [server.token(purpose, URL) for purpose in Purpose]
    return server


ASKED = [
    (operation, mode)
    for operation in OPERATIONS
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE
    or "{token}" in operation.path  # without parameters there is nothing to get wrong
]


@pytest.mark.parametrize(("operation", "mode"), ASKED, ids=lambda item: getattr(item, "label", item))
def test_server_answers_as_described(described, operation, mode) -> None:
    """Whatever is asked, in the description's form or against it: a described status, its headers and its body."""
    statuses = set()

    def ask(case: Any) -> None:
        response = case.call(base_url=f"http://127.0.0.1:{described.port}", allow_redirects=False)
        case.validate_response(response, excluded_checks=EXCLUDED)
        assert "Set-Cookie" not in response.headers
        statuses.add(response.status_code)

    settings(
        max_examples=15,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )(given(case=operation.as_strategy(generation_mode=mode))(ask))()
    if mode is GenerationMode.POSITIVE:
        for token in (*GOOD, "x"):
            ask(operation.Case(path_parameters={"token": token} if "{token}" in operation.path else {}))
        assert len(statuses) > 1 or set(operation.definition.raw["responses"]) == {"200"}


EXCLUDED = [
    # A token's signature is no matter of form: well-formed ones are mostly refused, and the pixel refuses nothing.
    schemathesis.checks.negative_data_rejection,
    schemathesis.checks.positive_data_acceptance,
]


@pytest.mark.parametrize("path", DESCRIPTION["paths"], ids=str)
def test_other_methods_are_refused_by_name(described, path: str) -> None:
    """405 with the methods there are, for every other method that HTTP has."""
    there = {method.upper() for method in DESCRIPTION["paths"][path] if method in METHODS}
    connection = http.client.HTTPConnection("127.0.0.1", described.port, timeout=20)
    for method, token in itertools.product({name.upper() for name in METHODS} - there, ("x", *GOOD)):
        connection.request(method, path.replace("{token}", token))
        response = connection.getresponse()
        response.read()
        assert (response.status, set(response.getheader("Allow", "").split(", "))) == (405, there)
    connection.close()
