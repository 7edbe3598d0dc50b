"""Writes the pages that are made from the code: docs/configuration.md, docs/cli.md and the man pages in docs/man.

Run by `make docs`; tests compare. Everything comes from the click commands and the configuration classes: there is
no second list of options or keys to forget.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import click

from postwake import __version__
from postwake.config import DEFAULT_PATH
from postwake.config_text import configuration_page, sections, toml_value
from postwake_cli.main import cli

ROOT = Path(__file__).parents[1]

FILES = (
    (str(DEFAULT_PATH), "The configuration, postwake.toml(5)."),
    ("/etc/postwake/keys", "The signing keys."),
    ("/var/lib/postwake/postwake.db", "The store, an SQLite file."),
    ("/var/lib/postwake/spool", "Where events wait while the store cannot be written."),
)
EXIT_STATUS = (
    ("0", "Yes, or done."),
    ("1", "A no as answer: nothing found, or not valid."),
    ("64", "Usage: an unknown option or a wrong argument."),
    ("65", "Bad data."),
    ("66", "An input file is not there or cannot be read."),
    ("69", "Something needed is not available, such as a free address."),
    ("73", "An output file or socket cannot be made."),
    ("74", "The store cannot be read."),
    ("75", "Try again: the store is not there, or not ready."),
    ("78", "The configuration or the store's schema is not usable; the message says which key."),
)


class Verb(NamedTuple):
    """One command with its context; groups have verbs of their own."""

    words: tuple[str, ...]
    command: click.Command
    context: click.Context

    @property
    def usage(self) -> str:
        """The line after ``Usage:``, without the program's own options."""
        return " ".join((*self.words, *self.command.collect_usage_pieces(self.context)))

    @property
    def options(self) -> list[tuple[str, str]]:
        """The options with their metavariables, and what they are for."""
        options = (parameter for parameter in self.command.params if isinstance(parameter, click.Option))
        records = [option.get_help_record(self.context) for option in options]
        return [(names, " ".join(text.split())) for names, text in (record for record in records if record)]

    @property
    def paragraphs(self) -> list[str]:
        """The help text's paragraphs, each on one line."""
        text = self.command.help or ""
        return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]

    @property
    def title(self) -> str:
        """The first sentence, without its full stop."""
        first = re.split(r"(?<=[.:!?])\s", self.paragraphs[0] if self.paragraphs else "")[0]
        return first.rstrip(".:")


def walk(
    command: click.Command = cli, words: tuple[str, ...] = ("postwake",), parent: click.Context | None = None
) -> Iterator[Verb]:
    """Yield every command, the program itself first, each group before its verbs, by name."""
    context = click.Context(command, info_name=words[-1], parent=parent)
    yield Verb(words, command, context)
    if isinstance(command, click.Group):
        for name in sorted(command.list_commands(context)):
            verb = command.get_command(context, name)
            if verb is not None and not verb.hidden:
                yield from walk(verb, (*words, name), context)


# Markdown


def cli_page() -> str:
    """Return docs/cli.md."""
    verbs = list(walk())
    program = verbs[0]
    lines = [
        "# The command",
        "",
        "This page is made from the code (`make docs`), as are the man pages in [man/](man/).",
        "",
        *_markdown_body(program),
        "| exit status | |",
        "| --- | --- |",
        *(f"| {status} | {text} |" for status, text in EXIT_STATUS),
        "",
        "| verb | |",
        "| --- | --- |",
        *(f"| [`{' '.join(verb.words)}`](#{'-'.join(verb.words)}) | {_cell(verb.title)} |" for verb in verbs[1:]),
        "",
    ]
    for verb in verbs[1:]:
        lines += [f"## {' '.join(verb.words)}", "", *_markdown_body(verb)]
    return "\n".join(lines)


def _markdown_body(verb: Verb) -> Iterator[str]:
    yield from (f"    {verb.usage}", "")
    for paragraph in verb.paragraphs:
        yield from (paragraph.replace("*", "\\*").replace("<", "\\<"), "")
    if verb.options:
        yield from ("| option | |", "| --- | --- |")
        yield from (f"| `{_cell(names)}` | {_cell(text)} |" for names, text in verb.options)
        yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


# Man pages, in man(7) macros


def roff(text: str) -> str:
    """Return *text* with nothing in it that roff would take for its own; `words` in backticks become bold."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", text)
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def _heading(title: str, section: int) -> list[str]:
    manual = "Postwake manual" if section == 1 else "Postwake configuration"
    return [
        '.\\" Made by contrib/make-docs.py from the code: do not edit.',
        f'.TH "{title}" "{section}" "" "Postwake {__version__}" "{manual}"',
        ".ad l",  # usage lines are long words: adjusted, they tear
    ]


def _tagged(items: Iterable[tuple[str, str]]) -> Iterator[str]:
    for tag, text in items:
        yield from (".TP", f"\\fB{roff(tag)}\\fR", roff(text) or "\\&")


def _paragraphs(texts: Iterable[str]) -> Iterator[str]:
    for number, text in enumerate(texts):
        if number:
            yield ".PP"
        yield roff(text)


def _synopsis(verb: Verb) -> str:
    head = " ".join(verb.words)
    return f"\\fB{roff(head)}\\fR {roff(verb.usage.removeprefix(head).strip())}".rstrip()


def command_page(verb: Verb) -> str:
    """Return the man page of a command; of a group with all its verbs; of the program with the list of commands."""
    is_program = len(verb.words) == 1
    name = "-".join(verb.words)
    lines = [
        *_heading(name.upper(), 1),
        ".SH NAME",
        f"{roff(name)} \\- {roff(verb.title[:1].lower() + verb.title[1:])}",
    ]
    below = [] if is_program else [found for found in walk() if found.words[: len(verb.words)] == verb.words][1:]
    lines += [".SH SYNOPSIS", _synopsis(verb)]
    for other in below:
        lines += [".br", _synopsis(other)]
    lines += [".SH DESCRIPTION", *_paragraphs(verb.paragraphs)]
    if verb.options:
        lines += [".SH OPTIONS", *_tagged(verb.options)]
    for other in below:
        if not isinstance(other.command, click.Group):
            lines += [f".SS {roff(' '.join(other.words))}", *_paragraphs(other.paragraphs), *_tagged(other.options)]
    pages = [found for found in walk() if len(found.words) == 2]
    if is_program:
        lines += [".SH COMMANDS", *_tagged((f"postwake-{page.words[1]}(1)", page.title + ".") for page in pages)]
        lines += [".SH EXIT STATUS", *_tagged(EXIT_STATUS), ".SH FILES", *_tagged(FILES)]
        lines += [".SH ENVIRONMENT", *_tagged([("POSTWAKE_CONFIG", "The configuration file, as --config.")])]
        others = [
            ("postwake.toml", 5),
            ("postconf", 5),
            ("sqlite3", 1),
            *((f"postwake-{p.words[1]}", 1) for p in pages),
        ]
    else:
        others = [("postwake", 1), ("postwake.toml", 5)]
    return "\n".join([*lines, *_see_also(others)]) + "\n"


def _see_also(pages: list[tuple[str, int]]) -> Iterator[str]:
    yield ".SH SEE ALSO"
    for number, (name, section) in enumerate(sorted(pages, key=lambda page: (page[1], page[0]))):
        yield f".BR {roff(name)} ({section}){',' if number < len(pages) - 1 else ''}"


def toml_page() -> str:
    """Return the man page of the configuration file."""
    lines = [
        *_heading("POSTWAKE.TOML", 5),
        ".SH NAME",
        "postwake.toml \\- configuration of Postwake",
        ".SH SYNOPSIS",
        f"\\fI{DEFAULT_PATH}\\fR",
        ".SH DESCRIPTION",
        *_paragraphs(
            [
                "One TOML file. `postwake config example` prints it with every key at its default;"
                " `postwake config check` says everything that is wrong with yours. An unknown key is an error.",
                "Keys and their defaults, by section; (unset) stands for no value.",
            ]
        ),
    ]
    for name, description, keys in sections():
        title = '[domains."example.com"]' if name == "domains" else f"[{name}]"
        lines += [f".SS {roff(title)}", *_paragraphs(description.split("\n\n"))]
        lines += _tagged(
            (f"{key} = {toml_value(default) if default is not None else '(unset)'}", text)
            for key, default, text in keys
        )
    lines += [".SH FILES", *_tagged(FILES), *_see_also([("postwake", 1), ("postwake-config", 1)])]
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """Return every page by its path below the project's folder."""
    found = {"docs/configuration.md": configuration_page(), "docs/cli.md": cli_page()}
    for verb in walk():
        if len(verb.words) <= 2:
            found[f"docs/man/{'-'.join(verb.words)}.1"] = command_page(verb)
    found["docs/man/postwake.toml.5"] = toml_page()
    return found


def main(root: Path = ROOT) -> int:
    """Write the pages, remove man pages of what is gone; return 0."""
    made = pages()
    (root / "docs/man").mkdir(parents=True, exist_ok=True)
    for path in (root / "docs/man").iterdir():
        if f"docs/man/{path.name}" not in made:
            path.unlink()
    for name, text in made.items():
        (root / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
