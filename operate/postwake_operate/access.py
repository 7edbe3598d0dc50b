"""Whether another user may do something with a file, from modes alone.

For the superuser every open succeeds, so trying tells nothing; and the services run as users of their own.
"""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass
from pathlib import Path

READ, WRITE, ENTER = 4, 2, 1


@dataclass(frozen=True, slots=True)
class Identity:
    """A user with groups, as a process has them."""

    name: str
    uid: int
    gids: frozenset[int]

    def may(self, path: Path, wanted: int) -> bool:
        """Return whether the mode of *path* gives *wanted*. Access control lists are not looked at."""
        info = path.stat()
        if self.uid == 0:
            return True
        shift = 6 if info.st_uid == self.uid else 3 if info.st_gid in self.gids else 0
        return info.st_mode >> shift & wanted == wanted

    def is_in(self, *groups: str) -> bool:
        """Return whether it is in one of *groups*; those that do not exist have no members."""
        there = {entry.gr_name: entry.gr_gid for entry in grp.getgrall()}
        return any(there[name] in self.gids for name in groups if name in there)

    def first_obstacle(self, path: Path, wanted: int) -> Path | None:
        """Return the first directory on the way that cannot be entered, or *path* itself; None: the way is free."""
        for parent in reversed(path.absolute().parents):
            if not self.may(parent, ENTER):
                return parent
        return None if self.may(path, wanted) else path


def service(name: str, *groups: str) -> Identity:
    """Return the service user *name* with its units' supplementary *groups*; ourselves if there is no such user."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return Identity(pwd.getpwuid(os.geteuid()).pw_name, os.geteuid(), frozenset({os.getegid(), *os.getgroups()}))
    gids = set(os.getgrouplist(name, entry.pw_gid))
    for group in groups:
        try:
            gids.add(grp.getgrnam(group).gr_gid)
        except KeyError:
            continue
    return Identity(name, entry.pw_uid, frozenset(gids))


def describe(path: Path) -> str:
    """Return owner, group and mode of *path* as ``ls -l`` would."""
    info = path.stat()
    try:
        user = pwd.getpwuid(info.st_uid).pw_name
    except KeyError:
        user = str(info.st_uid)
    try:
        group = grp.getgrgid(info.st_gid).gr_name
    except KeyError:
        group = str(info.st_gid)
    return f"{user}:{group} {info.st_mode & 0o7777:04o}"
