"""The configuration: one TOML file, typed, each key documented with its default here and nowhere else.

``postwake config example`` prints what :mod:`postwake.config_text` makes of these classes; docs/configuration.md is made
from the same. Every problem in a file is found at once and reported with file, key, value and expectation.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from postwake.config_values import (
    Domain,
    Listener,
    MailAddress,
    Mode,
    Network,
    OptionalListener,
    OptionalMailAddress,
    PrivacyName,
    TrackingUrl,
)
from postwake.errors import ConfigError
from postwake.tokens import Privacy

DEFAULT_PATH = Path("/etc/postwake/postwake.toml")
MAX_DAYS = 36_500
"""A century: longer is a typing mistake, and would not fit into 64 bits of microseconds."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Store(_Section):
    """The SQLite file that everything is written to and read from."""

    path: Path = Field(
        default=Path("/var/lib/postwake/postwake.db"),
        description="The file. Its directory must be writable by the services' group.",
    )
    spool_dir: Path = Field(
        default=Path("/var/lib/postwake/spool"),
        description="Where events wait in fsynced files while the store cannot be written.",
    )
    busy_timeout_ms: int = Field(
        5000, ge=0, le=600_000, description="How long one write waits for another process's, milliseconds."
    )


class Tracking(_Section):
    """What is tracked, and how. `[domains."example.com"]` overrides the first keys for one sender domain."""

    url: TrackingUrl = Field(
        default="",
        description="Where pixels and links point: https://HOST, resolved by the public to the pixel server. Required by milter and pixelserver.",
    )
    opens: bool = Field(default=True, description="Insert the open pixel into HTML parts.")
    clicks: bool = Field(
        default=True, description="Let http and https links in HTML parts go through the tracking host."
    )
    text_clicks: bool = Field(
        default=False, description="The same for links in text/plain parts. They become long and ugly."
    )
    pixel: Literal["bottom", "top", "both"] = Field(
        default="bottom", description="Where the pixel stands. Gmail clips mail at 102 kB and the bottom pixel with it."
    )
    privacy: PrivacyName = Field(
        default="full",
        description="What is kept of a reader: full, pseudonymous (keyed hashes), anonymous (no recipient), off (links work, nothing is kept).",
    )
    list_unsubscribe: Literal["off", "add", "wrap"] = Field(
        default="off",
        description="off; add: one-click List-Unsubscribe (RFC 8058) where there is no web address; wrap: also put ours in place of a sender's own that takes one click. With add, and before a mailto:, nobody but Postwake hears of an unsubscription (docs/rewriting.md).",
    )
    sender_domains: list[Domain] = Field(
        default_factory=list,
        description="Envelope or header sender domains that are tracked. Subdomains are named one by one. Empty: nothing is.",
    )
    keys: Path = Field(default=Path("/etc/postwake/keys"), description="The signing keys; `postwake key new` adds one.")
    exclude_hosts: list[str] = Field(
        default_factory=list,
        description='Links to these hosts stay as they are: "example.org", or "*.example.org" for its subdomains.',
    )
    visible_url_links: bool = Field(
        False,
        description="Wrap links whose visible text is the address of another host than the tracking host's, too: phishing filters warn of those.",
    )
    unsubscribe_links: bool = Field(default=False, description="Wrap unsubscribe links in the body too.")
    dkim_signed: bool = Field(
        False, description="Rewrite mail that already carries a DKIM-Signature. This breaks that signature."
    )


class DomainOverride(_Section):
    """Overrides of `[tracking]` for one sender domain."""

    url: TrackingUrl | None = Field(default=None, description="As in [tracking].")
    opens: bool | None = Field(default=None, description="As in [tracking].")
    clicks: bool | None = Field(default=None, description="As in [tracking].")
    text_clicks: bool | None = Field(default=None, description="As in [tracking].")
    pixel: Literal["bottom", "top", "both"] | None = Field(default=None, description="As in [tracking].")
    privacy: PrivacyName | None = Field(default=None, description="As in [tracking].")
    list_unsubscribe: Literal["off", "add", "wrap"] | None = Field(default=None, description="As in [tracking].")


class Mta(_Section):
    """The mail server beside which this runs: what is ours and what is not."""

    internal_networks: list[Network] = Field(
        default_factory=lambda: ["127.0.0.0/8", "::1/128"],
        description="Mail from these clients is outgoing. So is mail from authenticated clients and mail submitted by sendmail(1). All other mail is inbound and never tracked.",
    )
    local_domains: list[Domain] = Field(
        default_factory=list,
        description="Domains whose mail ends here, such as Postfix's mydestination, virtual_mailbox_domains and relay_domains. Mail of which the log does not say where it comes from (the MTA's own notices) is inbound if it first goes to one of them or into a mailbox, else outgoing. Empty: what does not go into a mailbox is inbound if it has no sender.",
    )


class Milter(_Section):
    """The milter that Postfix's cleanup and smtpd talk to."""

    socket: Path = Field(
        default=Path("/var/spool/postfix/postwake/milter.sock"),
        description="UNIX socket, in Postfix's queue directory so that chrooted processes reach it as unix:postwake/milter.sock. TCP on loopback costs 40 ms a message.",
    )
    socket_mode: Mode = Field(default="0660", description="Its mode.")
    socket_group: str = Field(default="", description="Its group, such as postfix. Empty: the service's own.")
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Worker processes. One for every two cores: the rest is Postfix's. One rewrites some 500 messages a second, and what waits together is committed together.",
    )
    threads: int = Field(default=2, ge=1, le=64, description="Rewriting threads in each worker process.")
    max_message_bytes: int = Field(default=10_000_000, ge=1000, description="Larger bodies go out as they came.")
    max_held_bytes: int = Field(
        default=128_000_000,
        ge=0,
        description="Bodies that each worker holds at once: past that, messages that come meanwhile go out as they came. A worker may take some three times as much memory.",
    )
    remember_bytes: int = Field(
        default=16_000_000,
        ge=0,
        description="Memory of each worker for HTML parts seen lately: the same newsletter is judged once, not once a recipient. 0: none.",
    )
    rewrite_timeout_s: float = Field(
        5.0, gt=0, le=120, description="A message that takes longer goes out as it came, seconds."
    )
    store_timeout_ms: int = Field(
        2000,
        ge=10,
        le=60_000,
        description="If the store has not taken a message's row by then, it goes to the spool, milliseconds.",
    )


class LogParse(_Section):
    """The reader of the MTA's log."""

    source: Literal["file", "journal", "socket", "stdin"] = Field(
        default="file",
        description="file: follow `path`; journal: journalctl; socket: syslog messages on `listen`; stdin: what is piped in, to its end.",
    )
    path: Path = Field(
        default=Path("/var/log/mail.log"), description="The log file. Exim on Debian writes /var/log/exim4/mainlog."
    )
    archive_dirs: list[Path] = Field(
        default_factory=list,
        description="Further directories with rotated files (logrotate's `olddir`); beside the log is always looked.",
    )
    start: Literal["beginning", "end"] = Field(
        default="beginning", description="Where a log that was never read is begun."
    )
    listen: Path = Field(default=Path("/run/postwake/log.sock"), description='The UNIX socket of `source = "socket"`.')
    listen_type: Literal["datagram", "stream"] = Field(
        default="datagram", description="What kind of socket: rsyslog's omuxsock sends datagrams."
    )
    journal_identifiers: list[str] = Field(
        default_factory=list, description="Only these syslog identifiers of the journal; empty: facility mail."
    )
    mta: Literal["auto", "postfix", "exim"] = Field(
        default="auto", description="Whose log it is. auto looks at the first lines."
    )
    timezone: str = Field(
        default="", description="Zone of stamps that name none, such as Europe/Berlin. Empty: this machine's."
    )
    reply_rules: Path | None = Field(default=None, description="Your own reply rules, tried before the shipped ones.")


class PixelServer(_Section):
    """The public web server: pixels, links, unsubscribing."""

    listen: Listener = Field(
        default="127.0.0.1:8025", description="HOST:PORT or unix:/PATH. Public addresses want tls_certificate."
    )
    workers: int = Field(default=1, ge=1, le=64, description="Worker processes.")
    socket_mode: Mode = Field(
        default="0660", description="Mode of a UNIX socket: who may connect says who the reader is."
    )
    socket_group: str = Field(default="", description="Its group, such as www-data. Empty: the service's own.")
    proxy_hops: int = Field(
        0, ge=0, le=5, description="How many proxies before us set X-Forwarded-For. 0: the peer is the reader."
    )
    trusted_proxies: list[Network] = Field(
        default_factory=lambda: ["127.0.0.0/8", "::1/128"],
        description="Peers whose X-Forwarded-For is believed, if proxy_hops says there is one. Those on the UNIX socket always are.",
    )
    store_timeout_ms: int = Field(
        1000,
        ge=10,
        le=60_000,
        description="Within this the reader is answered: if the store has not taken the hit after nine tenths of it, the spool does. Milliseconds.",
    )
    tls_certificate: Path | None = Field(default=None, description="PEM chain, if this faces the net without a proxy.")
    tls_key: Path | None = Field(default=None, description="Its private key.")
    denied_destinations: Path | None = Field(
        None, description="File of hosts and URL prefixes, one a line, that links no longer lead to."
    )
    scanner_networks: Path | None = Field(
        None, description="File of networks, one a line, whose hits are machines: your own additions."
    )
    scanner_agents: Path | None = Field(
        None, description="File of rules on user agents, tried before the shipped ones, in the form of agents.toml."
    )
    notify_sender_unsubscribe: bool = Field(
        True,
        description='Pass an unsubscription on to the sender\'s own one-click target, where list_unsubscribe = "wrap" took its place.',
    )


class Metrics(_Section):
    """One listener a service for Prometheus. Empty: none. They say nothing about persons but are not for the public."""

    milter: OptionalListener = Field(default="127.0.0.1:9861", description="The milter's.")
    logparse: OptionalListener = Field(
        default="127.0.0.1:9862", description="The log parser's, which also counts what became of mail, from the store."
    )
    pixelserver: OptionalListener = Field(default="127.0.0.1:9863", description="The pixel server's.")


class Retention(_Section):
    """How long what is kept; `postwake db purge` (from a timer) removes the rest. Links never break by it."""

    events_days: int = Field(
        default=0, ge=0, le=MAX_DAYS, description="Days that messages, deliveries and events are kept. 0: for ever."
    )
    client_days: int = Field(
        default=90, ge=0, le=MAX_DAYS, description="Days that readers' addresses and agents are kept. 0: for ever."
    )
    rollup_hours_days: int = Field(
        400, ge=0, le=MAX_DAYS, description="Days that hourly rollups are kept; daily ones stay. 0: for ever."
    )


class Backup(_Section):
    """The backups that `postwake db backup` makes by itself, every night from the maintenance timer."""

    directory: Path = Field(
        default=Path("/var/lib/postwake/backup"),
        description="Where they are kept. Another disk is better; the unit must then be allowed to write there (docs/operations.md).",
    )
    keep: int = Field(default=3, ge=0, le=1000, description="How many are kept, each a whole copy. 0: none is made.")


class Report(_Section):
    """Reports by mail: `postwake report --mail`, which postwake-report.timer starts every Monday."""

    to: list[MailAddress] = Field(default_factory=list, description="Who gets it. Empty: --mail is refused.")
    sender: OptionalMailAddress = Field(
        default="", description="Its From and envelope sender. Empty: postwake@ and this machine's full name."
    )
    sendmail: Path = Field(default=Path("/usr/sbin/sendmail"), description="The MTA's sendmail(1).")
    addresses: bool = Field(
        False,
        description="Name the unsubscribed, dead and inactive addresses in whole reports. Else their number and domains.",
    )
    inactive_days: int = Field(
        90,
        ge=0,
        le=3650,
        description="Over how many days a recipient is looked at for signs of life; reads every delivery of them, and is left out of --text and --html where they are more than 250,000. 0: leave it out.",
    )


class Config(_Section):
    """Everything."""

    store: Store = Field(default_factory=Store)
    tracking: Tracking = Field(default_factory=Tracking)
    domains: dict[Domain, DomainOverride] = Field(default_factory=dict)
    mta: Mta = Field(default_factory=Mta)
    milter: Milter = Field(default_factory=Milter)
    logparse: LogParse = Field(default_factory=LogParse)
    pixelserver: PixelServer = Field(default_factory=PixelServer)
    metrics: Metrics = Field(default_factory=Metrics)
    retention: Retention = Field(default_factory=Retention)
    backup: Backup = Field(default_factory=Backup)
    report: Report = Field(default_factory=Report)

    def tracking_for(self, domain: str) -> Tracking:
        """Return the settings for mail of sender *domain*: `[tracking]` with that domain's overrides."""
        override = self.domains.get(domain.lower())
        if override is None:
            return self.tracking
        changed = {key: value for key, value in override.model_dump().items() if value is not None}
        return self.tracking.model_copy(update=changed)

    def own_hosts(self) -> frozenset[str]:
        """Return every tracking host, lower case, with the path that is ours if not all of it is: ``host/prefix``.
        Links to them are never wrapped again."""
        urls = [self.tracking.url, *(override.url for override in self.domains.values())]
        found = [(host, parts.path) for url in urls if url and (host := (parts := urlsplit(url)).hostname)]
        return frozenset((f"[{host}]" if ":" in host else host) + path for host, path in found)

    def privacy_for(self, domain: str) -> Privacy:
        """Return the configured privacy mode for mail of sender *domain*."""
        return Privacy.parse(self.tracking_for(domain).privacy)


def load(path: Path) -> Config:
    """Read the file at *path*; :class:`ConfigError` lists everything that is wrong with it."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file; `postwake config example` prints one") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    return parse(data, str(path))


def parse(data: dict[str, Any], origin: str) -> Config:
    """Check *data* as read from TOML file *origin*; :class:`ConfigError` lists everything that is wrong."""
    problems: list[str] = []
    config = None
    try:
        # By way of JSON, whose strict mode takes a string for a path but never "5" for 5.
        config = Config.model_validate_json(json.dumps(data, default=_not_json))
    except ValidationError as error:
        problems += [_problem(origin, dict(item)) for item in error.errors()]
    problems += _contradictions(data, origin)
    if problems or config is None:
        raise ConfigError(*problems)
    return config


def _not_json(value: object) -> dict[str, str]:
    # TOML's dates and times. As plain text they would pass for a path or a name.
    return {type(value).__name__: str(value)}


def _contradictions(data: dict[str, Any], origin: str) -> list[str]:
    """Return what single keys cannot show, from *data* of any shape: wrong types have been reported already."""
    problems = []
    pixelserver, domains = data.get("pixelserver"), data.get("domains")
    if isinstance(pixelserver, dict) and ("tls_certificate" in pixelserver) != ("tls_key" in pixelserver):
        problems.append(f"{origin}: pixelserver.tls_certificate and pixelserver.tls_key: expected both or neither")
    tracking = data.get("tracking", {})
    listed = tracking.get("sender_domains", []) if isinstance(tracking, dict) else None
    if isinstance(domains, dict) and isinstance(listed, list):
        known = {name.lower() for name in listed if isinstance(name, str)}
        problems += [
            f"{origin}: domains.{json.dumps(name)}: not among tracking.sender_domains: expected one of them"
            for name in domains
            if name.lower() not in known
        ]
    return problems


def require_tracking(config: Config, origin: str) -> None:
    """Raise :class:`ConfigError` unless *config* says enough to rewrite mail or to serve links."""
    if not config.tracking.url:
        raise ConfigError(f'{origin}: tracking.url = "": expected https://HOST, where pixels and links point')


def _problem(origin: str, item: dict[str, Any]) -> str:
    """Say one problem: file, key, value, expectation."""
    key = ".".join(str(part) for part in item["loc"] if part != "[key]") or "(top level)"
    if item["type"] == "extra_forbidden":
        return f"{origin}: {key}: unknown key; `postwake config example` lists those there are"
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{origin}: {key} = {json.dumps(item['input'], default=str)}: {message[0].lower()}{message[1:]}"
