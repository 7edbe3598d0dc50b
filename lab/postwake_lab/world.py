"""A private Postfix with our milter, sinks for its next hops, and Postwake's services, started and stopped together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from postwake_lab.ports import free_ports
from postwake_lab.postfix import Postfix
from postwake_lab.services import Services
from postwake_lab.sink import Behaviour, Delivered, Sink

MILTER = "{ unix:postwake/milter.sock, default_action=accept, connect_timeout=5s, content_timeout=30s }"


class World:
    """Everything one test or demo needs; nothing is shared with another."""

    def __init__(
        self,
        directory: Path,
        domains: Mapping[str, Behaviour],
        *,
        main: Mapping[str, str] | None = None,
        master_extra: str = "",
        keep_mail: bool = True,
        workers: int = 1,
        tracking: str = "",
        pixelserver: str = "",
        sender_domains: tuple[str, ...] = ("example.com",),
    ) -> None:
        """Lay it out under *directory*: each of *domains* is a sink with that behaviour."""
        directory.chmod(0o755)
        ports = free_ports(len(domains) + 5)
        self.directory = directory
        self.sinks = {
            domain: Sink(directory / f"sink-{domain}", ports.pop(), behaviour, keep=keep_mail)
            for domain, behaviour in domains.items()
        }
        self.postfix = Postfix(
            directory / "postfix",
            ports.pop(),
            transport={domain: f"smtp:[127.0.0.1]:{sink.port}" for domain, sink in self.sinks.items()},
            main={"smtpd_milters": MILTER, "non_smtpd_milters": MILTER, **(main or {})},
            master_extra=master_extra,
        )
        self.services = Services(
            directory / "postwake",
            self.postfix.log,
            self.postfix.queue / "postwake" / "milter.sock",
            ports.pop(),
            (ports.pop(), ports.pop(), ports.pop()),
            domains=sender_domains,
            workers=workers,
            tracking=tracking,
            pixelserver=pixelserver,
        )

    def __enter__(self) -> World:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, *services: str) -> None:
        """Start sinks, services (all if none is named) and Postfix."""
        for sink in self.sinks.values():
            sink.start()
        self.services.start(*services)
        self.postfix.start()

    def stop(self) -> None:
        """Stop everything that runs."""
        self.postfix.stop()
        self.services.close()
        for sink in self.sinks.values():
            sink.stop()

    def delivered(self, *domains: str) -> list[Delivered]:
        """Return what the sinks of *domains* (all if none is named) took."""
        return [item for domain in domains or tuple(self.sinks) for item in self.sinks[domain].delivered()]
