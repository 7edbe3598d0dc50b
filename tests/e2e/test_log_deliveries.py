"""One table of what becomes of mail, and two MTAs that really do it: the store says exactly that for both.

Mail goes through a private Postfix or Exim to sinks that take it, put it off or refuse it; the MTA's own log file is
followed by the ``postwake logparse`` service. No milter: the log alone is the witness.
"""

from __future__ import annotations

import smtplib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import pytest

from postwake.store.connection import open_reader
from postwake_lab.content_filter import ContentFilter
from postwake_lab.exim import Exim, EximMissingError, fetch_exim
from postwake_lab.ports import free_ports
from postwake_lab.postfix import Postfix
from postwake_lab.services import Services
from postwake_lab.sink import Sink

SENDER = "news@example.com"
Fate = tuple[str, str | None, tuple[str, ...], str | None]
"""Recipient, the recipient asked for if it is another, what happened in order (repeated deferrals once), category."""

EXPECTED: dict[str, list[Fate]] = {
    "accepted": [("a@accept.test", None, ("sent",), None)],
    "greylisted": [("g@later.test", None, ("deferred", "sent"), None)],
    "refused": [("n@refuse.test", None, ("bounced",), "bad-mailbox")],
    "no-server": [("d@down.test", None, ("deferred",), "network")],
    "given-up": [("e@expire.test", None, ("deferred", "expired"), "expired")],
    "three-fates": [
        ("a2@accept.test", None, ("sent",), None),
        ("d2@down.test", None, ("deferred",), "network"),
        ("n2@refuse.test", None, ("bounced",), "bad-mailbox"),
    ],
    "local": [("nobody@local.test", None, ("sent",), None)],
    "alias": [
        ("x@accept.test", "team@ours.test", ("sent",), None),
        ("y@refuse.test", "team@ours.test", ("bounced",), "bad-mailbox"),
    ],
}
NOTICES = ("alias", "given-up", "refused", "three-fates")
"""What the sender is told of; each notice is a message of its own, delivered to the sender."""
STRANGER = "stranger@accept.test"
"""A sender in no domain of ours: the notice goes out."""


class Mta(Protocol):
    """What both MTAs of the lab can do."""

    port: int
    log: Path

    def start(self) -> None: ...
    def stop(self) -> None: ...


@dataclass
class Site:
    """An MTA, the internet, and the log parser."""

    directory: Path
    mta: Any
    services: Services
    sinks: dict[str, Sink]
    others: list[Any] = field(default_factory=list)

    def start(self) -> None:
        """Start everything."""
        for part in (*self.sinks.values(), *self.others):
            part.start()
        self.mta.start()
        self.services.start("logparse")

    def stop(self) -> None:
        """Stop everything."""
        self.mta.stop()
        self.services.close()
        for part in (*self.sinks.values(), *self.others):
            part.stop()

    def send(self, name: str, *recipients: str, sender: str = SENDER) -> None:
        """Send a message that is known by its Message-ID."""
        text = f"From: {sender}\r\nMessage-ID: <{name}@example.com>\r\nSubject: {name}\r\n\r\nhello\r\n"
        with smtplib.SMTP("127.0.0.1", self.mta.port, local_hostname="client.test") as client:
            client.sendmail(sender, list(recipients), text.encode())

    def events(self, name: str) -> dict[str, list[str]]:
        """Return what happened to each recipient of message *name* so far."""
        found: dict[str, list[str]] = {}
        for recipient, kind in self.ask(
            "SELECT delivery.recipient, event_type.name FROM event JOIN event_type ON event_type.id = event.type"
            " JOIN delivery ON delivery.id = event.delivery JOIN message ON message.id = delivery.message"
            " WHERE message_id = ? ORDER BY event.id",
            f"{name}@example.com",
        ):
            found.setdefault(recipient, []).append(kind)
        return found

    def ask(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a query on the store."""
        with closing(open_reader(self.services.directory / "postwake.db")) as connection:
            return [tuple(row) for row in connection.execute(query, values)]

    def wait(self, what: str, count: int) -> None:
        """Wait until that many deliveries are as *what*, a condition on the view, says."""
        self.services.settle(f"SELECT count(*) FROM deliveries WHERE {what}", count, timeout_s=30)


def make_site(directory: Path, mta: str, filtered: bool = False) -> Site:
    """Lay a site out under *directory*; *filtered*: a content filter takes all mail that Postfix gets by SMTP."""
    accept, later, refuse, down, expire, port, pixel, filter_port, back_port, *metrics = free_ports(12)
    sinks = {
        "accept.test": Sink(directory / "accept", accept),
        "later.test": Sink(directory / "later", later, "450"),
        "refuse.test": Sink(directory / "refuse", refuse, "550"),
    }
    # Exim remembers hosts by address and port: what is known of one domain's must not be of another's.
    ports = {"down.test": down, "expire.test": expire, "example.com": accept}
    ports |= {domain: sink.port for domain, sink in sinks.items()}
    others: list[Any] = []
    instance: Any
    if mta == "exim":
        instance = Exim(
            directory / "exim",
            port,
            transport=ports,
            aliases={"team@ours.test": "x@accept.test, y@refuse.test"},
            retry={"expire.test": "F,2s,1s"},
        )
    else:
        aliases = directory / "aliases"
        aliases.write_text("team@ours.test x@accept.test, y@refuse.test\n")
        main = {
            "virtual_alias_domains": "ours.test",
            "virtual_alias_maps": f"texthash:{aliases}",
            "maximal_queue_lifetime": "2s",
        }
        extra = ""
        if filtered:
            main["content_filter"] = f"smtp:[127.0.0.1]:{filter_port}"
            extra = f"127.0.0.1:{back_port} inet n - n - - smtpd -o content_filter="
            others.append(ContentFilter(filter_port, back_port))
        instance = Postfix(
            directory / "postfix",
            port,
            transport={domain: f"smtp:[127.0.0.1]:{number}" for domain, number in ports.items()},
            main=main,
            master_extra=extra,
        )
    services = Services(
        directory / "postwake",
        instance.log,
        directory / "socket" / "milter.sock",
        pixel,
        tuple(metrics[:3]),
        local_domains=("example.com",),
        mta=mta,
    )
    return Site(directory, instance, services, sinks, others)


@pytest.fixture
def start_site(directory: Path) -> Iterator[Callable[..., Site]]:
    """Start a site with the MTA of that name; it is stopped at the end, and its log shown when the test fails."""
    sites: list[Site] = []

    def start(mta: str, **options: Any) -> Site:
        if mta == "exim":
            try:
                fetch_exim()
            except EximMissingError as error:
                pytest.skip(f"no Exim here: {error}")
        directory.chmod(0o755)
        site = make_site(directory, mta, **options)
        sites.append(site)
        site.start()
        return site

    yield start
    for site in sites:
        site.stop()
        noise = ("queue run:", "retry time not reached")
        lines = site.mta.log.read_text(errors="replace").splitlines()
        print(*[line for line in lines if not any(words in line for words in noise)][:200], sep="\n")
        print((site.services.directory / "services.log").read_text(errors="replace")[-4000:])


def deliver_everything(site: Site) -> None:
    """Send the table's mail and wait until each has come to what it will come to."""
    site.send("given-up", "e@expire.test")
    site.wait("state = 'expired'", 1)
    if isinstance(site.mta, Postfix):  # its queue lifetime is one for all mail
        with (site.mta.config / "main.cf").open("a") as file:
            file.write("maximal_queue_lifetime = 1d\n")
        site.mta.reload()
    site.send("greylisted", "g@later.test")
    site.send("accepted", "a@accept.test")
    site.send("refused", "n@refuse.test")
    site.send("no-server", "d@down.test")
    site.send("three-fates", "a2@accept.test", "n2@refuse.test", "d2@down.test")
    site.send("local", "nobody@local.test")
    site.send("alias", "team@ours.test")
    site.send("stranger", "n3@refuse.test", sender=STRANGER)
    site.wait("recipient = 'g@later.test' AND state = 'deferred'", 1)
    site.sinks["later.test"].become("accept")
    site.wait("recipient = 'g@later.test' AND state = 'sent'", 1)
    site.wait("recipient IN ('d@down.test', 'd2@down.test') AND state = 'deferred'", 2)
    site.wait("state = 'bounced'", 4)
    site.wait(f"recipient = '{SENDER}' AND state = 'sent'", len(NOTICES))
    site.wait(f"recipient = '{STRANGER}' AND state = 'sent'", 1)
    site.wait("message_id LIKE '%@example.com' AND state = 'sent' AND sender <> ''", 5)


@pytest.mark.parametrize("mta", ["postfix", "exim"])
def test_the_store_says_what_the_mta_did(mta: str, start_site: Callable[..., Site]) -> None:
    """Every recipient's fate, why, in what order, and the notices that the sender got, are those of the table."""
    site = start_site(mta)
    deliver_everything(site)

    found: dict[str, list[Fate]] = {}
    for message_id, recipient, original, state, category in site.ask(
        "SELECT message_id, recipient, original_recipient, state, category FROM deliveries WHERE sender = ?"
        " ORDER BY recipient",
        SENDER,
    ):
        name = message_id.partition("@")[0]
        happened = tuple(kind for kind, _ in groupby(site.events(name)[recipient]))
        assert happened[-1] == state
        found.setdefault(name, []).append((recipient, original, happened, category))
    assert found == EXPECTED

    notices = site.ask(
        "SELECT about.message_id, group_concat(delivery.recipient), group_concat(delivery.state) FROM message"
        " JOIN message AS about ON about.id = message.parent JOIN delivery ON delivery.message = message.id"
        " WHERE message.sender = '' GROUP BY message.id ORDER BY 1"
    )
    told = sorted([(name, SENDER) for name in NOTICES] + [("stranger", STRANGER)])
    assert notices == [(f"{name}@example.com", recipient, "1") for name, recipient in told]
    directions = site.ask("SELECT sender, direction, count(*) FROM messages GROUP BY 1, 2 ORDER BY 1, 2")
    assert directions == [
        ("", "inbound", len(NOTICES)),
        ("", "outbound", 1),
        (SENDER, "outbound", len(EXPECTED)),
        (STRANGER, "outbound", 1),
    ]
    counted = site.ask(
        "SELECT dimension, sum(n) FROM rollup WHERE basis = 'event' AND span = 'all' AND measure IN ('accepted',"
        " 'received') AND dimension IN ('all', 'inbound') GROUP BY 1"
    )
    assert counted == [("all", len(EXPECTED) + 2), ("inbound", len(NOTICES))]

    taken = sum(len(mail.recipients) for mail in site.sinks["accept.test"].delivered())
    took = "SELECT count(*) FROM deliveries WHERE state = 'sent' AND (recipient LIKE '%@accept.test' OR recipient = ?)"
    assert site.ask(took, SENDER) == [(taken,)]


def test_a_content_filter_is_a_hop(start_site: Callable[..., Site]) -> None:
    """Mail that a content filter hands back is one message: only the last hop's answer is its fate."""
    site = start_site("postfix", filtered=True)
    site.send("one", "a@accept.test")
    site.send("two", "b@accept.test", "n@refuse.test")
    site.wait("state = 'sent' AND sender <> ''", 2)
    site.wait("state = 'bounced'", 1)
    site.wait(f"recipient = '{SENDER}' AND state = 'sent'", 1)

    rows = site.ask(
        "SELECT message_id, recipient, state, attempts FROM deliveries WHERE sender = ? ORDER BY recipient", SENDER
    )
    assert rows == [
        ("one@example.com", "a@accept.test", "sent", 1),
        ("two@example.com", "b@accept.test", "sent", 1),
        ("two@example.com", "n@refuse.test", "bounced", 1),
    ]
    assert sorted(site.events("one")["a@accept.test"]) == ["handed_over", "sent"]
    assert sorted(site.events("two")["n@refuse.test"]) == ["bounced", "handed_over"]
    assert site.ask("SELECT count(*) FROM messages WHERE sender = ?", SENDER) == [(2,)]
    site.services.settle("SELECT count(*) FROM queue", 0)
