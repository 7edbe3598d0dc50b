"""The key file: the secrets that sign tokens, one a line, oldest first.

::

    # id  created               secret (base64)
    1     2026-11-22T05:30:00Z  q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=

Mode 0640, group of the services: whoever reads it can mint links under your tracking host. The newest (last)
key signs; every listed one verifies. Take a line away and the links it signed answer 404.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
import tempfile
from pathlib import Path

from postwake.durable import sync_directory
from postwake.errors import CannotCreateError, ConfigError
from postwake.tokens import KeyRing

_HEADER = "# Postwake signing keys: the last signs, all verify. Removing a line kills the links it signed.\n"
KEY_BYTES = 32


def read_keys(path: Path) -> KeyRing:
    """Read the ring at *path*; :class:`ConfigError` names every line that is not a key."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        new = "; `postwake key new` makes one" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(f"{path}: cannot read the signing keys: {error.strerror}{new}") from None
    problems: list[str] = []
    if stat.S_IMODE(mode) & (stat.S_IROTH | stat.S_IWOTH):
        problems.append(
            f"{path}: mode {stat.S_IMODE(mode):04o} lets everyone read or write the signing keys: expected 0640"
        )
    keys: dict[int, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        try:
            text_id, _created, secret = fields
            key_id = _parse_id(text_id)
            key = base64.b64decode(secret, validate=True)
            if key_id is None or len(key) < 16 or key_id in keys:
                raise ValueError
            keys[key_id] = key
        except (ValueError, binascii.Error):
            problems.append(
                f"{path}:{number}: expected `ID CREATED BASE64` with an unused ID of 0 to 255 and 16 bytes or more"
            )
    if not keys and not problems:
        problems.append(f"{path}: no key in it; `postwake key new` adds one")
    if problems:
        raise ConfigError(*problems)
    return KeyRing(keys)


def _parse_id(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and int(text) <= 255 else None


def add_key(path: Path, created: str) -> int:
    """Append a new random key made at *created* (RFC 3339) to *path*, in one rename; return its ID.

    Owner, group and mode of an existing file are kept, and where a symbolic link leads is what is written; a new one
    gets mode 0640. :class:`ConfigError` if no ID is free, :class:`CannotCreateError` if it cannot be written.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():  # /dev/null would become a file, for everybody on the machine
        raise CannotCreateError(f"{path}: not a regular file: expected the signing keys, or a new name")
    try:
        old = path.read_bytes()
        info = path.stat()
    except FileNotFoundError:
        old, info = _HEADER.encode("ascii"), None
    except OSError as error:
        raise CannotCreateError(f"{path}: cannot read the signing keys: {error.strerror}") from None
    # Every line that begins with an ID, whatever follows: one that somebody is mending keeps its own.
    words = [line.split(None, 1)[0] for line in old.decode("ascii", "replace").splitlines() if line.strip()]
    used = {key_id for word in words if (key_id := _parse_id(word)) is not None}
    free = [n for n in [*range(max(used, default=0) + 1, 256), *range(256)] if n not in used]
    if not free:
        raise ConfigError(f"{path}: all 256 key IDs are in use: remove keys whose mail nobody reads any more")
    new_id: int = free[0]
    if old and not old.endswith(b"\n"):
        old += b"\n"
    line = f"{new_id} {created} {base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}\n"
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as out:
                out.write(old + line.encode("ascii"))
                out.flush()
                os.fchmod(out.fileno(), stat.S_IMODE(info.st_mode) if info else 0o640)
                if info:
                    os.fchown(out.fileno(), info.st_uid, info.st_gid)
                os.fsync(out.fileno())
            Path(name).replace(path)
            sync_directory(path.parent)  # before the first token is signed with it
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CannotCreateError(f"{path}: cannot write the signing keys: {error.strerror}") from None
    return new_id
