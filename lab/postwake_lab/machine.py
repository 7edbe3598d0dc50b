"""A Debian 12 of its own, booted: systemd as process 1, in namespaces of its own, on a copy-on-write root.

What is done to it stays in it: its processes, mounts, host name, network (loopback only) and cgroups are its own.
The root is made once, by debootstrap, and kept; each machine writes into a layer of its own that is thrown away.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

CACHE = Path(os.environ.get("POSTWAKE_LAB_CACHE", "/var/cache/postwake-lab"))
MIRROR = "http://deb.debian.org/debian"
PACKAGES = (
    *("adduser", "dbus", "iproute2", "libmilter1.0.1", "libsasl2-modules", "postfix", "procps", "python3", "rsyslog"),
    *("sasl2-bin", "ssl-cert", "systemd", "systemd-sysv"),
)
"""A server's Debian with Postfix, and what Postwake's package depends on: a machine has no network to fetch it by."""
CGROUPS = Path("/sys/fs/cgroup")
PATIENCE_S = 60.0

# What a container manager does before it starts systemd (https://systemd.io/CONTAINER_INTERFACE), in new namespaces.
_BOOT = r"""
set -eu
root=$1 lower=$2 upper=$3 work=$4
mount --make-rprivate /
mount -t overlay -o "lowerdir=$lower,upperdir=$upper,workdir=$work" overlay "$root"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for n in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${n%:*}" "$root/dev/${n#*:}"; done
ip link set lo up
cd "$root"
mkdir -p .outside
pivot_root . .outside
umount -l /.outside
rmdir /.outside
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec env -i container=postwake-lab PATH="$PATH" TERM=dumb /lib/systemd/systemd --log-target=journal
"""


def missing() -> str:
    """Return why no machine can be made here; empty if one can."""
    if os.geteuid():
        return "needs root"
    for tool in ("debootstrap", "unshare", "nsenter"):
        if shutil.which(tool) is None:
            return f"not installed: {tool}"
    if not _cgroup2():
        return "no cgroup2 file system is mounted"
    return ""


def _cgroup2() -> Path | None:
    return next((path for path in (CGROUPS, CGROUPS / "unified") if (path / "cgroup.controllers").exists()), None)


def base_root() -> Path:
    """Return the root that machines are copies of; the first time it is made, which takes some minutes."""
    digest = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:12]
    root = CACHE / f"debian-12-{digest}"
    if not root.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=CACHE, prefix="debian-12-", suffix=".part"))
        part.chmod(0o755)
        include = f"--include={','.join(PACKAGES)}"
        done = subprocess.run(
            ["debootstrap", "--variant=minbase", include, "bookworm", str(part), MIRROR],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"debootstrap: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        part.rename(root)
    return root


class Machine:
    """One booted Debian. Use as a context manager."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="postwake-machine-"))
        self._directory.chmod(0o755)
        self.upper = self._directory / "upper"
        """What this machine has written, as overlayfs keeps it."""
        for part in ("root", "upper", "work"):
            (self._directory / part).mkdir(mode=0o755)
        self._process: subprocess.Popen[bytes] | None = None
        self._init = 0

    def __enter__(self) -> Machine:
        """Boot."""
        try:
            self.boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End everything and throw the layer away."""
        self.close()

    def boot(self) -> None:
        """Start systemd and wait until it says that everything is up."""
        cgroups = _cgroup2()
        assert cgroups is not None
        self._cgroup = cgroups / self._directory.name
        self._cgroup.mkdir()
        parts = [str(self._directory / "root"), str(base_root()), str(self.upper), str(self._directory / "work")]
        # Into its cgroup first: the cgroup namespace's root is where the process is that makes it.
        enter = f'echo $$ > {self._cgroup}/cgroup.procs; exec "$@"'
        spaces = ["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--fork"]
        self._process = subprocess.Popen(
            ["sh", "-euc", enter, "sh", *spaces, "sh", "-c", _BOOT, "sh", *parts],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        deadline = time.monotonic() + PATIENCE_S
        while not self._init:
            self._must_live(deadline)
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
            for child in children.read_text().split():
                if Path(f"/proc/{child}/exe").readlink().name == "systemd":
                    self._init = int(child)
            time.sleep(0.05)
        while not (Path(f"/proc/{self._init}/root/run/systemd/private")).exists():
            self._must_live(deadline)
            time.sleep(0.05)
        state = self.run("systemctl is-system-running --wait || systemctl --failed --no-legend")
        if state.strip() != "running":
            raise RuntimeError(f"the machine did not come up: {state}")

    def _must_live(self, deadline: float) -> None:
        assert self._process is not None
        if self._process.poll() is not None:
            assert self._process.stderr is not None
            raise RuntimeError(f"the machine did not boot: {self._process.stderr.read().decode()}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"the machine did not boot within {PATIENCE_S:.0f} s")

    @property
    def root(self) -> Path:
        """Return its root as seen from here."""
        return Path(f"/proc/{self._init}/root")

    def command(self, *arguments: str) -> list[str]:
        """Return the command line that runs *arguments* in it."""
        environment = [
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "DEBIAN_FRONTEND=noninteractive",
            "HOME=/root",
            "LC_ALL=C.UTF-8",
        ]
        spaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"]
        return ["nsenter", "--target", str(self._init), *spaces, "env", "-i", *environment, *arguments]

    def try_run(self, script: str, *, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        """Run the shell *script* in it as root."""
        return subprocess.run(
            self.command("sh", "-euc", script),
            input=stdin.decode("latin-1"),
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, script: str, *, stdin: bytes = b"") -> str:
        """Run the shell *script* in it as root; return its output. AssertionError with all it said if it failed."""
        done = self.try_run(script, stdin=stdin)
        assert done.returncode == 0, f"{script}: status {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def wait_for(self, script: str, patience_s: float = PATIENCE_S) -> str:
        """Run the shell *script* in it until its status is 0; return its output. AssertionError if that never comes."""
        deadline = time.monotonic() + patience_s
        while True:
            done = self.try_run(script)
            if done.returncode == 0:
                return done.stdout
            assert time.monotonic() < deadline, f"{script}: never\n{done.stdout}{done.stderr}"
            time.sleep(0.1)

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        """Start *arguments* in it."""
        return subprocess.Popen(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def reboot(self) -> None:
        """End everything at once, as a power cut does, and boot again from what is on the disk."""
        self._end()
        self._init = 0
        self.boot()

    def copy_in(self, source: Path, target: str) -> None:
        """Put a file of this machine into it."""
        shutil.copyfile(source, self.root / target.lstrip("/"))

    def close(self) -> None:
        """End everything in it at once, and remove what it wrote."""
        self._end()
        shutil.rmtree(self._directory)

    def _end(self) -> None:
        if self._process is not None:
            if self._init:
                os.kill(self._init, signal.SIGKILL)  # process 1 of its namespace: the kernel ends all the others
            else:
                self._process.kill()
            self._process.communicate()
            self._process = None
            _remove_cgroups(self._cgroup)


def _remove_cgroups(cgroup: Path) -> None:
    """Remove *cgroup* and those in it, once the last dead process has left them."""
    deadline = time.monotonic() + 10
    for folder, _, _ in os.walk(cgroup, topdown=False):
        while True:
            try:
                Path(folder).rmdir()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
