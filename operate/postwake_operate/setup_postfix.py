"""Which steps put Postwake beside one Postfix, from what is there."""

from __future__ import annotations

import grp
import ipaddress
import pwd
import shutil
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from postwake import config as configuration
from postwake.config import Config
from postwake.config_text import example
from postwake.errors import ConfigError, UnavailableError, UsageError
from postwake_operate import milter_list
from postwake_operate.plan import (
    Directory,
    MainCf,
    Membership,
    NewFile,
    NewKeys,
    NewStore,
    Step,
    Units,
    systemctl,
    systemd_runs,
)
from postwake_operate.postfix import Postfix

GROUP = "postwake"
MILTER_USER = "postwake-milter"
LOG_USER = "postwake-logparse"
WEB_USER = "postwake-pixelserver"
PARAMETERS = ("smtpd_milters", "non_smtpd_milters")
LOGS = (Path("/var/log/mail.log"), Path("/var/log/maillog"), Path("/var/log/mail"))
"""Where syslog daemons write mail's facility: Debian and Ubuntu, Red Hat, SUSE."""
OPTIONS = "default_action=accept, connect_timeout=5s, content_timeout=30s"
"""Mail goes on untracked when the milter is away (accept). Postfix would wait 30 s for a connection and 300 s for an
answer; ours takes milliseconds, and gives up by itself long before 30 s."""


@dataclass(slots=True)
class Plan:
    """What setup would do, and what a person should know."""

    steps: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def needed(self) -> list[Step]:
        """Return the steps that have something to do."""
        return [step for step in self.steps if step.needed()]


def milter_address(postfix: Postfix, socket: Path) -> str:
    """Return the socket as main.cf names it: relative to the queue directory, the root of chrooted processes."""
    if socket.is_relative_to(postfix.queue):
        return f"unix:{socket.relative_to(postfix.queue)}"
    return f"unix:{socket}"


def milter_addresses(postfix: Postfix, socket: Path) -> frozenset[str]:
    """Return every way in which main.cf may name the socket."""
    return frozenset({milter_address(postfix, socket), f"unix:{socket}", f"local:{socket}"})


def new_config(postfix: Postfix, url: str, domains: tuple[str, ...]) -> str:
    """Return a configuration for *postfix*: the example with what must be said filled in, checked."""
    if not url or not domains:
        raise UsageError("no configuration yet: expected --url https://TRACKING.HOST and --domain SENDER.DOMAIN")
    filled = {
        ("tracking", "url"): f'"{url}"',
        ("tracking", "sender_domains"): f"[{', '.join(f'{chr(34)}{domain}{chr(34)}' for domain in domains)}]",
    }
    socket = postfix.queue / "postwake" / "milter.sock"
    if socket != configuration.Milter().socket:
        filled["milter", "socket"] = f'"{socket}"'
    group = _group_of(postfix)
    if group:
        filled["milter", "socket_group"] = f'"{group}"'
    filled |= _log_source(postfix.setting("maillog_file"), LOGS)
    networks = _internal_networks(postfix)
    if networks:
        filled["mta", "internal_networks"] = f"[{', '.join(networks)}]"
    return filled_example(filled)


def filled_example(filled: dict[tuple[str, str], str]) -> str:
    """Return the example configuration with these values (section and key to TOML) filled in, checked."""
    filled = dict(filled)
    section = ""
    lines = []
    for line in example().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        key = line.removeprefix("# ").partition(" = ")[0]
        value = filled.pop((section, key), None) if line.startswith("# ") else None
        lines.append(line if value is None else f"{key} = {value}")
    text = "\n".join(lines) + "\n"
    configuration.parse(tomllib.loads(text), "the new configuration")
    return text


def _log_source(maillog_file: str, usual: tuple[Path, ...]) -> dict[tuple[str, str], str]:
    """Return where the log is, as keys and TOML values: Postfix's own file, syslog's, or the journal if there is none.

    Debian 12 installs no syslog daemon any more: the journal is then the only log.
    """
    if maillog_file.startswith("/") and not maillog_file.startswith("/dev/"):
        return {("logparse", "path"): f'"{maillog_file}"'}
    found = next((path for path in usual if path.exists()), None)
    if found is not None:
        return {("logparse", "path"): f'"{found}"'}
    return {("logparse", "source"): '"journal"'} if shutil.which("journalctl") is not None else {}


def _internal_networks(postfix: Postfix) -> list[str]:
    """Return mynetworks as TOML strings if all of it is plain networks; else none: then our default stands."""
    found = []
    for word in postfix.setting("mynetworks").replace(",", " ").split():
        network = word.replace("[", "").replace("]", "")
        try:
            ipaddress.ip_network(network)
        except ValueError:
            return []
        found.append(f'"{network}"')
    return found


def _group_of(postfix: Postfix) -> str:
    """Return the name of the group that Postfix's processes run with: the mail owner's own, and no other."""
    try:
        return grp.getgrgid(pwd.getpwnam(postfix.setting("mail_owner")).pw_gid).gr_name
    except KeyError:
        return ""


def make_plan(
    postfix: Postfix, config_path: Path, *, url: str, domains: tuple[str, ...], with_services: bool = True
) -> Plan:
    """Return the steps for *postfix*. :class:`ConfigError` if the configuration there is, is wrong."""
    plan = Plan()
    if config_path.exists():
        if url or domains:
            _refuse_second_configuration(config_path, url, domains)
        config = configuration.load(config_path)
        configuration.require_tracking(config, str(config_path))
    else:
        text = new_config(postfix, url, domains)
        config = configuration.parse(tomllib.loads(text), str(config_path))
        plan.steps.append(NewFile(config_path, text.encode(), 0o644))
    group = _group_of(postfix)
    plan.steps += [
        NewKeys(config.tracking.keys, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), GROUP),
        NewStore(config.store.path, config.store.spool_dir, GROUP),
        Directory(config.milter.socket.parent, MILTER_USER, group, 0o2750),
        Membership(MILTER_USER, group),
        Membership(LOG_USER, "adm"),
    ]
    if with_services and systemd_runs():
        if systemctl("cat", "postwake-milter.service").returncode == 0:
            require_users(MILTER_USER, LOG_USER, WEB_USER)
            plan.steps.append(Units(systemctl))
        else:
            plan.notes.append(
                "Units are not installed: start `postwake milter`, `logparse` and `pixelserver` yourself."
            )
    elif with_services:
        plan.notes.append(
            "systemd does not run here: start `postwake milter`, `logparse` and `pixelserver` by your own means."
        )
    plan.steps.append(_main_cf(postfix, config))
    plan.notes += _notes(postfix, config)
    return plan


def require_users(*names: str) -> None:
    """Raise :class:`UnavailableError` unless the users that the units name, and their group, are there."""
    missing = [] if any(entry.gr_name == GROUP for entry in grp.getgrall()) else [f"group {GROUP}"]
    known = {entry.pw_name for entry in pwd.getpwall()}
    missing += [f"user {name}" for name in names if name not in known]
    if missing:
        raise UnavailableError(
            f"not there: {', '.join(missing)}: expected those of the installed units: `systemd-sysusers` makes them"
            " once systemd/sysusers.conf is /etc/sysusers.d/postwake.conf; or --no-services"
        )


def _refuse_second_configuration(path: Path, url: str, domains: tuple[str, ...]) -> None:
    """Accept what the file says already, so that a command can be repeated; :class:`UsageError` for anything else."""
    tracking = configuration.load(path).tracking
    wanted = {"tracking.url": url and url.rstrip("/"), "tracking.sender_domains": [item.lower() for item in domains]}
    for (key, value), there in zip(wanted.items(), (tracking.url, tracking.sender_domains), strict=True):
        if value and value != there:
            raise UsageError(
                f"{path} is there already and says {key} = {there!r}: expected {value!r} to be put in there"
            )


def _main_cf(postfix: Postfix, config: Config) -> MainCf:
    addresses = milter_addresses(postfix, config.milter.socket)
    ours = _entry(postfix, milter_address(postfix, config.milter.socket))
    entries = []
    for parameter in PARAMETERS:
        try:
            if milter_list.find(postfix.milters(parameter), addresses) is None and not _follows(postfix, parameter):
                entries.append((parameter, ours))
        except ValueError as error:
            raise ConfigError(f"{postfix.main_cf}: {parameter}: {error}") from None
    return MainCf(postfix.main_cf, tuple(entries), addresses)


def _entry(postfix: Postfix, address: str) -> str:
    """Return what is put into the lists. Before Postfix 3.0 no milter could have settings of its own."""
    if postfix.version >= (3, 0):
        return f"{{ {address}, {OPTIONS} }}"
    action = postfix.setting("milter_default_action")
    if action != "accept":
        raise UnavailableError(
            f"Postfix {postfix.setting('mail_version')} has one milter_default_action for all milters, {action}:"
            " expected accept, or Postfix 3.0, so that mail goes on when the milter is away. `postconf -e"
            " milter_default_action=accept` says so for all of them, signers too; then run this again"
        )
    return address


def _follows(postfix: Postfix, parameter: str) -> bool:
    """Return whether *parameter* takes its value from smtpd_milters, and so has our entry once that has."""
    if parameter == "smtpd_milters":
        return False
    return any(milter.address in ("$smtpd_milters", "${smtpd_milters}") for milter in postfix.unexpanded(parameter))


def _notes(postfix: Postfix, config: Config) -> list[str]:
    notes = []
    addresses = milter_addresses(postfix, config.milter.socket)
    for override in postfix.overrides:
        named = any(address in override.value for address in addresses) or f"${override.parameter}" in override.value
        if override.parameter in PARAMETERS and not named:
            notes.append(
                f"master.cf: {override.service} has -o {override.parameter}={override.value}: mail through it stays"
                f" untracked. Add {milter_address(postfix, config.milter.socket)} there yourself if it should be."
            )
        elif override.parameter == "receive_override_options":
            notes.append(
                f"master.cf: {override.service} has -o receive_override_options={override.value}: no milter sees its"
                " mail. Right for what comes back from a content filter."
            )
    notes += [
        f"Another Postfix instance: {directory}. It has its own main.cf: --postfix-config {directory} sets it up."
        for directory in postfix.other_instances()
    ]
    if not config.milter.socket.is_relative_to(postfix.queue) and postfix.chrooted():
        notes.append(
            f"milter.socket = {config.milter.socket} is outside of {postfix.queue}: {', '.join(postfix.chrooted())} run"
            f" chrooted there and cannot reach it. Mail stays untracked until they do not: {postfix.unchroot()}."
        )
    return notes
