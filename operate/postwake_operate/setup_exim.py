"""What an Exim needs so that its log can be followed. Postwake does not rewrite mail of an Exim in this release."""

from __future__ import annotations

from pathlib import Path

TEXT = """\
# Exim: Postwake reads its log: sent, deferred, bounced, by message and recipient. Rewriting bodies (opens and clicks)
# is for Postfix in this release: Exim has no milter interface.
#
# 1. In the main section of Exim's configuration (Debian: /etc/exim4/conf.d/main/000_localmacros as
#    MAIN_LOG_SELECTOR = …, or exim4.conf.template). Without these fields recipients before
#    rewriting and aliases, recipients that are not delivered to yet, and delivery times are missing:

log_selector = +all_parents +received_recipients +sender_on_delivery +deliver_time +queue_time +smtp_confirmation
log_timezone = yes

# 2. In /etc/postwake/postwake.toml:

[logparse]
path = "{path}"
mta = "exim"

# 3. The log parser's user must be able to read it (Debian: group adm), then:
#    systemctl restart exim4 && systemctl enable --now postwake-migrate postwake-logparse
"""


def advice(path: Path) -> str:
    """Return the lines for an Exim that logs to *path* (its main log)."""
    return TEXT.format(path=path)
