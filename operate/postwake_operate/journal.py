"""What setup changed, in order, so that ``--undo`` can take exactly that back.

One JSON file for each Postfix instance in the state directory, rewritten (in one rename, fsynced) before each change
takes effect: after a crash undo knows of everything that may have happened.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from postwake.durable import sync_directory
from postwake.errors import CannotCreateError, DataError


class Journal:
    """The entries of one instance, oldest first. Each has ``kind`` and what its step needs to undo it."""

    def __init__(self, state_dir: Path, config: Path, mta: str = "postfix") -> None:
        """Read what there is for the instance configured at *config*; :class:`DataError` if it cannot be understood."""
        digest = hashlib.sha256(os.fsencode(config.resolve())).hexdigest()[:12]
        self.path = state_dir / f"setup-{mta}-{digest}.json"
        self.entries: list[dict[str, Any]] = []
        try:
            self.entries = json.loads(self.path.read_text(encoding="ascii"))["entries"]
        except FileNotFoundError:
            pass
        except PermissionError:
            raise  # not what is in it is wrong, but who asks
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.path}: cannot read what setup has changed: {error}") from None

    def add(self, kind: str, **values: Any) -> None:
        """Write down a change that is about to be made."""
        self.entries.append({"kind": kind, **values})
        self._write()

    def drop_last(self) -> None:
        """Take out the newest entry: it has been undone."""
        self.entries.pop()
        if self.entries:
            self._write()
        else:
            self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_file(self.path, json.dumps({"entries": self.entries}, indent=1).encode("ascii"), mode=0o600)
        except OSError as error:
            raise CannotCreateError(f"{self.path}: cannot write down what is changed: {error.strerror}") from None


def write_file(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Replace *path* in one rename, synced; an existing file's owner and mode are kept unless *mode* says another."""
    info = path.stat() if path.exists() else None
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(data)
            out.flush()
            if info is not None:
                os.fchown(out.fileno(), info.st_uid, info.st_gid)
            os.fchmod(
                out.fileno(), mode if mode is not None else (info.st_mode & 0o7777 if info is not None else 0o644)
            )
            os.fsync(out.fileno())
        Path(name).replace(path)
        sync_directory(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
