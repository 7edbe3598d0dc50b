"""The command and its verbs; where errors end, each with its documented exit status."""

from __future__ import annotations

import io
import os
import sqlite3
import sys
from importlib import import_module
from pathlib import Path

import click

from postwake import __version__
from postwake.config import DEFAULT_PATH
from postwake.errors import PostwakeError
from postwake.service import journal_reads_errors

_MODULES = {
    "admin": ("config", "key", "db"),
    "filters": ("rewrite", "parse-log", "classify", "token"),
    "look": ("message", "events", "explain"),
    "operate_verbs": ("setup", "check"),
    "report": ("report",),
    "services": ("run", "milter", "logparse", "pixelserver"),
}
_MODULE_OF = {verb: module for module, verbs in _MODULES.items() for verb in verbs}


class _Verbs(click.Group):
    """The verbs, each imported when it is wanted: importing all of them takes longer than a report."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return sorted(_MODULE_OF)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in _MODULE_OF:
            return None
        module = import_module(f"postwake_cli.{_MODULE_OF[name]}")
        command = getattr(module, name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT_PATH,
    show_default=True,
    envvar="POSTWAKE_CONFIG",
    help="The configuration file.",
)
@click.version_option(__version__, prog_name="postwake")
@click.pass_context
def cli(context: click.Context, config_path: Path) -> None:
    """Sent, deferred, bounced, opened, clicked: what became of the mail of your own server.

    Results go to standard output, everything else to standard error. Exit status 0, 1 for a "no" as answer, or one of
    sysexits(3): 64 usage, 65 bad data, 66 no input, 69 unavailable, 73 cannot create, 74 cannot read or write,
    75 try again, 77 no permission, 78 configuration.
    """
    context.obj = config_path


def _run() -> None:
    if "_POSTWAKE_COMPLETE" in os.environ:  # a shell asks what words there are
        cli()
    # Not cli.main(): it makes status 1, which is an answer here, of a reader who has seen enough (`| head`).
    with cli.make_context("postwake", sys.argv[1:]) as context:
        cli.invoke(context)


_LATER = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY)


def main() -> None:
    """Run the command; a user's mistake ends in one line and a status, never in a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that knows no dash or no thin space shows a question mark
    try:
        _run()
    except click.UsageError as error:
        error.show()
        sys.exit(os.EX_USAGE)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.Abort:
        sys.exit(130)
    except click.FileError as error:
        error.show()
        sys.exit(os.EX_NOINPUT)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except PostwakeError as error:
        _fatal(str(error))
        sys.exit(error.exit_status)
    except BrokenPipeError:
        _give_up_output()
        sys.exit(0)
    except PermissionError as error:
        _fatal(f"{error.filename or 'this'}: {error.strerror}: expected to be root, or a user who may")
        sys.exit(os.EX_NOPERM)
    except OSError as error:
        if error.filename is not None:
            raise
        _give_up_output()
        _fatal(f"cannot write the output: {error.strerror}")
        sys.exit(os.EX_IOERR)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _LATER:
            _fatal(f"the store cannot be written now: {error}; what was done so far stays, try again later")
            sys.exit(os.EX_TEMPFAIL)
        _fatal(f"the store cannot be read: {error}")
        sys.exit(os.EX_IOERR)


def _give_up_output() -> None:
    """Have what is left in the buffer go nowhere: at our end it would fail once more, with a traceback."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fatal(text: str) -> None:
    """Say what ended us; to the journal with the priority of an error (sd-daemon(3)), each of its lines."""
    priority = "<3>" if journal_reads_errors() else ""
    click.echo("\n".join(f"{priority}{line}" for line in f"postwake: {text}".splitlines()), err=True)
