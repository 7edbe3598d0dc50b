"""One Postfix instance as ``postconf`` describes it."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from postwake.errors import UnavailableError
from postwake_operate import milter_list
from postwake_operate.milter_list import Milter

_NAMES = (
    "config_directory",
    "queue_directory",
    "daemon_directory",
    "mail_owner",
    "smtpd_milters",
    "non_smtpd_milters",
    "milter_default_action",
    "multi_instance_directories",
    "maillog_file",
    "enable_long_queue_ids",
    "mynetworks",
    "myhostname",
    "mydomain",
    "mail_version",
)
"""What we ask for. Not everything: some defaults make postconf wait for a name server."""
_SBIN = "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Override:
    """A setting of one service in master.cf that goes before main.cf's."""

    service: str
    """Such as ``submission/inet``."""
    parameter: str
    value: str


def tool(name: str) -> str | None:
    """Return the path of one of Postfix's programs, which are not on every user's PATH; None if it is not installed."""
    return shutil.which(name) or shutil.which(name, path=_SBIN)


class Postfix:
    """The instance whose configuration directory is given; by default the system's."""

    def __init__(self, config: Path | None = None) -> None:
        """Ask postconf for everything once; :class:`UnavailableError` if there is no Postfix or it refuses."""
        self._given = config
        self._settings = self._read("-x", *_NAMES)
        self.config = Path(self.setting("config_directory"))
        self.queue = Path(self.setting("queue_directory"))
        self.main_cf = (self.config / "main.cf").resolve()
        self.overrides = self._overrides()

    @property
    def is_default(self) -> bool:
        """Whether it is the instance that commands mean when none is named."""
        return self._given is None

    @property
    def version(self) -> tuple[int, ...]:
        """Its release, such as (3, 7); of a snapshot the release that it leads to."""
        return tuple(int(number) for number in re.findall("[0-9]+", self.setting("mail_version"))[:2])

    def setting(self, name: str) -> str:
        """Return the value that main.cf (or the default) gives *name*, one of ours, references expanded."""
        return self._settings[name]

    def milters(self, parameter: str) -> list[Milter]:
        """Return the milters of ``smtpd_milters`` or ``non_smtpd_milters``."""
        return milter_list.parse(self.setting(parameter))

    def unexpanded(self, parameter: str) -> list[Milter]:
        """Return the milters of *parameter* as main.cf has them, references left as they are."""
        return milter_list.parse(self._read(parameter).get(parameter, ""))

    def other_instances(self) -> list[Path]:
        """Return the configuration directories of the further instances that postmulti(1) knows."""
        return [Path(word) for word in self.setting("multi_instance_directories").replace(",", " ").split()]

    def chrooted(self) -> list[str]:
        """Return the services that call milters and whose root may be the queue directory, such as ``smtp/inet``."""
        fields = self._read("-F")
        return [
            service
            for key, value in fields.items()
            for service, _, field in [key.rpartition("/")]
            if field == "command" and value.split()[0] in ("smtpd", "cleanup") and fields[f"{service}/chroot"] != "n"
        ]

    def unchroot(self) -> str:
        """Return the command by which they run without chroot."""
        command = self.command("postconf", "-F", *(f"{name}/chroot=n" for name in self.chrooted()))
        return f"`{' '.join(command)}`, then reload"

    def is_running(self) -> bool:
        """Return whether its master runs; only root is told. :class:`UnavailableError` if it cannot be asked.

        Not by ``postfix status``, which writes its answer into the mail log that is being looked at.
        """
        master = Path(self.setting("daemon_directory"), "master")
        command = [str(master), "-c", str(self.config), "-t"]
        try:
            done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
        except OSError as error:
            raise UnavailableError(f"{master}: {error.strerror}") from None
        return done.returncode != 0  # master(8): zero when nobody holds its lock file

    def reload(self) -> None:
        """Have it read its configuration again; :class:`UnavailableError` with what it said."""
        done = self._run("postfix", "reload")
        if done.returncode:
            raise UnavailableError(f"postfix reload: {done.stderr.strip() or done.stdout.strip()}")

    def check(self) -> str:
        """Return what ``postfix check`` has to say; empty if all is well."""
        done = self._run("postfix", "check")
        return (done.stderr + done.stdout).strip()

    def command(self, name: str, *arguments: str) -> list[str]:
        """Return the command line of Postfix's program *name* for this instance."""
        path = tool(name)
        if path is None:
            raise UnavailableError(f"{name}: not found: expected an installed Postfix")
        option = "-C" if name == "sendmail" else "-c"
        # Without -c postfix(1) is about every instance there is, and fails where one of them does not run.
        directory = self.config if name == "postfix" else self._given
        return [path, *([] if directory is None else [option, str(directory)]), *arguments]

    def queued(self) -> dict[str, int]:
        """Return how many messages wait in each queue, as far as we may look."""
        found = {}
        for name in ("maildrop", "incoming", "active", "deferred", "hold"):
            directory = self.queue / name
            try:
                found[name] = sum(1 for path in directory.rglob("*") if path.is_file())
            except OSError:
                found[name] = 0
        return found

    def _read(self, *options: str) -> dict[str, str]:
        done = self._run("postconf", *options)
        if done.returncode:
            raise UnavailableError(f"postconf: {done.stderr.strip()}")
        settings = {}
        for line in done.stdout.splitlines():
            name, equals, value = line.partition("=")
            if equals:
                settings[name.strip()] = value.strip()
        return settings

    def _overrides(self) -> list[Override]:
        found = []
        for key, value in self._settings_of_services().items():
            service, _, parameter = key.rpartition("/")
            if parameter in ("smtpd_milters", "non_smtpd_milters", "milter_default_action") or (
                parameter == "receive_override_options" and "no_milters" in value
            ):
                found.append(Override(service, parameter, value))
        return found

    def _settings_of_services(self) -> dict[str, str]:
        try:
            return self._read("-x", "-P")
        except UnavailableError:  # a value that names itself, which postconf cannot expand
            return self._read("-P")

    def _run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        # latin-1: a configuration is bytes, and a value in another charset is no reason to fail
        return subprocess.run(
            self.command(name, *arguments),
            capture_output=True,
            encoding="latin-1",
            check=False,
            stdin=subprocess.DEVNULL,
        )
