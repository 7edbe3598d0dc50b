"""What a receiving server said, and what it means: parsing and classifying replies, without I/O.

`parse_reply` takes a reply apart with a grammar (host, address, stage, code, enhanced code, message). A `Classifier`
gives a `Verdict`: kind, fault, category, provider, the rule that decided and a sentence to act on, by an ordered rule
file (`rules.toml`, after the user's own). `default_classifier` builds one; `classify_lines` is what `postwake classify`
prints. docs/classification.md describes the vocabulary and the rule file.
"""

from __future__ import annotations

from postwake.reply.classify import Classifier, Verdict, check_rules, classify_lines, default_classifier
from postwake.reply.grammar import Reply, parse_reply
from postwake.reply.rules import CATEGORIES, FAULTS, KINDS, Provider, Rule, RuleError, RuleSet

__all__ = [
    "CATEGORIES",
    "FAULTS",
    "KINDS",
    "Classifier",
    "Provider",
    "Reply",
    "Rule",
    "RuleError",
    "RuleSet",
    "Verdict",
    "check_rules",
    "classify_lines",
    "default_classifier",
    "parse_reply",
]
