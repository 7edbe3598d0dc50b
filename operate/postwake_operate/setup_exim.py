"""What puts Postwake beside an Exim: its log is followed. Its mail is not rewritten in this release.

Exim has no milter interface, and what it has instead (a transport filter, a router that pipes mail through a program
and takes it back) puts a program of ours where a crash costs mail: not in this release. Exim's own configuration is the
administrator's, in one file or in Debian's many: the lines for it are printed, never put in.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from postwake import config as configuration
from postwake.errors import UsageError
from postwake_operate.plan import Membership, NewFile, NewStore, Units, systemctl, systemd_runs
from postwake_operate.setup_postfix import GROUP, LOG_USER, Plan, filled_example, require_users

UNITS = ("postwake-migrate.service", "postwake-logparse.service", "postwake-maintenance.timer")
TEXT = """\
# Exim: Postwake reads its log: sent, deferred, bounced, by message and recipient. Rewriting bodies (opens and clicks)
# is for Postfix in this release: Exim has no milter interface.
#
# In the main section of Exim's configuration. Without these fields recipients before rewriting and aliases,
# recipients that are not delivered to yet, and delivery times are missing. On Debian the first line begins with
# MAIN_LOG_SELECTOR instead of log_selector, and both belong into /etc/exim4/exim4.conf.localmacros, or, where the
# configuration is split, into /etc/exim4/conf.d/main/000_localmacros. Then restart Exim:

log_selector = +all_parents +received_recipients +sender_on_delivery +deliver_time +queue_time +smtp_confirmation
log_timezone = yes
"""


def make_plan(log: Path, config_path: Path, *, with_services: bool = True) -> Plan:
    """Return the steps that have the log parser follow an Exim whose main log is *log*."""
    plan = Plan()
    if config_path.exists():
        config = configuration.load(config_path)
        there = config.logparse
        if (there.source, there.path) != ("file", log) or there.mta == "postfix":
            raise UsageError(
                f"{config_path} is there already: logparse.source = {there.source!r}, path = {str(there.path)!r},"
                f" mta = {there.mta!r}: expected 'file', {str(log)!r} and 'exim' or 'auto' to be put in there"
            )
    else:
        text = filled_example({("logparse", "path"): json.dumps(str(log)), ("logparse", "mta"): '"exim"'})
        config = configuration.parse(tomllib.loads(text), str(config_path))
        plan.steps.append(NewFile(config_path, text.encode(), 0o644))
    plan.steps += [NewStore(config.store.path, config.store.spool_dir, GROUP), Membership(LOG_USER, "adm")]
    if not with_services:
        return plan
    if systemd_runs() and systemctl("cat", "postwake-logparse.service").returncode == 0:
        require_users(LOG_USER)
        plan.steps.append(Units(systemctl, UNITS))
    else:
        plan.notes.append("No units of systemd's here: start `postwake logparse` by your own means.")
    return plan
