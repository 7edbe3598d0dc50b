"""Which grammar reads a log."""

from __future__ import annotations

from postwake_logparse.ingest import Grammar
from postwake_logparse.postfix import PostfixGrammar


def open_grammar(mta: str) -> Grammar:
    """Return the grammar for *mta*: ``postfix``, ``exim`` or ``auto``."""
    return PostfixGrammar()
