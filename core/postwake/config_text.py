"""The configuration as people read it: the commented example, and its page in docs/. Both are made from the classes."""

from __future__ import annotations

import json
from typing import Any

from pydantic.fields import FieldInfo

from postwake.config import Config, DomainOverride


def toml_value(value: object) -> str:
    """Return *value* as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    return json.dumps(value if isinstance(value, list) else str(value), ensure_ascii=False)


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True)


def sections() -> list[tuple[str, str, list[tuple[str, Any, str]]]]:
    """Return each section's name, description and keys (name, default, description), in order."""
    found = []
    for name, field in Config.model_fields.items():
        model: Any = DomainOverride if name == "domains" else field.annotation
        keys = [(key, _default(item), item.description or "") for key, item in model.model_fields.items()]
        found.append((name, str(model.__doc__), keys))
    return found


def example() -> str:
    """Return a commented file with every key at its default, commented out where the default holds anyway."""
    lines = ["# Postwake: every key with its default. Uncomment what you change. man postwake.toml", ""]
    for name, description, keys in sections():
        lines.append(f"# {description}")
        if name == "domains":
            lines += ['# [domains."news.example.com"]', '# url = "https://track.news.example.com"', ""]
            continue
        lines.append(f"[{name}]")
        for key, default, text in keys:
            lines.append(f"# {text}")
            lines.append(f"# {key} = {toml_value(default)}" if default is not None else f'# {key} = "…"  (unset)')
        lines.append("")
    return "\n".join(lines)


def configuration_page() -> str:
    """Return docs/configuration.md: every key with its default and what it is for."""
    lines = [
        "# Configuration",
        "",
        "One TOML file, `/etc/postwake/postwake.toml` or `--config`. `postwake config example` prints it with every default;",
        "`postwake config check` says everything that is wrong with yours. This page is made from the code (`make docs`).",
        "",
    ]
    for name, description, keys in sections():
        title = '[domains."example.com"]' if name == "domains" else f"[{name}]"
        lines += [f"## `{title}`", "", description, "", "| key | default | |", "| --- | --- | --- |"]
        lines += [
            f"| `{key}` | {'' if default is None else f'`{toml_value(default)}`'} | {text.replace('|', chr(92) + '|')} |"
            for key, default, text in keys
        ]
        lines.append("")
    return "\n".join(lines)
