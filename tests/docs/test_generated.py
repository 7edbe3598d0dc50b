"""Pages that are made from the code are up to date, complete, and pages that man can show."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from postwake.config_text import sections


def test_making_them_anew_changes_nothing(make_docs: ModuleType, root: Path) -> None:
    """What stands in docs is what the code says now: run `make docs` after changing a command or a key."""
    made = make_docs.pages()

    assert [name for name, text in made.items() if (root / name).read_text(encoding="utf-8") != text] == []
    assert {f"docs/man/{path.name}" for path in (root / "docs/man").iterdir()} <= set(made)


def test_every_command_and_option_is_documented(make_docs: ModuleType, root: Path) -> None:
    """Each verb has a section of docs/cli.md and stands in its man page, with every option and a sentence on it."""
    page = (root / "docs/cli.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    verbs = list(make_docs.walk())
    assert headings == [" ".join(verb.words) for verb in verbs[1:]]
    for verb in verbs:
        assert verb.paragraphs, f"{verb.words} has no help"
        man = (root / f"docs/man/{'-'.join(verb.words[:2])}.1").read_text(encoding="utf-8").replace("\\-", "-")
        for parameter in verb.command.params:
            for name in parameter.opts if parameter.param_type_name == "option" else ():
                assert name in man, f"{name} of {verb.words}"
        for names, text in verb.options:
            assert f"| `{names.replace('|', chr(92) + '|')}` |" in page
            assert len(text) > 3, f"{names} of {verb.words} has no help"


def test_no_documented_option_is_gone(make_docs: ModuleType, root: Path) -> None:
    """Every option named in a man page is one of the code's."""
    known = {option for verb in make_docs.walk() for parameter in verb.command.params for option in parameter.opts}
    for path in (root / "docs/man").glob("*.1"):
        tags = re.findall(r"^\.TP\n\\fB(.+)\\fR$", path.read_text(encoding="utf-8").replace("\\-", "-"), re.MULTILINE)
        options = {name for tag in tags for name in re.findall(r"(?:^|, | / )(--?[\w-]+)", tag)}
        assert options <= known, path.name


def test_every_key_is_documented(root: Path) -> None:
    """Each configuration key stands on both pages about it, in its section, and no other does."""
    markdown = (root / "docs/configuration.md").read_text(encoding="utf-8")
    man = (root / "docs/man/postwake.toml.5").read_text(encoding="utf-8").replace("\\-", "-")
    expected = {name: [key for key, _, _ in keys] for name, _, keys in sections()}

    def found(text: str, section: str, key: str) -> dict[str, list[str]]:
        parts = re.split(section, text, flags=re.MULTILINE)[1:]
        names = (name.partition(".")[0] for name in parts[::2])
        return {
            name: re.findall(key, body, re.MULTILINE) for name, body in zip(names, parts[1::2], strict=True)
        }  # fmt: skip

    assert found(markdown, r"^## `\[(.+)\]`$", r"^\| `(\w+)` \|") == expected
    assert found(man, r"^\.SS \[(.+)\]$", r"^\\fB(\w+) = ") == expected


@pytest.mark.parametrize("tool", ["mandoc", "man"])
def test_man_pages_are_well_formed(tool: str, root: Path) -> None:
    """mandoc and groff show every page without a complaint, and the options' names are in what they show."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    for path in sorted((root / "docs/man").iterdir()):
        if tool == "mandoc":
            # No date: a page changes when the code does, and that is what its release says.
            done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", path], capture_output=True, text=True)
            complaints = [line for line in done.stdout.splitlines() if "missing date" not in line]
        else:
            environment = os.environ | {"LC_ALL": "C.UTF-8", "MANWIDTH": "80"}
            command = ["man", "--warnings", "--encoding=UTF-8", "--local-file", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            complaints = done.stderr.splitlines()
            assert "NAME" in done.stdout
        assert complaints == [], path.name
