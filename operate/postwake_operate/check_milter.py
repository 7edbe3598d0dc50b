"""Checks of the milter's socket: is it there, may Postfix use it, does a milter answer?"""

from __future__ import annotations

import os
import pwd
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from postwake.config import Config
from postwake_operate import access
from postwake_operate.finding import Finding, fail, ok, skip, warn
from postwake_operate.postfix import Postfix

PATIENCE_S = 5.0
_VERSION, _ACTIONS, _STEPS = 6, 0x1FF, 0x1FFFFF
"""What libmilter's mfdef.h has for protocol version 6: everything that can be offered."""

# Postfix's processes have their own user, its primary group and no other (set_ugid(3)); chrooted, the queue directory.
_AS_POSTFIX = """
import os, socket, sys
root, path, uid, gid = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
os.chroot(root)
os.chdir("/")
os.setgroups([gid])
os.setgid(gid)
os.setuid(uid)
try:
    socket.socket(socket.AF_UNIX).connect(path)
except OSError as error:
    sys.exit(error.strerror)
"""


def check(config: Config, postfix: Postfix | None) -> Iterator[Finding]:
    """Yield what is found."""
    path = config.milter.socket
    start = "systemctl status postwake-milter; journalctl -u postwake-milter"
    if not path.is_socket():
        found = f"{path}: not a socket" if path.exists() else f"{path}: not there: the milter does not run"
        yield fail("milter socket", found, start)
        return
    mode = path.stat().st_mode & 0o7777
    if mode & 0o002:
        advice = f'milter.socket_mode = "0660" and milter.socket_group = "postfix": {path}'
        yield warn("milter socket", f"{path}: {access.describe(path)}: everybody may have links signed", advice)
    else:
        yield ok("milter socket", f"{path}: {access.describe(path)}")
    try:
        version = negotiate(path)
    except ConnectionRefusedError:
        yield fail("milter answers", f"{path}: nobody listens there: the milter does not run", start)
        return
    except (OSError, ValueError) as error:
        yield fail("milter answers", f"{path}: {getattr(error, 'strerror', None) or error}", start)
    else:
        yield ok("milter answers", f"milter protocol version {version}")
    if postfix is not None and config.logparse.mta != "exim":
        yield _for_postfix(path, postfix)
    yield from confinement()


def negotiate(path: Path, patience_s: float = PATIENCE_S) -> int:
    """Open a milter conversation at *path* as an MTA does, and end it; return the version that the milter speaks.

    OSError if nobody answers in time, ValueError if what answers is no milter.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(patience_s)
        connection.connect(str(path))
        connection.sendall(_packet(b"O", struct.pack("!III", _VERSION, _ACTIONS, _STEPS)))
        length = struct.unpack("!I", _read(connection, 4))[0]
        if not 13 <= length <= 1000:
            raise ValueError("what answers there is no milter: expected an option negotiation")
        answer = _read(connection, length)
        if answer[:1] != b"O":
            raise ValueError(f"what answers there is no milter: {answer[:1]!r}: expected 'O'")
        connection.sendall(_packet(b"Q", b""))
        return int(struct.unpack("!I", answer[1:5])[0])


def _packet(command: bytes, data: bytes) -> bytes:
    return struct.pack("!I", len(data) + 1) + command + data


def _read(connection: socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n:
        piece = connection.recv(n - len(data))
        if not piece:
            raise ValueError("the connection was closed before an answer: expected a milter")
        data += piece
    return data


def _for_postfix(path: Path, postfix: Postfix) -> Finding:
    name = "milter for postfix"
    chrooted = postfix.chrooted()
    if path.is_relative_to(postfix.queue):
        root, inside = str(postfix.queue), f"/{path.relative_to(postfix.queue)}"
    elif not chrooted:
        root, inside = "/", str(path)
    else:
        advice = (
            f"milter.socket under {postfix.queue} or, where another instance has it, no chroot: {postfix.unchroot()}"
        )
        found = f"{path} is outside of {postfix.queue}: {', '.join(chrooted)} cannot reach it"
        return fail(name, found, advice)
    if os.geteuid():
        return skip(name, "only root can try it as Postfix does")
    owner = pwd.getpwnam(postfix.setting("mail_owner"))
    command = [sys.executable, "-c", _AS_POSTFIX, root, inside, str(owner.pw_uid), str(owner.pw_gid)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        who = access.Identity(owner.pw_name, owner.pw_uid, frozenset({owner.pw_gid}))
        obstacle = who.first_obstacle(path, access.WRITE)
        why = f"; {obstacle} is {access.describe(obstacle)}" if obstacle is not None else ""
        advice = f'milter.socket_group = "postfix", and its directory {path.parent} 2750 with group postfix'
        return fail(name, f"{owner.pw_name} cannot connect to {path}: {done.stderr.strip()}{why}", advice)
    return ok(name, f"{owner.pw_name} reaches {inside} from within {root}")


def confinement(system: Path = Path("/sys")) -> Iterator[Finding]:
    """Yield hints where SELinux or AppArmor may stand between Postfix and the socket."""
    try:
        if (system / "fs/selinux/enforce").read_text().strip() == "1":
            advice = "ausearch -m avc -c smtpd; audit2allow makes the rule that lets postfix_smtpd_t connect"
            yield warn("selinux", "enforcing: it may forbid Postfix to connect to the milter's socket", advice)
    except OSError:
        pass
    try:
        profiles = (system / "kernel/security/apparmor/profiles").read_text()
    except OSError:
        return
    confined = [line for line in profiles.splitlines() if "postfix" in line and line.endswith("(enforce)")]
    if confined:
        advice = "journalctl -k | grep DENIED; the profile needs the socket's path with rw"
        yield warn("apparmor", f"enforced on {confined[0].split()[0]}: it may forbid the milter's socket", advice)
