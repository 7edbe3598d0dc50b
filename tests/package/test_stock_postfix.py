"""On a clean Debian 12 with a stock Postfix: in, at work, and out again without a trace."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

# Not on the disk, or kept by apt, dpkg and the kernel for themselves, or mail and logs: what a server writes all day.
_PRUNED = (
    "/proc",
    "/sys",
    "/dev",
    "/tmp",
    "/run",
    "/var/lib/dpkg",
    "/var/lib/apt",
    "/var/lib/postfix",
    "/var/cache",
    "/var/log",
    "/var/mail",
)
_QUEUES = re.compile(
    r"/var/spool/postfix/(?:active|bounce|defer|deferred|incoming|maildrop|pid|private|public|etc)/|/srv/sink/"
)
SETUP = "postwake setup postfix --url https://track.example.com --domain example.com --yes"


def files(root: Path) -> dict[str, tuple[str, int, int, bytes]]:
    """Return every file of the root: mode, owner, group and content."""
    found = {}
    for folder, folders, names in os.walk(root):
        inside = "/" + str(Path(folder).relative_to(root)).removeprefix(".")
        folders[:] = [name for name in folders if not f"{inside.rstrip('/')}/{name}".startswith(_PRUNED)]
        for path in (Path(folder) / name for name in (*folders, *names)):
            name = "/" + str(path.relative_to(root))
            if _QUEUES.match(name):
                continue
            info = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[name] = (oct(info.st_mode), info.st_uid, info.st_gid, content)
    return found


def test_in_and_out(journal_server: Any) -> None:
    """Install, set up, send three ways, see events and metrics, undo, purge: every byte of the system is as before."""
    server = journal_server
    before = files(server.root)

    server.install()
    shown = server.run(SETUP.removesuffix(" --yes"))
    assert "+smtpd_milters = { unix:postwake/milter.sock, default_action=accept," in shown
    assert files(server.root)["/etc/postfix/main.cf"] == before["/etc/postfix/main.cf"]
    said = server.run(f"{SETUP} --test-recipient you@accept.test")
    assert "Postfix: reloaded" in said
    assert "The milter saw the test message and put pixel and links in." in said
    assert "The log says: you@accept.test sent." in said
    assert server.run(SETUP) == "Nothing to change.\n"

    server.send("587:1", "25:2", "sendmail:3")
    server.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 4)
    rows = server.ask(
        "SELECT recipient, tracked, state, sasl_username FROM deliveries"
        " JOIN messages ON messages.id = message ORDER BY 1"
    )
    assert rows == [
        ["reader1@accept.test", 1, "sent", "shop"],
        ["reader2@accept.test", 1, "sent", None],
        ["reader3@accept.test", 1, "sent", None],
        ["you@accept.test", 1, "sent", None],
    ]
    mails = server.received()
    assert len(mails) == 4
    for mail in mails:
        assert mail.count("X-Postwake-ID:") == 1
    [body] = [mail.replace("=\n", "").replace("=3D", "=") for mail in mails if "Subject: Order 1\n" in mail]
    pixel = re.search(r"https://track\.example\.com(/o/[^\"]+\.gif)", body)
    click = re.search(r"https://track\.example\.com(/c/[^\"]+)", body)
    assert pixel is not None
    assert click is not None
    assert server.get(f"http://127.0.0.1:8025{pixel[1]}").startswith("GIF89a")
    server.settle("SELECT count(*) FROM opens", 1)
    story = server.run("postwake message reader1@accept.test")
    assert "sent" in story
    assert "opened" in story
    assert '"type":"sent"' in server.run("postwake events")

    metrics = {
        service: server.get(f"http://127.0.0.1:{9861 + n}/metrics")
        for n, service in enumerate(("milter", "logparse", "pixelserver"))
    }
    for service, text in metrics.items():
        assert f'service="{service}"' in text
    assert re.search(r'postwake_milter_messages_total\{outcome="tracked"\} 4\.0', metrics["milter"])
    assert server.checked().keys() == {"queue IDs"}  # Debian's Postfix has short ones
    assert server.run("systemctl is-system-running").strip() == "running"
    noise = server.run("journalctl -b --no-pager -o cat -u 'postwake-*'")
    assert "Traceback" not in noise
    assert "Got notification message" not in noise
    assert "@" not in noise  # no addresses at INFO

    server.run("postwake setup postfix --undo")
    after = files(server.root)
    for name in ("/etc/postfix/main.cf", "/etc/postfix/master.cf"):
        assert after[name] == before[name]
    server.run("apt-get purge --quiet --quiet --yes postwake")
    after = files(server.root)
    backups = {f"/etc/{name}-" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")}
    assert sorted(after.keys() - before.keys() - backups) == []
    assert sorted(before.keys() - after.keys()) == []
    assert [name for name in before if before[name][3] != after[name][3] and name not in backups] == []
    assert [name for name in before if before[name][:3] != after[name][:3] and name not in backups] == []
    assert server.run("getent passwd; getent group").count("postwake") == 0
    for command in (
        "systemctl list-units --all --no-legend 'postwake*'",
        "systemctl list-unit-files --no-legend 'postwake*' || true",
        "ls -A /run | grep postwake || true",
        "ss -Hxl | grep postwake || true",
        "ps -eo args | grep '[/]postwake' || true",
    ):
        assert server.run(command) == "", command

    server.send("587:5")
    server.wait_for("grep -lq 'Order 5' /srv/sink/*")
    [mail] = [mail for mail in server.received() if "Subject: Order 5\n" in mail]
    assert "X-Postwake-ID" not in mail
    assert "Milter" not in server.run(
        "journalctl -b --no-pager -o cat -t postfix/smtpd -t postfix/cleanup -t postfix/submission/smtpd"
    )


def test_removed_without_undo(server: Any) -> None:
    """A package that is simply removed takes its entry out of main.cf first; keys and store stay until it is purged."""
    before = server.run("cat /etc/postfix/main.cf")
    server.install()
    server.run(f"{SETUP} --no-test")
    assert server.run("cat /etc/postfix/main.cf") != before
    server.run("apt-get remove --quiet --quiet --yes postwake")
    assert server.run("cat /etc/postfix/main.cf") == before
    assert server.run("ps -eo args | grep '[/]postwake' || true") == ""
    assert server.run("ls /etc/postwake/keys /var/lib/postwake/postwake.db").count("\n") == 2
    server.send("25:1")
    server.wait_for("grep -lq 'Order 1' /srv/sink/*")
    server.run("apt-get purge --quiet --quiet --yes postwake")
    assert server.run("ls -d /etc/postwake /var/lib/postwake 2>/dev/null || true") == ""


def test_two_instances(server: Any) -> None:
    """One that does not run keeps nobody from reloading the other; removing the package takes ours out of both."""
    server.run(
        "postmulti -e init; postmulti -I postfix-out -G mta -e create;"
        " sed -i 's/^smtp .*inet.*/10030 inet n - y - - smtpd/' /etc/postfix-out/master.cf;"
        " postmulti -i postfix-out -e enable"
    )
    before = server.run("cat /etc/postfix/main.cf /etc/postfix-out/main.cf")
    server.install()
    assert "Postfix: reloaded" in server.run(f"{SETUP} --test-recipient you@accept.test")
    other = "postwake setup postfix --postfix-config /etc/postfix-out --yes"
    said = server.try_run(other)
    assert said.returncode == 0
    server.run(next(part for part in said.stderr.split("`") if part.startswith("/usr/sbin/postconf")))
    server.run("postmulti -i postfix-out -p start")
    checked = server.run("postwake check --offline --postfix-config /etc/postfix-out || true")
    assert "postfix reaches /var/spool/postfix/postwake/milter.sock" in checked
    server.run("apt-get purge --quiet --quiet --yes postwake")
    assert server.run("cat /etc/postfix/main.cf /etc/postfix-out/main.cf") == before
