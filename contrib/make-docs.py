"""Writes docs/configuration.md from the code that reads the configuration. Run by `make docs`; a test compares."""

from __future__ import annotations

from pathlib import Path

from postwake.config import configuration_page

if __name__ == "__main__":
    Path(__file__).parents[1].joinpath("docs/configuration.md").write_text(configuration_page(), encoding="utf-8")
