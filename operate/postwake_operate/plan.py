"""The steps of a setup. Each says what it would do, does it, and knows how to take it back.

A step whose :meth:`Step.needed` is false changes nothing: running setup twice does nothing the second time.
"""

from __future__ import annotations

import contextlib
import difflib
import grp
import hashlib
import os
import pwd
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from postwake.errors import CannotCreateError, UnavailableError
from postwake.keyfile import add_key
from postwake.store.connection import migrate_file
from postwake_operate import main_cf
from postwake_operate.journal import Journal, write_file

UNITS = (
    "postwake-migrate.service",
    "postwake-milter.service",
    "postwake-logparse.service",
    "postwake-pixelserver.service",
    "postwake-maintenance.timer",
)


class Step(Protocol):
    """One thing to be done."""

    def needed(self) -> bool:
        """Return whether there is anything to do."""

    def describe(self) -> str:
        """Return what would change, for people: a sentence or a diff."""

    def apply(self, journal: Journal) -> None:
        """Do it, after writing down what undoes it."""


@dataclass(frozen=True, slots=True)
class NewFile:
    """A configuration file in TOML that is not there yet. Its comments and empty sections are not shown."""

    path: Path
    data: bytes
    mode: int

    def needed(self) -> bool:
        """See :class:`Step`."""
        return not self.path.exists()

    def describe(self) -> str:
        """See :class:`Step`."""
        lines = [line for line in self.data.decode().splitlines() if line and not line.startswith("#")]
        said = [line for line, after in zip(lines, [*lines[1:], "["], strict=True) if line[0] + after[0] != "[["]
        return "\n".join([f"new file {self.path} (mode {self.mode:04o}), in it:", *(f"+{line}" for line in said)])

    def apply(self, journal: Journal) -> None:
        """See :class:`Step`."""
        with _written(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            journal.add("file", path=str(self.path), sha256=hashlib.sha256(self.data).hexdigest())
            write_file(self.path, self.data, mode=self.mode)


@dataclass(frozen=True, slots=True)
class NewKeys:
    """Signing keys, if there are none. Undo leaves them: links in mail that is out there need them."""

    path: Path
    created: str
    group: str

    def needed(self) -> bool:
        """See :class:`Step`."""
        return not self.path.exists()

    def describe(self) -> str:
        """See :class:`Step`."""
        group = f", group {self.group}" if _gid(self.group) is not None else ""
        return f"new signing key in {self.path} (mode 0640{group})"

    def apply(self, journal: Journal) -> None:
        """See :class:`Step`."""
        del journal
        with _written(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            add_key(self.path, self.created)
            if (gid := _gid(self.group)) is not None:
                os.chown(self.path, -1, gid)


@dataclass(frozen=True, slots=True)
class NewStore:
    """The store, if there is none. Undo leaves it."""

    path: Path
    spool: Path
    group: str

    def needed(self) -> bool:
        """See :class:`Step`."""
        return not self.path.exists()

    def describe(self) -> str:
        """See :class:`Step`."""
        return f"new store {self.path}"

    def apply(self, journal: Journal) -> None:
        """See :class:`Step`."""
        del journal
        with _written(self.path):
            for directory in (self.path.parent, self.spool):
                if not directory.exists():
                    directory.mkdir(parents=True)
                    if (gid := _gid(self.group)) is not None:
                        os.chown(directory, -1, gid)
                        directory.chmod(0o2770)
            migrate_file(self.path)


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory with this owner, group and mode."""

    path: Path
    user: str
    group: str
    mode: int

    def needed(self) -> bool:
        """See :class:`Step`."""
        try:
            info = self.path.stat()
        except FileNotFoundError:
            return True
        return (info.st_uid, info.st_gid, info.st_mode & 0o7777) != self._wanted(info.st_uid, info.st_gid)

    def describe(self) -> str:
        """See :class:`Step`."""
        what = "mode and owner of" if self.path.exists() else "new directory"
        user = self.user if _uid(self.user) is not None else "root"
        return f"{what} {self.path} ({user}:{self.group}, mode {self.mode:04o})"

    def apply(self, journal: Journal) -> None:
        """See :class:`Step`."""
        with _written(self.path):
            info = self.path.stat() if self.path.exists() else None
            before = None if info is None else [info.st_uid, info.st_gid, info.st_mode & 0o7777]
            journal.add("directory", path=str(self.path), before=before)
            self.path.mkdir(parents=True, exist_ok=True)
            uid, gid, mode = self._wanted(0, 0)
            os.chown(self.path, uid, gid)
            self.path.chmod(mode)  # last: changing the owner clears the set-group-ID bit

    def _wanted(self, uid: int, gid: int) -> tuple[int, int, int]:
        user, group = _uid(self.user), _gid(self.group)
        return (uid if user is None else user), (gid if group is None else group), self.mode


@dataclass(frozen=True, slots=True)
class Membership:
    """A user in a group; nothing where either does not exist."""

    user: str
    group: str

    def needed(self) -> bool:
        """See :class:`Step`."""
        gid = _gid(self.group)
        if _uid(self.user) is None or gid is None:
            return False
        return gid not in os.getgrouplist(self.user, pwd.getpwnam(self.user).pw_gid)

    def describe(self) -> str:
        """See :class:`Step`."""
        return f"user {self.user} joins group {self.group}"

    def apply(self, journal: Journal) -> None:
        """See :class:`Step`."""
        journal.add("membership", user=self.user, group=self.group)
        _call("usermod", "-aG", self.group, self.user)


@dataclass(frozen=True, slots=True)
class MainCf:
    """Our entry in the lists of milters."""

    path: Path
    entries: tuple[tuple[str, str], ...]
    """Parameter and what is put into it."""
    addresses: frozenset[str]

    def needed(self) -> bool:
        """See :class:`Step`."""
        return bool(self.entries)

    def describe(self) -> str:
        """See :class:`Step`."""
        old = self.path.read_text(encoding="latin-1")
        new, _ = self._edited(old)
        lines = difflib.unified_diff(
            old.splitlines(keepends=True), new.splitlines(keepends=True), str(self.path), f"{self.path} (with Postwake)"
        )
        return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)

    def apply(self, journal: Journal) -> None:
        """See :class:`Step`."""
        with _written(self.path):
            new, edits = self._edited(self.path.read_bytes().decode("latin-1"))
            journal.add(
                "main.cf",
                path=str(self.path),
                edits=[list(edit) for edit in edits],
                addresses=sorted(self.addresses),
            )
            write_file(self.path, new.encode("latin-1"))

    def _edited(self, text: str) -> tuple[str, list[main_cf.Edit]]:
        edits = []
        for parameter, ours in self.entries:
            text, edit = main_cf.add_milter(text, parameter, ours)
            edits.append(edit)
        return text, edits


@dataclass(frozen=True, slots=True)
class Units:
    """Our units, enabled and started; only where systemd runs and knows them."""

    systemctl: Callable[..., subprocess.CompletedProcess[str]]
    names: tuple[str, ...] = UNITS

    def _disabled(self) -> list[str]:
        return [unit for unit in self.names if self.systemctl("is-enabled", unit).stdout.strip() == "disabled"]

    def _missing(self) -> list[str]:
        disabled = self._disabled()
        return [
            unit for unit in self.names if unit in disabled or self.systemctl("is-active", "--quiet", unit).returncode
        ]

    def needed(self) -> bool:
        """See :class:`Step`."""
        return bool(self._missing())

    def describe(self) -> str:
        """See :class:`Step`."""
        return f"enable and start {', '.join(self._missing())}"

    def apply(self, journal: Journal) -> None:
        """See :class:`Step`."""
        units, disabled = self._missing(), self._disabled()
        if disabled:
            journal.add("units", units=disabled)
        done = self.systemctl("enable", "--now", *units)
        if done.returncode:
            why = [line for line in done.stderr.splitlines() if not line.startswith("Created symlink")]
            raise UnavailableError(f"systemctl enable --now {' '.join(units)}: {' '.join(why)}")


def systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemctl(1)."""
    return subprocess.run(
        ["systemctl", *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def systemd_runs() -> bool:
    """Return whether this machine's service manager is systemd (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def undo(
    journal: Journal, run_systemctl: Callable[..., subprocess.CompletedProcess[str]] = systemctl
) -> Iterator[tuple[str, str]]:
    """Take back everything in *journal*, newest first; yield the kind of each change and a sentence about it."""
    while journal.entries:
        entry = journal.entries[-1]
        sentence = _UNDO[entry["kind"]](entry, run_systemctl)
        journal.drop_last()
        yield entry["kind"], sentence


def _undo_file(entry: dict[str, Any], _: object) -> str:
    path = Path(entry["path"])
    if not path.exists():
        return f"{path}: gone already"
    if hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
        return f"{path}: left: it was edited since"
    path.unlink()
    return f"{path}: removed"


def _undo_directory(entry: dict[str, Any], _: object) -> str:
    path = Path(entry["path"])
    if not path.exists():
        return f"{path}: gone already"
    if entry["before"] is None:
        for leftover in path.glob("*.sock"):
            leftover.unlink()
        try:
            path.rmdir()
        except OSError as error:
            return f"{path}: left: {error.strerror}"
        return f"{path}: removed"
    uid, gid, mode = entry["before"]
    os.chown(path, uid, gid)
    path.chmod(mode)
    return f"{path}: owner and mode as before"


def _undo_membership(entry: dict[str, Any], _: object) -> str:
    user, group = entry["user"], entry["group"]
    if _uid(user) is None or _gid(group) is None:
        return f"{user}: gone already"
    _call("gpasswd", "-d", user, group)
    return f"{user}: left group {group}"


def _undo_main_cf(entry: dict[str, Any], _: object) -> str:
    path = Path(entry["path"])
    if not path.exists():
        return f"{path}: gone already"
    old = text = path.read_bytes().decode("latin-1")
    for edit in reversed(entry["edits"]):
        text = main_cf.take_back(text, main_cf.Edit(*edit), frozenset(entry["addresses"]))
    if text == old:
        return f"{path}: nothing of ours in it"
    with _written(path):
        write_file(path, text.encode("latin-1"))
    return f"{path}: our entries taken out"


def _undo_units(entry: dict[str, Any], run_systemctl: Callable[..., subprocess.CompletedProcess[str]]) -> str:
    run_systemctl("disable", "--now", *entry["units"])
    return f"{', '.join(entry['units'])}: stopped and disabled"


_UNDO: dict[str, Callable[[dict[str, Any], Callable[..., subprocess.CompletedProcess[str]]], str]] = {
    "file": _undo_file,
    "directory": _undo_directory,
    "membership": _undo_membership,
    "main.cf": _undo_main_cf,
    "units": _undo_units,
}


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotCreateError(f"{path}: cannot be written: {error.strerror}") from None


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise UnavailableError(f"{' '.join(command)}: {done.stderr.strip()}")


def _uid(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def _gid(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None
