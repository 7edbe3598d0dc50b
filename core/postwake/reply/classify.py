"""Say in plain words what a reply means: how lasting, whose fault, of what category, and what to do about it.

Pure: the rules come in, the verdict goes out. Verdicts are remembered by wording, so that a queue of a million
deferrals to one provider is judged once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from postwake.reply.grammar import MAX_REPLY_CHARS, parse_template, reply_of
from postwake.reply.rules import Provider, Rule, RuleError, RuleSet, load_file, load_shipped, merged
from postwake.reply.template import canonical, restore, templated

_DSN = re.compile(r"[245]\.\d{1,3}\.\d{1,4}")
_HOST_OF_PEER = re.compile(r"[^\[\]\s:]+")

MAX_JUDGED_CHARS = 2048
"""Rules see this much of a message: the longest replies of the large providers are below a thousand characters, and
the cost of a few hundred regular expressions on a text made to be slow stays bounded."""

# Before RCPT TO the server has not heard of the recipient: "unknown user" then speaks of the sender or of a login. Only
# that the whole domain takes no mail can be said earlier (RFC 7504), though not in answer to the sender's address.
_SENDER_STAGES = frozenset({"MAIL FROM", "AUTH"})
_EARLY_STAGES = frozenset({"connect", "greeting", "EHLO", "HELO", "LHLO", "STARTTLS"})

_UNCLASSIFIED_ADVICE = "No rule knows this reply: read it, and add a rule of your own if it comes often."
_EXPIRED_ADVICE = (
    "The queue lifetime ended before the mail could be delivered: see the earlier deferrals for the reason."
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reply means.

    `kind` is `hard` (sending again meets the same answer until somebody changes something), `soft` (waiting may be
    enough) or `none` (the reply is no failure). `fault` is `recipient`, `sender`, `network`, `greylisting` or
    `unknown`. Only `hard` together with `recipient` says that the address is dead. `rule` is the id of the rule that
    decided, `provider` who runs the server as far as known, `advice` a sentence for a person.
    """

    kind: str
    fault: str
    category: str
    provider: str | None
    rule: str
    advice: str

    @property
    def is_dead_address(self) -> bool:
        """True if mail to this address will never arrive, whoever sends it: the only ground for suppressing it."""
        return self.kind == "hard" and self.fault == "recipient"


SUCCESS = Verdict("none", "unknown", "other", None, "success", "Delivered: nothing to do.")
"""The verdict on a 2xx or 3xx reply; its fault and category mean nothing."""


class Classifier:
    """Classifies replies by rules, the first that matches deciding.

    `rules` is a `RuleSet`, or a sequence of rules that name no providers.
    """

    def __init__(self, rules: Sequence[Rule] | RuleSet) -> None:
        ruleset = rules if isinstance(rules, RuleSet) else RuleSet(tuple(rules))
        self.rules = ruleset.rules
        self.providers = {provider.key: provider for provider in ruleset.providers}
        self._judge = lru_cache(maxsize=16384)(self._judge_wording)
        self._host_facts = lru_cache(maxsize=16384)(self._facts_of_host)

    def classify(
        self,
        text: str,
        *,
        code: int | None = None,
        dsn: str | None = None,
        status: str | None = None,
        relay: str | None = None,
    ) -> Verdict:
        """Classify a reply.

        `text` is what `parse_reply` takes. `code` and `dsn` are used where the text has none (a Status field, the
        dsn= of a log line). `status` is what the MTA made of it: with `deferred` the verdict is never hard, and with
        `expired` and no text it is an expiry. `relay` is the log's relay field or a host name, for replies that do not
        name their server.
        """
        if status == "sent":  # most lines of a log, whose words nobody asks about
            return self._success(self._host_facts(_host_name(relay))[0])
        return self._classify(text, code, dsn, status, relay)[0]

    def judge(
        self, text: str, *, dsn: str | None = None, status: str | None = None, relay: str | None = None
    ) -> tuple[Verdict, int | None, str | None]:
        """Classify as :meth:`classify` does, and return with the verdict the code and the enhanced code.

        One parse for both: what a log parser needs of each reply.
        """
        return self._classify(text, None, dsn, status, relay)

    def classify_record(self, text: str) -> dict[str, Any]:
        """Classify a reply for output: the keys of `postwake classify`, in their order; None where nothing is known."""
        verdict, code, dsn = self._classify(text, None, None, None, None)
        failed = verdict.kind != "none"
        return {
            "reply": text,
            "kind": verdict.kind if failed else None,
            "fault": verdict.fault if failed else None,
            "category": verdict.category if failed else None,
            "code": code,
            "dsn": dsn,
            "provider": verdict.provider,
            "rule": verdict.rule if failed else None,
        }

    def matching_rules(self, text: str) -> Iterator[Rule]:
        """Yield every rule that matches a reply, in order: the first is the one that decides (for validation)."""
        template, values = templated(text[:MAX_REPLY_CHARS])
        parsed = parse_template(template)
        host = reply_of(text, parsed, values).host
        host_provider, host_rules = self._host_facts(host)
        said = canonical(parsed.message)[:MAX_JUDGED_CHARS]
        providers = self._candidates(host_provider, said.lower())
        yield from self._matches(said, parsed.code, parsed.dsn, parsed.stage, host_rules, providers)

    def _classify(
        self, text: str, code: int | None, dsn: str | None, status: str | None, relay: str | None
    ) -> tuple[Verdict, int | None, str | None]:
        template, values = templated(text[:MAX_REPLY_CHARS])
        parsed = parse_template(template)
        code = parsed.code or code
        dsn = parsed.dsn or (dsn if dsn and _DSN.fullmatch(dsn) else None)
        host = restore(parsed.host, values) if parsed.host else relay
        host_provider, host_rules = self._host_facts(_host_name(host))
        verdict = self._judge(
            parsed.message, code, dsn, parsed.stage, status if status in _STATUSES else None, host_provider, host_rules
        )
        return verdict, code, dsn

    def _facts_of_host(self, host: str | None) -> tuple[str | None, frozenset[str]]:
        """Return the key of the provider that runs `host`, and the ids of the rules whose host condition it meets."""
        if not host:
            return None, frozenset()
        provider = next((p.key for p in self.providers.values() if p.host is not None and p.host.search(host)), None)
        return provider, frozenset(rule.id for rule in self.rules if rule.host is not None and rule.host.search(host))

    def _candidates(self, host_provider: str | None, lowered: str) -> tuple[str, ...]:
        """Return the providers that may be speaking, likeliest first: whose host it is, then whose words they are."""
        spoken = [
            provider
            for provider in self.providers.values()
            if provider.text is not None and provider.key != host_provider and _speaks(provider, lowered)
        ]
        spoken.sort(key=lambda provider: provider.filter_only)
        keys = [provider.key for provider in spoken]
        return (host_provider, *keys) if host_provider else tuple(keys)

    def _matches(
        self,
        said: str,
        code: int | None,
        dsn: str | None,
        stage: str | None,
        host_rules: frozenset[str],
        providers: tuple[str, ...],
    ) -> Iterator[Rule]:
        lowered, code_text, dsn_text, stage_text = said.lower(), str(code or ""), dsn or "", stage or ""
        for rule in self.rules:
            if rule.needles is not None and not any(needle in lowered for needle in rule.needles):
                continue
            if rule.provider is not None and rule.provider not in providers:
                continue
            if rule.code is not None and not rule.code.fullmatch(code_text):
                continue
            if rule.dsn is not None and not rule.dsn.fullmatch(dsn_text):
                continue
            if rule.stage is not None and not rule.stage.fullmatch(stage_text):
                continue
            if rule.host is not None and rule.id not in host_rules:
                continue
            if rule.fault == "recipient" and (
                stage in _SENDER_STAGES or (stage in _EARLY_STAGES and rule.category != "bad-domain")
            ):
                continue
            if rule.match is not None and not rule.match.search(said):
                continue
            if rule.unless is not None and rule.unless.search(said):
                continue
            yield rule

    def _judge_wording(
        self,
        message: str,
        code: int | None,
        dsn: str | None,
        stage: str | None,
        status: str | None,
        host_provider: str | None,
        host_rules: frozenset[str],
    ) -> Verdict:
        said = canonical(message)[:MAX_JUDGED_CHARS]
        providers = self._candidates(host_provider, said.lower())
        if (code is not None and code < 400) or (code is None and dsn is not None and dsn[0] == "2"):
            return self._success(providers[0] if providers else None)
        provider = self._name(providers[0]) if providers else None
        if status == "expired" and not said and code is None:
            return Verdict("soft", "unknown", "expired", provider, "expired", _EXPIRED_ADVICE)
        rule = next(self._matches(said, code, dsn, stage, host_rules, providers), None)
        temporary = status == "deferred" or (code is not None and code < 500)
        temporary = temporary or (code is None and dsn is not None and dsn[0] == "4")
        if rule is None:
            permanent = code >= 500 if code is not None else dsn[0] == "5" if dsn is not None else status == "bounced"
            kind = "hard" if permanent and not temporary else "soft"
            return Verdict(kind, "unknown", "unclassified", provider, "unclassified", _UNCLASSIFIED_ADVICE)
        if rule.provider is not None:
            provider = self._name(rule.provider)
        kind = "soft" if temporary else rule.kind
        return Verdict(kind, rule.fault, rule.category, provider, rule.id, rule.advice)

    def _success(self, provider: str | None) -> Verdict:
        return SUCCESS if provider is None else replace(SUCCESS, provider=self._name(provider))

    def _name(self, key: str) -> str:
        provider = self.providers.get(key)
        return provider.name if provider is not None else key


_STATUSES = frozenset({"deferred", "bounced", "expired"})


def _speaks(provider: Provider, lowered: str) -> bool:
    if provider.needles is not None and not any(needle in lowered for needle in provider.needles):
        return False
    return provider.text is not None and provider.text.search(lowered) is not None


def _host_name(host: str | None) -> str | None:
    """Return the lower-case name in `mx.example.com[192.0.2.1]:25`, `H=mx.example.com [192.0.2.1]` or a bare name."""
    if not host:
        return None
    match = _HOST_OF_PEER.match(host.removeprefix("H="))
    return match.group().rstrip(".").lower() if match else None


def check_rules(ruleset: RuleSet, only: Sequence[Rule] | None = None) -> list[str]:
    """Return the problems that only trying shows: an example that its rule is not the first to match.

    `only` limits the check to some of the rules (the user's own, whose file comes first).
    """
    classifier = Classifier(ruleset)
    problems = []
    for rule in ruleset.rules if only is None else only:
        for example in rule.examples:
            first = next(classifier.matching_rules(example), None)
            if first is rule:
                continue
            found = "no rule" if first is None else f"rule {first.id!r}"
            problems.append(
                f"{rule.source}: rule {rule.id!r}: its example {example!r} is matched first by {found}: expected itself"
            )
    return problems


@cache
def _shipped() -> RuleSet:
    return load_shipped()


def default_classifier(user_rules: Path | None = None) -> Classifier:
    """Return a classifier with the shipped rules, after the user's own if a file is given.

    Raises `RuleError` (a `ValueError`) that names file, rule and problem, and `OSError` if the file cannot be read.
    """
    shipped = _shipped()
    if user_rules is None:
        return Classifier(shipped)
    own = load_file(user_rules, shipped.providers)
    ruleset = merged(own, shipped)
    problems = check_rules(ruleset, own.rules)
    if problems:
        raise RuleError(problems)
    return Classifier(ruleset)


def classify_lines(lines: Iterable[str], classifier: Classifier) -> Iterator[dict[str, Any]]:
    """Classify one reply a line; yields a record per line that is not blank (what `postwake classify` prints)."""
    for line in lines:
        reply = line.rstrip("\r\n")
        if reply.strip():
            yield classifier.classify_record(reply)
