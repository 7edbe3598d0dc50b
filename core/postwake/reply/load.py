"""The classifier with the user's own rules, as a configuration names them: problems are configuration errors."""

from __future__ import annotations

from pathlib import Path

from postwake.errors import ConfigError
from postwake.reply.classify import Classifier, default_classifier
from postwake.reply.rules import RuleError


def load_classifier(user_rules: Path | None) -> Classifier:
    """Return the classifier, the rules in *user_rules* tried first; :class:`ConfigError` lists what is wrong."""
    try:
        return default_classifier(user_rules)
    except RuleError as error:
        raise ConfigError(*error.problems) from None
    except OSError as error:
        raise ConfigError(f"{user_rules}: cannot read the reply rules: {error.strerror}") from None
