"""What SIGHUP reads again while requests are being answered: keys, deny list, rules.

A new key is in use as soon as the milter was restarted, whoever else was told or not: so the files are also read again
when a token is not ours and the key file is not the one that was read.

Requests take one :class:`Live` and use it to their end; reloading swaps it for another. A file that has become
unusable keeps what was there and says so: a typing mistake must not kill every link in the world.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from postwake.config import Config
from postwake.errors import ConfigError
from postwake.keyfile import read_keys
from postwake.tokens import KeyRing
from postwake_pixelserver.denied import DeniedDestinations, read_denied
from postwake_pixelserver.who import Rules, read_rules

log = logging.getLogger("postwake.pixelserver")

P = TypeVar("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Live:
    """One consistent state of everything that can be reloaded."""

    keys: KeyRing
    denied: DeniedDestinations
    rules: Rules


def read_live(config: Config) -> Live:
    """Read every file that *config* names; :class:`ConfigError` lists the problems of all of them."""
    problems: list[str] = []
    keys = _try(problems, read_keys, config.tracking.keys)
    denied = _try(problems, read_denied, config.pixelserver.denied_destinations)
    own = (config.pixelserver.scanner_networks, config.pixelserver.scanner_agents)
    rules = _try(problems, lambda paths: read_rules(*paths), own)
    if keys is None or denied is None or rules is None:
        raise ConfigError(*problems)
    return Live(keys, denied, rules)


def _try(problems: list[str], read: Callable[[P], T], path: P) -> T | None:
    try:
        return read(path)
    except ConfigError as error:
        problems.extend(error.problems)
        return None


class LiveState:
    """The current :class:`Live`; reading the attribute and swapping it are atomic."""

    def __init__(self, read: Callable[[], Live], keys: Path | None = None) -> None:
        """Read at once; :class:`ConfigError` if that fails. *keys* is the key file that *read* reads."""
        self._read = read
        self._keys = keys
        self._seen = _identity(keys)
        self.current = read()

    def follow_keys(self) -> bool:
        """Read again if the key file is another than when it was last looked at; return whether that was done."""
        return _identity(self._keys) != self._seen and self.reload()

    def reload(self) -> bool:
        """Read again; return whether that succeeded. If not, the old state stays."""
        self._seen = _identity(self._keys)  # before it is read: if it changes meanwhile, it is read once more
        try:
            self.current = self._read()
        except ConfigError as error:
            for problem in error.problems:
                log.error("reload=failed keeping=old problem=%s", problem)
            return False
        log.info("reload=done keys_newest=%d denied=%d", self.current.keys.newest, len(self.current.denied))
        return True


def _identity(path: Path | None) -> tuple[int, int, int] | None:
    """Return what changes with the content of *path*: inode, time and size; None if it is not there."""
    try:
        info = path.stat() if path is not None else None
    except OSError:
        return None
    return None if info is None else (info.st_ino, info.st_mtime_ns, info.st_size)
