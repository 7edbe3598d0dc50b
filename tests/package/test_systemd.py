"""The units under a systemd that is process 1: readiness, watchdog, reload, restart, limits, confinement, timer.

One machine for all of them; each test leaves Postwake running and its configuration as it was.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

SERVICES = ("milter", "logparse", "pixelserver")
CONFIG = "/etc/postwake/postwake.toml"
SENT = "SELECT count(*) FROM deliveries WHERE state = 'sent'"


def shown(server: Any, unit: str, name: str) -> str:
    """Return a property of a unit."""
    return str(server.run(f"systemctl show --value -p {name} {unit}").strip())


@contextlib.contextmanager
def drop_in(server: Any, unit: str, text: str) -> Iterator[None]:
    """Change a unit for a while."""
    folder = f"/run/systemd/system/{unit}.service.d"
    server.run(f"mkdir -p {folder}; printf '%b' '{text}' > {folder}/test.conf")
    server.run(f"systemctl daemon-reload; systemctl restart {unit}")
    try:
        yield
    finally:
        server.run(
            f"rm -r {folder}; systemctl daemon-reload; systemctl reset-failed {unit} || true; systemctl restart {unit}"
        )


@contextlib.contextmanager
def configured(server: Any, expression: str) -> Iterator[None]:
    """Edit the configuration with sed for a while; nobody is told."""
    server.run(f"cp {CONFIG} /tmp/before.toml; sed -i '{expression}' {CONFIG}")
    try:
        yield
    finally:
        server.run(f"cp /tmp/before.toml {CONFIG}")


@pytest.mark.parametrize("service", SERVICES)
def test_runs_as_it_should(service: str, beside: Any) -> None:
    """Started means ready; its own user, the store's group, no capability, new privileges or other users' files."""
    unit = f"postwake-{service}"
    beside.run(f"systemctl restart {unit}")
    assert shown(beside, unit, "ActiveState") == "active"
    assert beside.get(f"http://127.0.0.1:{9861 + SERVICES.index(service)}/metrics").startswith("# HELP")
    process = shown(beside, unit, "MainPID")
    status = beside.run(f"cat /proc/{process}/status")
    assert re.search(r"CapEff:\s+0{16}\n", status)
    assert re.search(r"CapBnd:\s+0{16}\n", status)
    assert re.search(r"NoNewPrivs:\s+1\n", status)
    assert re.search(r"Seccomp:\s+2\n", status)
    user = beside.run(f"ps -o user:32= -p {process}").strip()
    assert user == unit
    assert beside.run(f"ps -o group:32= -p {process}").strip() == "postwake"
    level = beside.run(f"systemd-analyze security --no-pager {unit}.service")
    found = re.search(r"Overall exposure level for \S+: ([\d.]+) (\w+)", level)
    assert found is not None
    assert float(found[1]) < 5
    assert found[2] in ("OK", "SAFE")


@pytest.mark.parametrize("service", SERVICES)
def test_watchdog(service: str, beside: Any) -> None:
    """A service that hangs is ended and started anew; one that does not, is not."""
    unit = f"postwake-{service}"
    with drop_in(beside, unit, r"[Service]\nWatchdogSec=4\nTimeoutAbortSec=1\n"):
        process = shown(beside, unit, "MainPID")
        beside.wait_for(f"test $(ps -o etimes= -p {process}) -ge 9")
        assert shown(beside, unit, "NRestarts") == "0"
        beside.run(f"kill -STOP {process}")
        beside.wait_for(
            f"test $(systemctl show --value -p NRestarts {unit}) -ge 1; test $(systemctl is-active {unit}) = active"
        )
        assert "Watchdog timeout" in beside.run(f"journalctl --no-pager -o cat -u {unit}")


def test_reload_takes_the_new_configuration(beside: Any) -> None:
    """SIGHUP: another sender domain is tracked from then on, in the same processes; refused if it is wrong."""
    before = [shown(beside, f"postwake-{service}", "MainPID") for service in SERVICES]
    units = " ".join(f"postwake-{service}" for service in SERVICES)
    with configured(beside, 's/"example.com"/"example.org"/'):
        beside.run(f"systemctl reload {units}")
        beside.wait_for("journalctl --no-pager -o cat -u postwake-milter | grep -c state=reloaded | grep -qvx 0")
        beside.send("25:700")
        beside.settle("SELECT count(*) FROM deliveries WHERE recipient = 'reader700@accept.test' AND state = 'sent'", 1)
        assert beside.ask("SELECT tracked FROM messages WHERE message_id LIKE '%order-700@%'") == [[0]]
    with configured(beside, "s/^url = .*/url = 7/"):
        beside.run(f"systemctl reload {units} || true")
        for service in ("milter", "logparse"):  # the pixel server reads its keys and lists again, not this file
            beside.wait_for(
                f"journalctl --no-pager -o cat -u postwake-{service} | grep -q 'reload=refused.*tracking.url'"
            )
    beside.run(f"systemctl reload {units}")
    beside.wait_for(f"systemctl is-active --quiet {units}")
    assert [shown(beside, f"postwake-{service}", "MainPID") for service in SERVICES] == before
    beside.send("25:701")
    beside.settle("SELECT count(*) FROM messages WHERE tracked AND message_id LIKE '%order-701@%'", 1)


def test_a_wrong_configuration_ends_it(beside: Any) -> None:
    """Status 78 is not tried again and again; mail goes on, untracked; check says what is wrong."""
    with configured(beside, "s/^url = .*/url = 7/"):
        beside.run("systemctl restart postwake-milter || true")
        beside.wait_for("test $(systemctl is-active postwake-milter) = failed")
        assert shown(beside, "postwake-milter", "ExecMainStatus") == "78"
        assert shown(beside, "postwake-milter", "NRestarts") == "0"
        beside.send("587:710", "sendmail:711")
        for number in (710, 711):
            beside.wait_for(f"grep -lq 'Order {number}' /srv/sink/*")
        assert "tracking.url" in beside.checked()["configuration"]
    beside.run("systemctl reset-failed; systemctl restart postwake-milter")
    assert beside.checked().keys() == {"queue IDs"}


def test_a_crash_loop_has_an_end(beside: Any) -> None:
    """A service that cannot start is given up in the end, not restarted for ever."""
    with drop_in(beside, "postwake-pixelserver", r"[Unit]\nStartLimitBurst=3\n[Service]\nRestartSec=0\n"):
        beside.run("systemctl stop postwake-pixelserver")
        beside.run("systemd-run --quiet --unit=thief python3 -m http.server -b 127.0.0.1 8025")
        beside.wait_for("ss -Hltn sport = :8025 | grep -q .")
        try:
            beside.run("systemctl start --no-block postwake-pixelserver")
            beside.wait_for("test $(systemctl is-active postwake-pixelserver) = failed")
            assert "somebody else answers there" in beside.checked()["pixel server"]
        finally:
            beside.run("systemctl stop thief")
        assert shown(beside, "postwake-pixelserver", "Result") in ("exit-code", "start-limit-hit")
        assert "127.0.0.1:8025" in beside.run("journalctl --no-pager -o cat -u postwake-pixelserver -p warning")


def test_stop_and_reload_cost_no_mail(beside: Any) -> None:
    """Under traffic the milter is reloaded, restarted, killed and stopped: nothing is deferred, refused or lost.

    Its socket waits with systemd while it restarts, so that restarts leave no mail untracked but that in open sessions.
    """
    numbers = [list(range(1000 + 400 * n, 1000 + 400 * n + 60)) for n in range(3)]
    senders = [
        beside.popen("python3", "/usr/local/bin/send-mail", *(f"{way}:{number}" for number in mine))
        for way, mine in zip(("25", "587", "sendmail"), numbers, strict=True)
    ]
    for action in ("reload", "restart", "kill -s KILL", "reload", "restart", "stop", "start", "restart"):
        beside.wait_for(f"sleep 0.3; test {action} = start || systemctl is-active --quiet postwake-milter")
        beside.run(f"systemctl {action} postwake-milter")
    for sender in senders:
        output, _ = sender.communicate(timeout=300)
        assert sender.returncode == 0, output
    wanted = {f"Order {number}" for mine in numbers for number in mine}
    beside.settle("SELECT count(*) FROM deliveries WHERE state = 'sent' AND recipient LIKE 'reader1___@%'", len(wanted))
    received = [
        found[0] for mail in beside.received() if (found := re.search(r"Order \d+", mail)) and found[0] in wanted
    ]
    assert sorted(received) == sorted(wanted)
    assert beside.ask(
        "SELECT count(*) FROM deliveries WHERE state IN ('deferred', 'bounced') AND recipient LIKE 'reader1___@%'"
    ) == [[0]]
    log = beside.run(
        "grep -cE 'status=deferred|status=bounced|reject:|milter-reject|4\\.7\\.1' /var/log/mail.log || true"
    )
    assert log.strip() == "0"
    [[tracked]] = beside.ask("SELECT count(*) FROM messages WHERE tracked AND message_id LIKE '%order-1___@%'") or [[0]]
    print(f"tracked {tracked} of {len(wanted)}")


def test_postfix_waits_while_the_milter_restarts(beside: Any) -> None:
    """A mail that comes while the milter is away for a restart is tracked by the next one, through the same socket."""
    with drop_in(beside, "postwake-milter", r"[Service]\nExecStartPre=/bin/sleep 3\n"):
        inode = beside.run("stat -c %i /var/spool/postfix/postwake/milter.sock")
        beside.run("systemctl restart --no-block postwake-milter")
        beside.wait_for("systemctl show -p SubState postwake-milter | grep -q start-pre")
        beside.send("25:720")
        beside.settle("SELECT count(*) FROM messages WHERE tracked AND message_id LIKE '%order-720@%'", 1)
        assert beside.run("stat -c %i /var/spool/postfix/postwake/milter.sock") == inode
        # Stopped is another matter: then nobody waits.
        beside.run("systemctl stop postwake-milter")
        assert shown(beside, "postwake-milter", "NFileDescriptorStore") == "0"
        beside.send("25:721")
        beside.wait_for("grep -lq 'Order 721' /srv/sink/*")


def test_maintenance(beside: Any) -> None:
    """The timer is set; run by hand it purges, checkpoints, checks and backs up; a damaged store makes it fail."""
    assert "postwake-maintenance.timer" in beside.run("systemctl list-timers --no-legend")
    beside.run("systemctl start postwake-maintenance")
    said = beside.run("journalctl --no-pager -o cat -u postwake-maintenance")
    for word in ("removed: 0 messages", "write-ahead log:", "in order", "bytes, checked"):
        assert word in said
    [name] = beside.run("ls /var/lib/postwake/backup").split()
    kept = f"/var/lib/postwake/backup/{name}"
    assert beside.run(f"stat -c '%a %U' {kept}").strip() == "600 postwake-logparse"
    ask = f"print(*sqlite3.connect('{kept}').execute('PRAGMA integrity_check').fetchone())"
    assert beside.run(f'python3 -c "import sqlite3; {ask}"') == "ok\n"
    level = beside.run("systemd-analyze security --no-pager postwake-maintenance.service")
    assert re.search(r"Overall exposure level for \S+: [0-4]\.\d (?:OK|SAFE)", level)


def test_mailed_report(beside: Any) -> None:
    """The unit mails the report through Postfix's sendmail(1), confined as it is; with nobody to mail to it fails."""
    assert beside.try_run("systemctl start postwake-report").returncode == 1
    assert "report.to" in beside.run("journalctl --no-pager -o cat -u postwake-report")
    with configured(beside, r's/^# to = .*/to = ["boss@accept.test"]/'):
        beside.run("systemctl start postwake-report")
        beside.wait_for("grep -lq '^To: boss@accept.test' /srv/sink/*")
    [report] = [mail for mail in beside.received() if "\nTo: boss@accept.test" in mail]
    assert "\nAuto-Submitted: auto-generated" in report
    assert "Content-Type: text/html" in report
    assert "X-Postwake-ID" not in report
    level = beside.run("systemd-analyze security --no-pager postwake-report.service")
    assert re.search(r"Overall exposure level for \S+: [0-4]\.\d (?:OK|SAFE)", level)
    beside.run("systemctl enable --quiet --now postwake-report.timer")
    assert "postwake-report.timer" in beside.run("systemctl list-timers --no-legend")
    beside.run("systemctl disable --quiet --now postwake-report.timer")


def test_documentation_is_where_it_is_said_to_be(beside: Any) -> None:
    """Each file that a unit names is there, and can be read as it is."""
    beside.run(
        "sed -n 's/^Documentation=//p' /lib/systemd/system/postwake-*.service | tr ' ' '\\n'"
        " | sed -n 's,^file://,,p' | sort -u | xargs ls"
    )
    beside.run("grep -q '## Restore' /usr/share/doc/postwake/docs/operations.md")


def test_after_a_power_cut(beside: Any) -> None:
    """Booted again everything runs, the milter before Postfix, so that the first mail is tracked."""
    beside.reboot()
    beside.run("systemd-run --quiet --unit=sink smtp-sink -u nobody -d /srv/sink/b%M. 127.0.0.1:2525 100")
    beside.send("25:730")
    beside.settle("SELECT count(*) FROM messages WHERE tracked AND message_id LIKE '%order-730@%'", 1)
    order = beside.run(
        "systemctl show --value -p ActiveEnterTimestampMonotonic postwake-milter postfix@-.service"
    ).split()
    assert int(order[0]) < int(order[1])
    assert beside.checked().keys() == {"queue IDs"}
    noise = beside.run("journalctl --no-pager -o cat -u 'postwake-*' -p warning")
    assert "Traceback" not in noise
