"""For the package's tests: a Debian 12 with a stock Postfix, booted, and a receiving server in it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from postwake_lab.machine import Machine, base_root, missing

DEB = os.environ.get("POSTWAKE_DEB", "")
SETUP = "postwake setup postfix --url https://track.example.com --domain example.com --yes"

# What the administrator has made of Debian's Postfix: submission with logins, and example.net reached on this machine.
_ADMINISTRATOR = r"""
postconf -e 'transport_maps = inline:{ { accept.test = smtp:[127.0.0.1]:2525 } }'
postconf -M submission/inet='submission inet n - y - - smtpd'
postconf -P submission/inet/syslog_name=postfix/submission submission/inet/smtpd_tls_security_level=encrypt
postconf -P submission/inet/smtpd_sasl_auth_enable=yes submission/inet/smtpd_tls_auth_only=yes
postconf -P submission/inet/smtpd_recipient_restrictions=permit_sasl_authenticated,reject
printf 'pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\n' > /etc/postfix/sasl/smtpd.conf
mkdir -p /var/spool/postfix/etc /srv/sink
printf secret | saslpasswd2 -p -c -f /var/spool/postfix/etc/sasldb2 -u "$(postconf -h myhostname)" shop
chown postfix /var/spool/postfix/etc/sasldb2
chown nobody /srv/sink
systemd-run --quiet --unit=sink smtp-sink -u nobody -d /srv/sink/%M. 127.0.0.1:2525 100
systemctl restart postfix
"""

# Sends mails: arguments are how they go (25, 587, sendmail) and a number for each.
_SEND = r"""
import smtplib, ssl, subprocess, sys
for word in sys.argv[1:]:
    way, _, number = word.partition(":")
    recipient = f"reader{number}@accept.test"
    text = (f"From: Shop <shop@example.com>\r\nTo: {recipient}\r\nSubject: Order {number}\r\n"
            f"Message-ID: <order-{number}@example.com>\r\n"
            "MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
            f'<html><body><p>Thanks. <a href="https://shop.example.com/{number}">Order</a></p></body></html>\r\n')
    if way == "sendmail":
        command = ["/usr/sbin/sendmail", "-i", "-f", "shop@example.com", "--", recipient]
        subprocess.run(command, input=text.replace("\r\n", "\n").encode(), check=True)
        continue
    with smtplib.SMTP("127.0.0.1", int(way), local_hostname="client.example.com", timeout=90) as client:
        if way == "587":
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            client.starttls(context=context)
            client.login("shop", "secret")
        client.sendmail("shop@example.com", [recipient], text)
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say why the package's tests cannot run where they cannot."""
    reason = missing() if DEB else "POSTWAKE_DEB names no package: make test-deb builds one"
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(900))
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


class MailServer(Machine):
    """A Debian with a Postfix that somebody runs already."""

    def prepare(self, *, syslog: bool = True) -> None:
        """Do what its administrator has done. Without *syslog* the journal is the only log, as Debian 12 has it."""
        if not syslog:
            self.run("systemctl disable --now --quiet rsyslog.service syslog.socket; rm -f /var/log/mail.log")
        self.run(_ADMINISTRATOR)
        (self.root / "usr/local/bin/send-mail").write_text(_SEND)
        self.wait_for("ss -Hltn sport = :2525 | grep -q . && ss -Hltn sport = :587 | grep -q .")

    def install(self, deb: str = DEB) -> None:
        """Install the package, from its file and nothing else."""
        self.copy_in(Path(deb), "/tmp/postwake.deb")
        self.run("apt-get install --quiet --quiet --yes --no-install-recommends --allow-downgrades /tmp/postwake.deb")

    def send(self, *words: str) -> None:
        """Send mails: ``WAY:NUMBER``."""
        self.run(f"python3 /usr/local/bin/send-mail {' '.join(words)}")

    def ask(self, sql: str) -> list[list[Any]]:
        """Ask the store."""
        script = (
            "import json, sqlite3, sys; c = sqlite3.connect('file:/var/lib/postwake/postwake.db?mode=ro', uri=True);"
            " print(json.dumps(c.execute(sys.stdin.read()).fetchall()))"
        )
        return list(json.loads(self.run(f'python3 -c "{script}"', stdin=sql.encode())))

    def settle(self, sql: str, wanted: int) -> None:
        """Wait until the store's answer is at least *wanted*."""
        script = (
            "import sqlite3, sys; c = sqlite3.connect('file:/var/lib/postwake/postwake.db?mode=ro', uri=True);"
            f" n = c.execute(sys.argv[1]).fetchone()[0]; print(n); sys.exit(n < {wanted})"
        )
        self.wait_for(f'python3 -c "{script}" "{sql}"')

    def get(self, url: str) -> str:
        """Ask a web server in it."""
        script = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode('latin-1'))"
        return self.run(f"python3 -c \"{script}\" '{url}'")

    def received(self) -> list[str]:
        """Return the mails that the receiving server took."""
        return [path.read_text(errors="replace") for path in sorted((self.root / "srv/sink").iterdir())]

    def checked(self) -> dict[str, str]:
        """Run ``postwake check``; return what it found of each that is not in order."""
        done = self.try_run("postwake check --json --offline")
        assert done.returncode in (0, 1, 78), done.stderr
        return {item["name"]: item["found"] for item in json.loads(done.stdout) if item["status"] in ("warn", "fail")}


@pytest.fixture(scope="session")
def _base() -> Path:
    return base_root()


@pytest.fixture
def server(_base: Path) -> Iterator[MailServer]:
    """A mail server, without Postwake."""
    with MailServer() as machine:
        machine.prepare()
        yield machine


@pytest.fixture
def journal_server(_base: Path) -> Iterator[MailServer]:
    """The same without a syslog daemon."""
    with MailServer() as machine:
        machine.prepare(syslog=False)
        yield machine


@pytest.fixture(scope="module")
def beside(_base: Path) -> Iterator[MailServer]:
    """A mail server with Postwake beside it, for tests that leave it as they found it."""
    with MailServer() as machine:
        machine.prepare()
        machine.install()
        machine.run(f"{SETUP} --no-test")
        yield machine
