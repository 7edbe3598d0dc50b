"""The package is upgraded, and downgraded, while mail goes through."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

DEB = os.environ.get("POSTWAKE_DEB", "")
# What a later release will have: a migration more.
_LATER = '''

@_migration
def m999_later(db: Database) -> None:
    """Of a later release."""
    db.conn.execute("ALTER TABLE message ADD COLUMN later INTEGER")
'''


@pytest.fixture
def later_deb(tmp_path: Path) -> Path:
    """The package as a later release will be: another version, and a schema that has gone on."""
    tree = tmp_path / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", DEB, str(tree)], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*", "Version: 99.0", control.read_text()))
    [schema] = tree.glob("usr/lib/postwake/lib/python3*/site-packages/postwake/store/schema.py")
    schema.write_text(schema.read_text() + _LATER)
    target = tmp_path / "later.deb"
    subprocess.run(
        ["dpkg-deb", "-Znone", "--root-owner-group", "--build", str(tree), str(target)], check=True, capture_output=True
    )
    return target


def test_up_and_down(server: Any, later_deb: Path) -> None:
    """Up: restarted on a migrated store, a copy of the old one beside it. Down: refused, said, mail goes on."""
    server.install()
    server.run("postwake setup postfix --url https://track.example.com --domain example.com --yes --no-test")
    configuration = server.run("sha256sum /etc/postwake/postwake.toml /etc/postwake/keys /etc/postfix/main.cf")
    server.send("25:1")
    server.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 1)
    [[version]] = server.ask("PRAGMA user_version")
    before = server.run("systemctl show --value -p MainPID postwake-milter postwake-logparse postwake-pixelserver")

    sender = server.popen("python3", "/usr/local/bin/send-mail", *(f"25:{number}" for number in range(100, 160)))
    server.install(str(later_deb))
    output, _ = sender.communicate(timeout=300)
    assert sender.returncode == 0, output
    server.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 61)
    assert server.ask("PRAGMA user_version") == [[version + 1]]
    kept = f"/var/lib/postwake/postwake.db.schema-{version}"
    assert server.run(f"stat -c %a {kept}").strip() == "600"
    server.wait_for("systemctl is-active --quiet postwake-milter postwake-logparse postwake-pixelserver")
    after = server.run("systemctl show --value -p MainPID postwake-milter postwake-logparse postwake-pixelserver")
    assert not set(before.split()) & set(after.split())
    assert server.run("sha256sum /etc/postwake/postwake.toml /etc/postwake/keys /etc/postfix/main.cf") == configuration
    server.send("25:2")
    server.settle("SELECT count(*) FROM messages WHERE tracked AND message_id LIKE '%order-2@%'", 1)
    assert server.checked().keys() == {"queue IDs"}

    server.install()  # the older release on the newer store
    server.send("25:3")
    server.wait_for("grep -lq 'Order 3$' /srv/sink/*")
    assert f"schema version {version + 1} is newer than this Postwake's {version}" in server.checked()["store"]
    log = server.run("grep -cE 'status=deferred|status=bounced|reject:' /var/log/mail.log || true")
    assert log.strip() == "0"

    # What docs/operations.md says of going back: the copy that was kept.
    server.run(
        "systemctl stop 'postwake-*'; cd /var/lib/postwake; rm -f postwake.db postwake.db-wal postwake.db-shm;"
        f" install -o postwake-logparse -g postwake -m 0660 {kept} postwake.db;"
        " systemctl reset-failed 'postwake-*' || true;"
        " systemctl start postwake-milter postwake-logparse postwake-pixelserver"
    )
    server.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 63)
    assert server.run("postwake db check").endswith("in order\n")
