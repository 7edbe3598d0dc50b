"""A private Postfix: its own configuration, queue, log and loopback port."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from postwake_lab.ports import wait_for_port

_MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
{extra}
pickup unix n - n 1 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """One instance under *directory*; ``start`` and ``stop``, or a ``with`` block."""

    def __init__(
        self,
        directory: Path,
        port: int,
        *,
        transport: Mapping[str, str] | None = None,
        main: Mapping[str, str] | None = None,
        master_extra: str = "",
        hostname: str = "mx.example.com",
    ) -> None:
        """Write the configuration. *transport*: domain to next hop; *main*: further main.cf settings."""
        self.directory = directory
        self.port = port
        self.config = directory / "etc"
        self.queue = directory / "spool"
        self.log = directory / "log" / "mail.log"
        self._running = False
        for path in (self.config, self.queue, directory / "lib", directory / "bin", self.log.parent):
            path.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)
        shutil.chown(directory / "lib", "postfix")
        self._copy_postdrop()
        transport_map = self.config / "transport"
        transport_map.write_text("".join(f"{domain} {hop}\n" for domain, hop in (transport or {}).items()))
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": str(self.queue),
            "data_directory": str(directory / "lib"),
            "command_directory": str(directory / "bin"),
            "daemon_directory": "/usr/lib/postfix/sbin",
            "mail_owner": "postfix",
            "setgid_group": "postdrop",
            "maillog_file": str(self.log),
            "maillog_file_prefixes": f"{directory}, /var, /dev/stdout",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "myhostname": hostname,
            "mydestination": "local.test",
            "mynetworks": "127.0.0.0/8",
            "alias_maps": f"texthash:{self.config / 'aliases'}",
            "alias_database": "",
            "local_recipient_maps": "",
            "mail_spool_directory": str(directory / "mail"),
            "transport_maps": f"texthash:{transport_map}",
            "default_transport": "error:5.1.2 no such domain in the lab",
            "relay_domains": "",
            "smtpd_recipient_restrictions": "permit_mynetworks, permit_auth_destination, reject",
            "smtpd_relay_restrictions": "permit_mynetworks, permit_auth_destination, reject",
            "smtpd_peername_lookup": "no",
            "smtp_tls_security_level": "none",
            "smtp_destination_concurrency_limit": "20",
            "initial_destination_concurrency": "20",
            "minimal_backoff_time": "1s",
            "maximal_backoff_time": "5s",
            "queue_run_delay": "1s",
            "smtp_connect_timeout": "5s",
            "in_flow_delay": "0",
            "smtpd_error_sleep_time": "0",
            "smtpd_client_connection_count_limit": "0",
            "biff": "no",
            **(main or {}),
        }
        (directory / "mail").mkdir(exist_ok=True)
        (directory / "mail").chmod(0o1777)
        (self.config / "aliases").touch()
        (self.config / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))
        (self.config / "master.cf").write_text(_MASTER.format(port=port, extra=master_extra))
        (self.config / "dynamicmaps.cf").touch()

    def __enter__(self) -> Postfix:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until its port answers."""
        self._postfix("start")
        self._running = True
        wait_for_port(self.port)

    def stop(self) -> None:
        """Stop it at once."""
        if self._running:
            self._postfix("abort")
            self._running = False
            # master is told and goes; its children may take a moment to let go of the port and the files
            deadline = time.monotonic() + 10
            while self._postfix("status", check=False) == 0 and time.monotonic() < deadline:
                time.sleep(0.05)

    def reload(self) -> None:
        """Make it read its configuration again."""
        self._postfix("reload")

    def flush(self) -> None:
        """Make it try everything that is deferred now."""
        subprocess.run(["/usr/sbin/postqueue", "-c", str(self.config), "-f"], check=False, capture_output=True)
        self._postfix("flush", check=False)

    def queue_size(self) -> int:
        """Return how many messages are in its queues."""
        return sum(
            len(files)
            for name in ("maildrop", "incoming", "active", "deferred", "hold")
            for _, _, files in os.walk(self.queue / name)
        )

    def sendmail(self, message: bytes, sender: str, recipients: list[str]) -> None:
        """Submit *message* as a local program does."""
        command = ["/usr/sbin/sendmail", "-C", str(self.config), "-i", "-f", sender, "--", *recipients]
        subprocess.run(
            command, input=message, check=True, capture_output=True, env={**os.environ, "MAIL_CONFIG": str(self.config)}
        )

    def _copy_postdrop(self) -> None:
        # The set-group-ID postdrop refuses configurations that the system's main.cf does not list; a plain copy,
        # run by root, takes ours.
        for name in (
            "postdrop",
            "postqueue",
            "postlog",
            "postalias",
            "postmap",
            "postsuper",
            "postconf",
            "postcat",
            "postkick",
            "postmulti",
            "postfix",
        ):
            shutil.copy(f"/usr/sbin/{name}", self.directory / "bin" / name)

    def _postfix(self, verb: str, *, check: bool = True) -> int:
        done = subprocess.run(
            ["/usr/sbin/postfix", "-c", str(self.config), verb], capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            logged = self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""
            raise RuntimeError(f"postfix {verb}: exit status {done.returncode}: {done.stderr}{logged}")
        return done.returncode
