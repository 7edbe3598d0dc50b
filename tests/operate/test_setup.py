"""Beside real Postfix instances: set up, set up twice, taken out again without a trace."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from postwake import config as configuration
from postwake.errors import UnavailableError
from postwake_lab.ports import free_ports
from postwake_lab.services import Services
from postwake_lab.sink import Sink
from postwake_operate.journal import Journal
from postwake_operate.plan import undo
from postwake_operate.postfix import Postfix
from postwake_operate.setup_exim import make_plan as make_exim_plan
from postwake_operate.setup_postfix import _log_source, new_config, require_users

OURS = "{ unix:postwake/milter.sock, default_action=accept, connect_timeout=5s, content_timeout=30s }"
NEW = ("--url", "https://track.example.com", "--domain", "example.com", "--domain", "news.example.com")


def postconf(beside: Any, *arguments: str) -> str:
    """Ask Postfix itself."""
    command = ["/usr/sbin/postconf", "-c", str(beside.postfix.config), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def files(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Return content and mode of everything under *directory*."""
    return {
        str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mode)
        for path in directory.rglob("*")
        if path.is_file()
    }


STARTS = {
    "nothing set": {},
    "OpenDKIM": {"smtpd_milters": "inet:127.0.0.1:8891", "non_smtpd_milters": "$smtpd_milters"},
    "several lines": {
        "smtpd_milters": "\n    unix:clamav/clamav.ctl,\n# signs, so it stays last:\n    unix:opendkim/opendkim.sock",
        "non_smtpd_milters": "unix:opendkim/opendkim.sock",
    },
    "braces and rspamd": {
        "smtpd_milters": "{ inet:localhost:11332, default_action=tempfail }",
        "non_smtpd_milters": "",
    },
    "by reference": {
        "signing": "inet:127.0.0.1:8891",
        "smtpd_milters": "$signing",
        "non_smtpd_milters": "${smtpd_milters}",
    },
}


@pytest.mark.parametrize("main", STARTS.values(), ids=STARTS)
def test_there_and_back(beside: Callable[..., Any], main: dict[str, str]) -> None:
    """Ours is put before the signer, the rest keeps its order, Postfix accepts it, undo gives back every byte."""
    it = beside(main=main)
    it.main_cf.chmod(0o640)
    before = files(it.postfix.config)
    old = [postconf(it, "-xh", name) for name in ("smtpd_milters", "non_smtpd_milters")]
    done = it.run("setup", "postfix", "--yes")

    assert done.returncode == 0, done.stderr
    assert "+++" in done.stdout
    for name, value in zip(("smtpd_milters", "non_smtpd_milters"), old, strict=True):
        now = postconf(it, "-xh", name)
        assert now.count(OURS) == 1
        assert now.replace(f"{OURS},", "").replace(OURS, "").split() == value.replace("{", " {").split() or not value
        signer = next((at for word in ("8891", "11332", "opendkim") if (at := now.find(word)) >= 0), None)
        assert signer is None or now.find(OURS) < signer
    checked = subprocess.run(
        ["/usr/sbin/postfix", "-c", str(it.postfix.config), "check"], capture_output=True, text=True
    )
    assert "error" not in checked.stderr
    assert "fatal" not in checked.stderr
    assert it.main_cf.stat().st_mode & 0o777 == 0o640

    again = it.run("setup", "postfix", "--yes")
    assert again.stdout == "Nothing to change.\n"
    undone = it.run("setup", "postfix", "--undo")
    assert undone.returncode == 0, undone.stderr
    assert files(it.postfix.config) == before
    assert not it.socket.parent.exists()
    assert list((it.directory / "state").iterdir()) == []
    assert it.run("setup", "postfix", "--undo").stdout == "Nothing to take back.\n"


def test_without_yes_nothing_happens(beside: Callable[..., Any]) -> None:
    """Shown, not done; --dry-run the same."""
    it = beside(ready=False)
    before = files(it.directory)
    for arguments in ((), ("--dry-run",)):
        done = it.run("setup", "postfix", *NEW, *arguments)
        assert done.returncode == 0
        assert f"+smtpd_milters = {OURS}" in done.stdout
        assert '+[tracking]\n+url = "https://track.example.com"\n+sender_domains = ["example.com", "news' in done.stdout
        assert "+[retention]" not in done.stdout  # all at its defaults
        assert "Nothing was changed" in done.stderr
    assert files(it.directory) == before


def test_a_configuration_is_made_from_what_postfix_says(beside: Callable[..., Any]) -> None:
    """Socket, group and log are this instance's; what must be asked for is asked for."""
    it = beside(ready=False)
    asked = it.run("setup", "postfix", "--dry-run")
    assert asked.returncode == 64
    assert "expected --url" in asked.stderr

    it.config.write_text(new_config(Postfix(it.postfix.config), "https://track.example.com", ("example.com",)))
    made = configuration.load(it.config)
    assert made.milter.socket == it.socket
    assert made.milter.socket_group == "postfix"
    assert made.logparse.path == it.postfix.log
    assert made.mta.internal_networks == ["127.0.0.0/8"]
    assert made.tracking.sender_domains == ["example.com"]


@pytest.mark.parametrize(
    ("maillog_file", "existing", "expected"),
    [
        ("/var/log/postfix.log", ["mail.log"], {("logparse", "path"): '"/var/log/postfix.log"'}),
        ("", ["maillog"], {("logparse", "path"): '"{}/maillog"'}),
        ("/dev/stdout", ["mail.log", "maillog"], {("logparse", "path"): '"{}/mail.log"'}),
        ("", [], {("logparse", "source"): '"journal"'}),
    ],
    ids=["Postfix's own", "Red Hat's", "Debian's", "only the journal"],
)
def test_where_the_log_is(
    maillog_file: str, existing: list[str], expected: dict[tuple[str, str], str], tmp_path: Path
) -> None:
    """Postfix's own file goes first, then a syslog daemon's; where there is none, the journal."""
    if shutil.which("journalctl") is None:
        pytest.skip("no journalctl")
    for name in existing:
        (tmp_path / name).touch()
    found = _log_source(maillog_file, (tmp_path / "mail.log", tmp_path / "maillog"))
    assert found == {key: value.format(tmp_path) for key, value in expected.items()}


@pytest.mark.parametrize("action", ["tempfail", "accept"])
def test_a_postfix_before_3_0(beside: Callable[..., Any], action: str) -> None:
    """It knows no braces: a plain entry, and only if mail goes on without a milter; else what to do is said."""
    it = beside(main={"mail_version": "2.11.3", "milter_default_action": action})
    before = it.main_cf.read_bytes()
    done = it.run("setup", "postfix", "--yes")
    if action == "accept":
        assert done.returncode == 0, done.stderr
        assert postconf(it, "-h", "smtpd_milters") == "unix:postwake/milter.sock"
        assert it.run("setup", "postfix", "--undo").returncode == 0
    else:
        assert done.returncode == 69
        assert "Postfix 2.11.3 has one milter_default_action for all milters, tempfail: expected accept" in done.stderr
    assert it.main_cf.read_bytes() == before


def test_the_same_command_again(beside: Callable[..., Any]) -> None:
    """--url and --domain are for a new configuration: the same ones may be said again, others are not swallowed."""
    it = beside(ready=False)
    it.write_config()
    it.config.write_text(it.config.read_text().replace("http://127.0.0.1:1", "https://track.example.com"))
    assert it.run("setup", "postfix", "--url", "https://track.example.com/", "--domain", "Example.com").returncode == 0
    for arguments in (("--url", "https://other.example.com"), ("--domain", "example.org")):
        done = it.run("setup", "postfix", *arguments)
        assert done.returncode == 64
        assert f"{it.config} is there already and says tracking." in done.stderr


def test_a_second_instance(beside: Callable[..., Any]) -> None:
    """Each instance has its own journal: taking one back leaves the other set up."""
    first = beside()
    other = beside(ready=False, name="other")
    texts = [it.main_cf.read_bytes() for it in (first, other)]
    for it in (first, other):
        assert it.run("setup", "postfix", "--yes").returncode == 0
    assert other.run("setup", "postfix", "--undo").returncode == 0
    assert other.main_cf.read_bytes() == texts[1]
    assert OURS in postconf(first, "-h", "smtpd_milters")
    assert first.run("setup", "postfix", "--undo").returncode == 0
    assert first.main_cf.read_bytes() == texts[0]


def test_a_main_cf_edited_in_between(beside: Callable[..., Any]) -> None:
    """Undo takes our entries out of the file as it is now and leaves the rest of it."""
    it = beside(main={"smtpd_milters": "inet:127.0.0.1:8891"})
    assert it.run("setup", "postfix", "--yes").returncode == 0
    text = it.main_cf.read_text().replace("inet:127.0.0.1:8891", "inet:127.0.0.1:8891, inet:127.0.0.1:9999")
    it.main_cf.write_text(text + "# mine\nmessage_size_limit = 20480000\n")
    assert it.run("setup", "postfix", "--undo").returncode == 0
    assert it.main_cf.read_text().endswith(
        "smtpd_milters = inet:127.0.0.1:8891, inet:127.0.0.1:9999\n# mine\nmessage_size_limit = 20480000\n"
    )


def test_asking_about_one_instance(beside: Callable[..., Any]) -> None:
    """postfix(1) is told which one: else it is about all, and "does not run" if one of them does not."""
    it = beside()
    default = Postfix()
    assert default.command("postfix", "status")[1:] == ["-c", str(default.config), "status"]
    assert Postfix(it.postfix.config).command("postfix", "status")[1:] == ["-c", str(it.postfix.config), "status"]


def test_an_instance_that_cannot_reach_the_socket(beside: Callable[..., Any]) -> None:
    """Another instance's chrooted processes are named, with the command that helps; after it nothing is in the way."""
    other = beside(name="other", master_extra="127.0.0.1:10587 inet n - y - - smtpd\n")
    other.config.write_text(other.config.read_text().replace(str(other.socket), f"{other.directory}/milter.sock"))
    done = other.run("setup", "postfix", "--no-services")
    assert "127.0.0.1:10587/inet run chrooted there" in done.stderr
    command = next(part for part in done.stderr.split("`") if "postconf" in part)
    subprocess.run(command.split(), check=True)
    assert "chroot" not in other.run("setup", "postfix", "--no-services").stderr


def test_users_of_the_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units whose users are missing cannot start: said before anything is changed."""
    with pytest.raises(UnavailableError, match=r"user postwake-nobody: .*sysusers\.d"):
        require_users("root", "postwake-nobody")
    monkeypatch.setattr("postwake_operate.setup_postfix.GROUP", "root")
    require_users("root", "daemon")


def test_what_undo_would_do(beside: Callable[..., Any]) -> None:
    """Named, as a person would, and nothing done."""
    it = beside()
    assert it.run("setup", "postfix", "--yes").returncode == 0
    before = files(it.postfix.config)
    done = it.run("setup", "postfix", "--undo", "--dry-run")
    assert f"would take back: main.cf: {it.main_cf}\n" in done.stdout
    assert "[" not in done.stdout
    assert files(it.postfix.config) == before


def test_overrides_and_other_instances_are_shown(beside: Callable[..., Any]) -> None:
    """What setup does not change and a person should know of."""
    extra = (
        "127.0.0.1:10587 inet n - n - - smtpd\n  -o smtpd_milters=inet:127.0.0.1:8891\n"
        "127.0.0.1:10025 inet n - n - - smtpd\n  -o receive_override_options=no_milters\n"
        "127.0.0.1:10465 inet n - n - - smtpd\n  -o smtpd_milters=$mua_milters\n"
    )
    main = {"multi_instance_directories": "/etc/postfix-out", "mua_milters": OURS}
    it = beside(master_extra=extra, main=main)
    before = (it.postfix.config / "master.cf").read_bytes()
    done = it.run("setup", "postfix", "--yes")
    assert (
        "127.0.0.1:10587/inet has -o smtpd_milters=inet:127.0.0.1:8891: mail through it stays untracked" in done.stderr
    )
    assert "127.0.0.1:10025/inet has -o receive_override_options=no_milters" in done.stderr
    assert "10465" not in done.stderr  # ours is in it, by reference
    assert "--postfix-config /etc/postfix-out" in done.stderr
    assert (it.postfix.config / "master.cf").read_bytes() == before
    checked = it.check()
    assert checked["master.cf"][0] == "warn"
    assert "10587" in checked["master.cf"][1]
    assert "10465" not in checked["master.cf"][1]


def test_keys_and_store_are_made_and_stay(beside: Callable[..., Any]) -> None:
    """Undo leaves keys (links in sent mail need them) and the store, and says so."""
    it = beside(ready=False)
    it.write_config()
    assert it.run("setup", "postfix", "--yes").returncode == 0
    assert (it.directory / "keys").stat().st_mode & 0o777 == 0o640
    assert it.socket.parent.stat().st_mode & 0o7777 == 0o2750
    undone = it.run("setup", "postfix", "--undo")
    assert "Keys and store stay" in undone.stdout
    assert (it.directory / "keys").exists()
    assert it.store.exists()
    assert it.config.exists()


def test_a_test_message(beside: Callable[..., Any], directory: Path) -> None:
    """With everything running, setup sends itself a message and says what milter and log saw."""
    sink = Sink(directory / "sink", free_ports(1)[0], "accept", keep=False)
    it = beside(transport={"accept.test": f"smtp:[127.0.0.1]:{sink.port}"})
    services = Services(
        directory / "services", it.postfix.log, it.socket, it.ports[0], (it.ports[1], it.ports[2], it.ports[3])
    )
    it.config = services.config
    sink.start()
    it.postfix.start()
    try:
        services.start("milter", "logparse")
        done = it.run("setup", "postfix", "--yes", "--test-recipient", "you@accept.test")
        assert "Postfix: reloaded" in done.stdout
        assert "The milter saw the test message and put pixel and links in." in done.stdout
        assert "The log says: you@accept.test sent." in done.stdout
        services.stop("milter")
        silent = it.run("setup", "postfix", "--yes", "--test-recipient", "you@accept.test")
        assert "The milter did not see the test message" in silent.stdout
    finally:
        services.close()
        sink.stop()


def test_beside_exim(tmp_path: Path) -> None:
    """The truth about Exim, the lines for its configuration, and the log parser set up and taken back."""
    config, state, log = tmp_path / "etc" / "postwake.toml", tmp_path / "state", tmp_path / "mainlog"
    log.touch()
    command = [sys.executable, "-m", "postwake_cli", "--config", str(config), "setup", "exim", "--log", str(log)]
    command += ["--state-dir", str(state), "--no-services"]
    config.parent.mkdir()
    store = tmp_path / "postwake.db"
    config.write_text(
        f'[store]\npath = "{store}"\nspool_dir = "{tmp_path}/spool"\n[logparse]\npath = "{log}"\nmta = "exim"\n'
    )

    def run(*arguments: str) -> str:
        done = subprocess.run([*command, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    shown = run()
    assert "log_selector = +all_parents" in shown
    assert "Rewriting bodies (opens and clicks)\n# is for Postfix in this release" in shown
    assert not store.exists()
    assert f"new store {store}" in run("--yes")
    assert store.exists()
    assert "Nothing to change." in run("--yes")
    assert run("--undo") == "Nothing to take back.\n"  # a store stays
    config.write_text(config.read_text().replace('"exim"', '"postfix"'))
    refused = subprocess.run([*command, "--yes"], capture_output=True, text=True)
    assert refused.returncode == 64
    assert "expected 'file'" in refused.stderr


def test_a_configuration_for_exim(tmp_path: Path) -> None:
    """Where there is none it is made: only the log, as no mail is rewritten."""
    log = tmp_path / "main log"
    plan = make_exim_plan(log, tmp_path / "postwake.toml", with_services=False)
    journal = Journal(tmp_path / "state", log, "exim")
    plan.steps[0].apply(journal)
    made = configuration.load(tmp_path / "postwake.toml")
    assert (made.logparse.path, made.logparse.mta, made.tracking.url) == (log, "exim", "")
    assert [kind for kind, _ in undo(journal)] == ["file"]
    assert not (tmp_path / "postwake.toml").exists()
