"""Checks of Postfix: it runs; our milter is in its configuration, in the right place, harmless when it is away."""

from __future__ import annotations

import os
from collections.abc import Iterator

from postwake.config import Config
from postwake.errors import UnavailableError
from postwake_operate import milter_list
from postwake_operate.finding import Finding, fail, ok, skip, warn
from postwake_operate.milter_list import Milter
from postwake_operate.postfix import Postfix
from postwake_operate.setup_postfix import PARAMETERS, milter_addresses

_SETUP = "`postwake setup postfix` shows what to change, --yes does it"


def check(config: Config, postfix: Postfix) -> Iterator[Finding]:
    """Yield what is found."""
    yield _running(postfix)
    addresses = milter_addresses(postfix, config.milter.socket)
    what = {"smtpd_milters": "mail that comes by SMTP", "non_smtpd_milters": "mail by sendmail(1)"}
    lists: dict[str, list[Milter]] = {}
    for parameter in PARAMETERS:
        try:
            lists[parameter] = postfix.milters(parameter)
        except ValueError as error:
            yield fail(parameter, f"{postfix.main_cf}: {error}", "mend main.cf")
            continue
        ours = milter_list.find(lists[parameter], addresses)
        if ours is None:
            yield fail(parameter, f"our milter is not in it: {what[parameter]} stays untracked", _SETUP)
        else:
            yield ok(parameter, ours.text)
            yield _order(parameter, lists[parameter], addresses)
            yield _default_action(parameter, ours, postfix)
    for override in postfix.overrides:
        if override.parameter in PARAMETERS and not any(address in override.value for address in addresses):
            found = f"{override.service}: -o {override.parameter}={override.value}: what comes in there stays untracked"
            yield warn("master.cf", found, "right for a content filter's return; else add our milter there")
    yield _queue_ids(postfix)


def _running(postfix: Postfix) -> Finding:
    if os.geteuid() != 0:
        return skip("postfix", f"{postfix.config}: only root is told whether it runs")
    try:
        if postfix.is_running():
            return ok("postfix", f"{postfix.config}: master runs")
    except UnavailableError as error:
        return skip("postfix", str(error))
    start = " ".join(postfix.command("postfix", "start"))
    return fail(
        "postfix",
        f"{postfix.config}: master does not run: no mail is taken or delivered",
        f"`systemctl start postfix`, or `{start}`; its log says why it stopped",
    )


def _order(parameter: str, milters: list[Milter], addresses: frozenset[str]) -> Finding:
    signer = milter_list.problem_of_order(milters, addresses)
    if signer is not None:
        advice = "put our entry before it: a signature over the body breaks when the body changes after it"
        return fail("milter order", f"{parameter}: {signer} signs before we rewrite", advice)
    return ok("milter order", f"{parameter}: nothing known to sign stands before us")


def _default_action(parameter: str, ours: Milter, postfix: Postfix) -> Finding:
    action = ours.options.get("default_action") or postfix.setting("milter_default_action")
    if action != "accept":
        advice = "write { ADDRESS, default_action=accept } so that mail flows when the milter is away"
        return fail(
            "default action", f"{parameter}: {action}: mail is refused or put off while the milter is away", advice
        )
    return ok("default action", f"{parameter}: accept")


def _queue_ids(postfix: Postfix) -> Finding:
    if postfix.setting("enable_long_queue_ids") == "yes":
        return ok("queue IDs", "long: never given out twice")
    advice = "postconf -e enable_long_queue_ids=yes: short ones are used again within seconds on a busy server"
    return warn("queue IDs", "short (enable_long_queue_ids = no)", advice)
