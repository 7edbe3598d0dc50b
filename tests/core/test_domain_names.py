"""Domains that mean the same."""

from __future__ import annotations

import pytest

from postwake.domain_names import every_spelling, plain


@pytest.mark.parametrize(
    ("configured", "found"),
    [
        pytest.param("example.com", "example.com", id="itself"),
        pytest.param("Example.COM", "EXAMPLE.com", id="case"),
        pytest.param("example.com.", "example.com", id="final dot there"),
        pytest.param("example.com", "example.com.", id="final dot here"),
        pytest.param("bücher.test", "xn--bcher-kva.test", id="in ASCII"),
        pytest.param("xn--bcher-kva.test", "BÜCHER.test", id="in its own letters"),
        pytest.param("Bücher.test.", "XN--BCHER-KVA.test", id="all of it"),
        pytest.param("xn--a.test", "xn--a.test", id="no IDNA at all"),
    ],
)
def test_found_in_every_spelling(configured: str, found: str) -> None:
    """A domain is found however it is written, here and there; its subdomains and parents are others."""
    assert plain(found) in every_spelling([configured])
    assert plain(f"sub.{found}") not in every_spelling([configured])
