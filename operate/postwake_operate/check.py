"""``postwake check``: every check, in the order in which one thing depends on another."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from postwake import config as configuration
from postwake.config import Config
from postwake.errors import ConfigError, PostwakeError
from postwake.keyfile import read_keys
from postwake_operate import access, check_dns, check_log, check_milter, check_postfix, check_store, check_web
from postwake_operate.finding import Finding, fail, ok, skip
from postwake_operate.postfix import Postfix


@dataclass(frozen=True, slots=True)
class Options:
    """What ``postwake check`` was asked for."""

    postfix_config: Path | None = None
    offline: bool = False
    selectors: tuple[str, ...] = ()


def run_checks(
    config_path: Path, options: Options, now_us: Callable[[], int] = lambda: time.time_ns() // 1000
) -> list[Finding]:
    """Return every finding; a wrong configuration is the only one then."""
    try:
        config = configuration.load(config_path)
        if _tracks(config):
            configuration.require_tracking(config, str(config_path))
    except ConfigError as error:
        advice = "mend the file; `postwake config check` reads it anew"
        if not config_path.exists():
            advice = "`postwake setup postfix` (or exim) writes one"
        return [fail("configuration", "; ".join(error.problems), advice)]
    return list(_all(config, config_path, options, now_us()))


def _tracks(config: Config) -> bool:
    """Return whether mail is rewritten: not beside an Exim whose log alone is followed."""
    return config.logparse.mta != "exim" or bool(config.tracking.url)


def _all(config: Config, config_path: Path, options: Options, now_us: int) -> Iterator[Finding]:
    yield ok("configuration", f"{config_path}: in order")
    if not _tracks(config):
        yield skip("tracking", "tracking.url is empty: only Exim's log is followed")
        yield from check_store.check(config, now_us)
        yield from check_log.check(config, None, now_us)
        yield check_web.metrics("logparse", config.metrics.logparse)
        return
    yield _domains(config)
    yield from _keys(config)
    yield from check_store.check(config, now_us)
    try:
        postfix: Postfix | None = Postfix(options.postfix_config)
    except PostwakeError as error:
        postfix = None
        yield skip("postfix", str(error))
    yield from check_milter.check(config, postfix)
    if postfix is not None and config.logparse.mta != "exim":
        yield from check_postfix.check(config, postfix)
    yield from check_log.check(config, postfix, now_us)
    yield from check_web.local(config)
    if options.offline:
        yield skip("tracking host", "left out: --offline")
        yield skip("dns", "left out: --offline")
    else:
        yield from check_web.public(config)
        yield from check_dns.check(config, postfix, options.selectors)


def _domains(config: Config) -> Finding:
    if config.tracking.sender_domains:
        return ok("sender domains", ", ".join(config.tracking.sender_domains))
    return Finding(
        "sender domains",
        "warn",
        "tracking.sender_domains is empty: no mail is tracked",
        "name the domains that you send from",
    )


def _keys(config: Config) -> Iterator[Finding]:
    path = config.tracking.keys
    try:
        read_keys(path)
    except ConfigError as error:
        advice = f"chgrp postwake {path}; chmod 0640 {path}; a line that is no key: mend it"
        if not path.exists():
            advice = (
                f"restore {path} from a backup: links in mail sent so far are dead without it; else `postwake key new`"
            )
        yield fail("keys", "; ".join(error.problems), advice)
        return
    info = path.stat()
    if info.st_mode & 0o027:
        advice = f"chmod 0640 {path}: whoever writes it can mint links under your name"
        yield fail("keys", f"{path}: {access.describe(path)}: expected 0640 or less", advice)
        return
    for name in ("postwake-milter", "postwake-pixelserver"):
        who = access.service(name)
        if who.uid != os.geteuid() and (obstacle := who.first_obstacle(path, access.READ)) is not None:
            advice = f"chgrp postwake {path}; chmod 0640 {path}"
            yield fail("keys", f"{name} cannot read {path}: {obstacle} is {access.describe(obstacle)}", advice)
            return
    yield ok("keys", f"{path}: {access.describe(path)}")
