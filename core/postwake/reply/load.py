"""Classifier and advice with the user's own rules, as a configuration names them: problems are configuration errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from postwake.errors import ConfigError
from postwake.reply.classify import Classifier, default_classifier
from postwake.reply.rules import RuleError, load_advice

_Loaded = TypeVar("_Loaded")


def load_classifier(user_rules: Path | None) -> Classifier:
    """Return the classifier, the rules in *user_rules* tried first; :class:`ConfigError` lists what is wrong."""
    return _loaded(default_classifier, user_rules)


def advice_by_rule(user_rules: Path | None) -> dict[str, str]:
    """Return a sentence on what to do, by rule; :class:`ConfigError` if *user_rules* cannot be read."""
    return _loaded(load_advice, user_rules)


def _loaded(load: Callable[[Path | None], _Loaded], user_rules: Path | None) -> _Loaded:
    try:
        return load(user_rules)
    except RuleError as error:
        raise ConfigError(*error.problems) from None
    except OSError as error:
        raise ConfigError(f"{user_rules}: cannot read the reply rules: {error.strerror}") from None
