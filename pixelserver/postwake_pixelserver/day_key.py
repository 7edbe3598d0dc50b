"""The keys of pseudonyms: random, one for each UTC day, gone when the day is.

A hash of an address whose key can be made again is the address to whoever makes it: an address space is small enough to
try (Article 29 Working Party, Opinion 05/2014, section 4). So the key is no function of anything that is kept. The
server's workers share it by a file in a directory of their own, which the parent makes anew at each start (under
``/run``, which is memory, where systemd gives one); the first hit of the next day removes it, and after that nobody can
tell whose the hashes were, we included.

Limits: hits before and after a restart on one day cannot be linked, either. Where the file cannot be written each
worker has a key of its own, in memory.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

log = logging.getLogger("postwake.pixelserver")

KEY_BYTES = 32
_DAY_US = 86_400_000_000
_PREFIX = "pseudonyms-"


class DayKeys:
    """The key of the present day, as one worker has it. Used on one thread."""

    def __init__(self, directory: Path | None = None) -> None:
        """Take the directory that the workers share; without one the keys are this object's own."""
        self._directory = directory
        self._day: int | None = None
        self._key = b""

    def of(self, at_us: int) -> bytes:
        """Return the key of the UTC day of *at_us*; the days before it have none any more."""
        day = at_us // _DAY_US
        if day != self._day:
            self._key = self._shared(day)
            self._day = day
        return self._key

    def _shared(self, day: int) -> bytes:
        key = os.urandom(KEY_BYTES)
        if self._directory is None:
            return key
        path = self._directory / f"{_PREFIX}{day}"
        own = self._directory / f"{path.name}.{os.urandom(8).hex()}"
        try:
            own.touch(mode=0o600, exist_ok=False)
            own.write_bytes(key)
            with contextlib.suppress(FileExistsError):
                os.link(own, path)  # whoever is first decides, and nobody sees half a key
            own.unlink()
            key = path.read_bytes()
        except OSError as error:
            log.warning("pseudonym_key=own path=%s error=%s", path, error.strerror)
        for old in self._directory.glob(f"{_PREFIX}*"):
            if not old.name.startswith(path.name):
                old.unlink(missing_ok=True)
        return key
