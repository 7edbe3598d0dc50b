"""Configuration and signing keys together: what a service that rewrites or redirects starts with.

Everything that is wrong with either is reported at once, so that nobody mends one file to be told of the other.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from postwake.config import Config, Tracking, load, require_tracking
from postwake.errors import ConfigError
from postwake.keyfile import read_keys
from postwake.tokens import KeyRing


def load_settings(path: Path) -> tuple[Config, KeyRing]:
    """Read the configuration at *path* and the keys that it names; :class:`ConfigError` lists every problem of both."""
    problems: list[str] = []
    config = keys = None
    try:
        config = load(path)
        require_tracking(config, str(path))
    except ConfigError as error:
        problems += error.problems
    keys_path = config.tracking.keys if config is not None else _named_keys(path)
    if keys_path is not None:
        try:
            keys = read_keys(keys_path)
        except ConfigError as error:
            problems += error.problems
    if problems or config is None or keys is None:
        raise ConfigError(*problems)
    return config, keys


def _named_keys(path: Path) -> Path | None:
    """Return the key file that a configuration which is wrong elsewhere names, or None if it cannot be told."""
    try:
        data: Any = tomllib.loads(path.read_text(encoding="utf-8"))
        named = data.get("tracking", {}).get("keys", str(Tracking().keys))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, AttributeError):
        return None
    return Path(named) if isinstance(named, str) else None
