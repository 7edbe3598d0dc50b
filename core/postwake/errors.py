"""Errors that end a command, each with the exit status it ends with (sysexits.h).

A daemon or verb raises one of these; the command line prints its text on standard error and exits with
``exit_status``. Nothing else prints a user's mistake, so no user ever meets a traceback for one.
"""

from __future__ import annotations

import os


class PostwakeError(Exception):
    """What went wrong, in one sentence that names the thing, its value and what was expected."""

    exit_status = os.EX_SOFTWARE


class UsageError(PostwakeError):
    """The command was called with arguments that make no sense together (EX_USAGE, 64)."""

    exit_status = os.EX_USAGE


class DataError(PostwakeError):
    """The user's input data was not what it should be (EX_DATAERR, 65)."""

    exit_status = os.EX_DATAERR


class NoInputError(PostwakeError):
    """An input file does not exist or cannot be read (EX_NOINPUT, 66)."""

    exit_status = os.EX_NOINPUT


class UnavailableError(PostwakeError):
    """Something this needs is not there: a socket is taken, a service does not answer (EX_UNAVAILABLE, 69)."""

    exit_status = os.EX_UNAVAILABLE


class CannotCreateError(PostwakeError):
    """A file that must be written cannot be created (EX_CANTCREAT, 73)."""

    exit_status = os.EX_CANTCREAT


class StoreUnavailableError(PostwakeError):
    """The store cannot be written now: locked, full, read-only or gone (EX_TEMPFAIL, 75). Trying later may help."""

    exit_status = os.EX_TEMPFAIL


class ConfigError(PostwakeError):
    """The configuration is wrong, or the store's schema is not ours (EX_CONFIG, 78). Every problem is listed."""

    exit_status = os.EX_CONFIG

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))
