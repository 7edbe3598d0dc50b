"""What contrib/postfix/ says to copy, in a real Postfix."""

from __future__ import annotations

import re
import smtplib
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from postwake_lab import mails
from postwake_lab.ports import free_ports
from postwake_lab.reader import fetch, tracked_urls
from postwake_lab.world import World

CONTRIB = Path(__file__).parents[2] / "contrib" / "postfix"
FRAGMENTS = sorted(CONTRIB.glob("m*.cf.*"))


def settings(name: str) -> dict[str, str]:
    """Return the settings of a main.cf fragment."""
    text = re.sub(r"(?m)^#.*\n", "", (CONTRIB / name).read_text())
    return {
        key.strip(): " ".join(value.split())
        for key, _, value in (line.partition("=") for line in re.split(r"\n(?=\S)", text.strip()))
    }


def services(name: str, **ports: int) -> str:
    """Return the services of a master.cf fragment, their ports replaced."""
    text = re.sub(r"(?m)^#.*\n", "", (CONTRIB / name).read_text())
    for old, new in ports.items():
        text = text.replace(old.removeprefix("port_"), str(new))
    return text


@pytest.mark.parametrize("path", FRAGMENTS, ids=[path.name for path in FRAGMENTS])
def test_postfix_knows_every_word(directory: Path, path: Path) -> None:
    """postconf takes the fragment without a warning: no misspelt parameter, no broken braces."""
    from postwake_lab.postfix import Postfix

    is_main = path.name.startswith("main")
    extra = services("master.cf.split") if path.name == "main.cf.split" else ""
    postfix = Postfix(
        directory,
        free_ports(1)[0],
        main=settings(path.name) if is_main else {},
        master_extra=extra if is_main else services(path.name),
    )
    for options in (["-n"], ["-M"], ["-P"]):
        done = subprocess.run(["postconf", "-c", str(postfix.config), *options], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert "milter.sock" in done.stdout or options != ["-n"] or not is_main or "split" in path.name


def test_all_fragments_are_in_the_readme() -> None:
    """Each fragment is listed where people look for it."""
    readme = (CONTRIB / "README.md").read_text()
    assert [path.name for path in FRAGMENTS if f"({path.name})" not in readme] == []
    assert len(FRAGMENTS) == 7


def test_single_instance(make_world: Callable[..., World], send: Any, ask: Any) -> None:
    """One Postfix: SMTP and sendmail(1) are both tracked; with the milter away mail goes on without it."""
    world = make_world("milter", "logparse", main=settings("main.cf.single"))
    send(world, (mails.receipt(1, "ada@accept.test"), ["ada@accept.test"]))
    world.postfix.sendmail(
        mails.receipt(2, "bo@accept.test").replace(b"\r\n", b"\n"), "shop@example.com", ["bo@accept.test"]
    )
    world.services.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 2)
    assert ask(world, "SELECT tracked, links FROM messages") == [(1, 1), (1, 1)]

    world.services.kill("milter")
    send(world, (mails.receipt(3, "cy@accept.test"), ["cy@accept.test"]))
    world.services.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 3)


def test_submission_only(make_world: Callable[..., World], send: Any, ask: Any) -> None:
    """Only the submission service passes the milter; port 25 does not."""
    submission, submissions = free_ports(2)
    text = services("master.cf.submission").replace("submissions inet", f"127.0.0.1:{submissions} inet")
    text = text.replace("submission inet", f"127.0.0.1:{submission} inet").replace(" y ", " n ")
    # The lab has neither certificates nor logins.
    text = re.sub(r"(?m)^  -o (?:smtpd_tls|smtpd_sasl).*\n", "", text)
    world = make_world("milter", "logparse", main={"smtpd_milters": "", "non_smtpd_milters": ""}, master_extra=text)
    for port, number in ((world.postfix.port, 1), (submission, 2), (submissions, 3)):
        with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test") as client:
            client.sendmail("shop@example.com", ["ada@accept.test"], mails.receipt(number, "ada@accept.test"))
    world.services.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 3)
    stamped = [b"X-Postwake-ID" in item.message for item in world.delivered()]
    assert sorted(stamped) == [False, True, True]


def test_split(make_world: Callable[..., World], send: Any, ask: Any) -> None:
    """Three recipients get three tokens: three messages of one recipient, three deliveries, and opens have names."""
    [port] = free_ports(1)
    main = {key: value.replace("10027", str(port)) for key, value in settings("main.cf.split").items()}
    world = make_world(main=main, master_extra=services("master.cf.split", port_10027=port))
    recipients = ["ada@accept.test", "bo@accept.test", "cy@accept.test"]

    send(world, (mails.newsletter(1, "all@accept.test"), recipients))
    world.services.settle("SELECT count(*) FROM messages", 3)
    world.services.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 3)

    delivered = {item.recipients: item.message for item in world.delivered()}
    assert sorted(delivered) == [(recipient,) for recipient in recipients]
    assert len({tuple(tracked_urls(message)[0]) for message in delivered.values()}) == 3
    for message in delivered.values():
        assert message.count(b"X-Postwake-ID") == 1
    assert ask(world, "SELECT count(*), sum(tracked), max(recipients) FROM messages") == [(3, 3, 1)]
    assert sorted(ask(world, "SELECT recipient, state FROM deliveries")) == [(r, "sent") for r in recipients]

    pixel = tracked_urls(delivered[("bo@accept.test",)])[0][0]
    assert fetch(pixel)[0] == 200
    world.services.settle("SELECT count(*) FROM opens", 1)
    assert ask(world, "SELECT recipient FROM opens") == [("bo@accept.test",)]


def test_amavis(make_world: Callable[..., World], send: Any, ask: Any) -> None:
    """Mail that a content filter hands back is stamped once, one message, one delivery: the last hop's."""
    [back] = free_ports(1)
    text = services("master.cf.amavis", port_10025=back)
    # In the filter's place stands the service that takes back what amavis hands back.
    world = make_world(
        "milter",
        "logparse",
        main={**settings("main.cf.single"), "content_filter": f"smtp-amavis:[127.0.0.1]:{back}"},
        master_extra=text,
    )
    send(world, (mails.receipt(1, "ada@accept.test"), ["ada@accept.test", "bo@accept.test"]))
    world.services.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 2)

    assert [item.message.count(b"X-Postwake-ID") for item in world.delivered()] == [1]
    assert ask(world, "SELECT count(*), sum(tracked) FROM messages") == [(1, 1)]
    assert ask(world, "SELECT count(*) FROM deliveries") == [(2,)]


def test_bdat_and_smtputf8(make_world: Callable[..., World], ask: Any) -> None:
    """Mail that comes in chunks (BDAT, RFC 3030), from an internationalised address, is rewritten like any other."""
    world = make_world("milter", "logparse", main={"smtputf8_enable": "yes"})
    message = mails.receipt(1, "ada@accept.test")
    with socket.create_connection(("127.0.0.1", world.postfix.port), 60) as connection:
        stream = connection.makefile("rwb")

        def answer() -> bytes:
            while True:
                line = stream.readline()
                if line[3:4] != b"-":
                    return bytes(line)

        answer()
        sender = "MAIL FROM:<jörg@example.com> SMTPUTF8".encode()
        for line in (b"EHLO client.test", sender, b"RCPT TO:<ada@accept.test>"):
            stream.write(line + b"\r\n")
            stream.flush()
            assert answer()[:1] == b"2"
        for at, last in ((0, b""), (400, b" LAST")):
            chunk = message[at : at + 400] if not last else message[at:]
            stream.write(b"BDAT %d%s\r\n" % (len(chunk), last) + chunk)
            stream.flush()
            assert answer().startswith(b"250")
    world.services.settle("SELECT count(*) FROM messages WHERE tracked", 1)
    assert ask(world, "SELECT sender, links FROM messages") == [("jörg@example.com", 1)]
