"""A private Exim beside the Postfix that is installed: Debian's package, unpacked and not installed.

Debian's exim4 and postfix exclude each other, so the binary is taken out of the downloaded package. It wants its own
system user, which the package would make, and a few shared libraries.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from postwake_lab.ports import wait_for_port

CACHE = Path(os.environ.get("POSTWAKE_LAB_CACHE", "/var/cache/postwake-lab"))
PACKAGE = "exim4-daemon-light"
USER = "Debian-exim"
LOG_SELECTOR = "+millisec +subject +received_recipients +deliver_time +queue_time +sender_on_delivery"

_CONFIG = """
primary_hostname = {hostname}
exim_path = {binary}
spool_directory = {directory}/spool
log_file_path = {directory}/log/%slog
pid_file_path = {directory}/exim.pid
local_interfaces = 127.0.0.1.{port}
log_selector = {log_selector}
log_timezone = true
timezone = UTC
deliver_drop_privilege = true
never_users =
keep_environment =
tls_advertise_hosts =
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_max = 0
delay_warning =
ignore_bounce_errors_after = 1h
acl_smtp_rcpt = acl_rcpt
{main}

begin acl
acl_rcpt:
  deny
    local_parts = forbidden
    message = 5.7.1 not here
  accept

begin routers
aliases:
  driver = redirect
  domains = lsearch;{directory}/alias-domains
  data = ${{lookup{{$local_part@$domain}}lsearch{{{directory}/aliases}}}}
local_user:
  driver = accept
  domains = local.test
  local_parts = nobody
  transport = mailbox
lab:
  driver = manualroute
  route_data = ${{lookup{{$domain}}lsearch{{{directory}/routes}}}}
  self = send
  transport = remote_smtp
  no_more

begin transports
mailbox:
  driver = appendfile
  file = {directory}/mail/$local_part_data
  user = {user}
remote_smtp:
  driver = smtp
  allow_localhost
  hosts_avoid_tls = *
  hosts_try_fastopen =
  connect_timeout = 5s
  # All next hops have one address here: without this Exim would send what waits for one port down another's connection.
  connection_max_messages = 1

begin retry
{retry}
"""


class EximMissingError(Exception):
    """There is no Exim here, and none can be fetched; the message says why."""


def fetch_exim() -> Path:
    """Return the path of an Exim binary; :class:`EximMissingError` if there is none and it cannot be had."""
    binary = CACHE / "usr" / "sbin" / "exim4"
    if not binary.exists():
        _unpack()
    _have_user()
    done = subprocess.run([binary, "-C", "/dev/null", "-bV"], capture_output=True, text=True, check=False)
    if missing := re.search(r"(lib\S+)\.so\.(\d+): cannot open", done.stderr):
        _run("apt-get", "install", "-y", "--no-install-recommends", f"{missing[1]}{missing[2]}")
    return binary


def _unpack() -> None:
    if os.geteuid() or shutil.which("apt-get") is None:
        raise EximMissingError("needs root and apt-get to unpack Debian's Exim")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        _run("apt-get", "download", "-o", "APT::Sandbox::User=root", PACKAGE, cwd=scratch)
        found = list(Path(scratch).glob("*.deb"))
        root = Path(scratch) / "root"
        _run("dpkg", "-x", str(found[0]), str(root))
        (CACHE / "usr" / "sbin").mkdir(parents=True, exist_ok=True)
        partial = CACHE / "usr" / "sbin" / "exim4.part"
        shutil.copy2(root / "usr" / "sbin" / "exim4", partial)
        partial.rename(CACHE / "usr" / "sbin" / "exim4")


def _have_user() -> None:
    try:
        pwd.getpwnam(USER)
    except KeyError:
        # As the package's own installation does; Exim's binary looks for this name.
        _run("useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", USER)


def _run(*command: str, cwd: str | None = None) -> None:
    done = subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )
    if done.returncode:
        raise EximMissingError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")


class Exim:
    """One instance under *directory*; ``start`` and ``stop``, or a ``with`` block."""

    def __init__(
        self,
        directory: Path,
        port: int,
        *,
        transport: Mapping[str, int] | None = None,
        aliases: Mapping[str, str] | None = None,
        retry: Mapping[str, str] | None = None,
        main: str = "",
        log_selector: str = LOG_SELECTOR,
        hostname: str = "mx.example.com",
    ) -> None:
        """Write the configuration.

        *transport*: domain to loopback port; *aliases*: address to addresses; *retry*: domain to retry rule, before the
        common one; *main*: further lines of the main section.
        """
        self.directory = directory
        self.port = port
        self.config = directory / "exim.conf"
        self.log = directory / "log" / "mainlog"
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)
        # A copy, set-user-ID as installed: Exim runs itself anew for each delivery.
        self.binary = directory / "exim"
        shutil.copy(fetch_exim(), self.binary)
        self.binary.chmod(0o4755)
        for name in ("spool", "log", "mail"):
            (directory / name).mkdir(exist_ok=True)
            shutil.chown(directory / name, USER, USER)
        routes = {domain: f"127.0.0.1::{number}" for domain, number in (transport or {}).items()}
        (directory / "routes").write_text("".join(f"{domain}: {route}\n" for domain, route in routes.items()))
        (directory / "aliases").write_text("".join(f"{name}: {to}\n" for name, to in (aliases or {}).items()))
        domains = {name.rpartition("@")[2] for name in aliases or ()}
        (directory / "alias-domains").write_text("".join(f"{domain}:\n" for domain in sorted(domains)))
        rules = [f"{domain} * {rule}" for domain, rule in (retry or {}).items()]
        self.config.write_text(
            _CONFIG.format(
                hostname=hostname,
                binary=self.binary,
                directory=directory,
                port=port,
                log_selector=log_selector,
                main=main,
                user=USER,
                retry="\n".join([*rules, "* * F,1d,2s"]),
            )
        )

    def __enter__(self) -> Exim:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the daemon, which also runs the queue every second, and wait until its port answers."""
        command = [str(self.binary), "-C", str(self.config), "-bdf", "-q1s"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
        )
        wait_for_port(self.port)

    def stop(self) -> None:
        """Stop it, and what it has started."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None
            for pid in self._own_processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + 5
            while self._own_processes() and time.monotonic() < deadline:
                time.sleep(0.05)

    def sendmail(self, message: bytes, sender: str, recipients: list[str]) -> None:
        """Submit *message* as a local program does."""
        subprocess.run(self.argv("-i", "-f", sender, "--", *recipients), input=message, check=True, capture_output=True)

    def argv(self, *arguments: str) -> list[str]:
        """Return the command line of this instance."""
        return [str(self.binary), "-C", str(self.config), *arguments]

    def _own_processes(self) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/exe"):
            with contextlib.suppress(OSError):
                if path.readlink() == self.binary:
                    found.append(int(path.parent.name))
        return found
