"""The rule file: what ships is sound, and what is wrong in a user's own is said, all of it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postwake.errors import ConfigError
from postwake.reply import CATEGORIES, Classifier, RuleError, check_rules, default_classifier
from postwake.reply.load import advice_by_rule
from postwake.reply.rules import load_shipped, needles, parse_rules

SHIPPED = load_shipped()
CLASSIFIER = Classifier(SHIPPED)

GOOD = """
[[rule]]
id = "mine"
match = "quux"
kind = "hard"
fault = "sender"
category = "policy"
advice = "Do this."
example = "550 quux"
"""


@pytest.mark.parametrize(
    ("rule", "example"),
    [
        pytest.param(rule, example, id=f"{rule.id}-{n}")
        for rule in SHIPPED.rules
        for n, example in enumerate(rule.examples)
    ],
)
def test_every_example_is_matched_first_by_its_rule(rule, example) -> None:
    """No shipped rule is unreachable, and each example has the verdict that its rule gives."""
    assert next(CLASSIFIER.matching_rules(example)) is rule
    verdict = CLASSIFIER.classify(example)
    assert (verdict.rule, verdict.category, verdict.fault, verdict.advice) == (
        rule.id,
        rule.category,
        rule.fault,
        rule.advice,
    )
    assert verdict.kind in {rule.kind, "soft"}


def test_checker_passes_the_shipped_rules() -> None:
    """The checker that CI runs has nothing to say about what ships."""
    assert check_rules(SHIPPED) == []


def test_every_category_but_the_fallback_has_a_rule() -> None:
    """No category of the documented set is dead; `unclassified` is what no rule gives."""
    assert {rule.category for rule in SHIPPED.rules} == CATEGORIES - {"unclassified"}


@pytest.mark.parametrize("rule", SHIPPED.rules, ids=lambda rule: rule.id)
def test_advice_is_a_sentence(rule) -> None:
    """Advice is something that a person can read: a capital letter, a full stop, not a whole page."""
    assert rule.advice[-1] == "."
    assert len(rule.advice) < 200
    assert rule.advice[0].isupper() or rule.advice.startswith("docomo")


@pytest.mark.parametrize(
    "rule", [r for r in SHIPPED.rules if r.kind == "hard" and r.fault == "recipient"], ids=lambda r: r.id
)
def test_only_bad_addresses_are_dead(rule) -> None:
    """A rule that calls the address dead is about the mailbox or its domain, never about the sender."""
    assert rule.category in {"bad-mailbox", "bad-domain"}


def test_shipped_patterns_have_no_nested_repetition() -> None:
    """No shipped pattern repeats a group that itself repeats without bound: the classic way to exponential time."""
    nested = re.compile(r"\([^()]*(?<!\\)[*+][^()]*\)[*+]")
    for rule in SHIPPED.rules:
        if rule.match is not None:
            found = [part for part in nested.findall(rule.match.pattern) if r"\." not in part]
            assert found == [], rule.id


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        pytest.param("[[rule", "mine.toml: not TOML", id="not-toml"),
        pytest.param("[rule]\nid = 'x'", "write [[rule]] with two brackets", id="one-bracket"),
        pytest.param("[[rules]]\nid = 'x'", "unknown key 'rules'", id="unknown-table"),
        pytest.param(GOOD + GOOD, "rule 'mine': the id is used twice", id="duplicate-id"),
        pytest.param(
            GOOD.replace('kind = "hard"', 'kind = "solid"'), "kind is 'solid': expected one of hard, soft", id="kind"
        ),
        pytest.param(GOOD.replace('"sender"', '"me"'), "fault is 'me': expected one of greylisting", id="fault"),
        pytest.param(
            GOOD.replace('"policy"', '"bad"'), "category is 'bad': expected one of authentication", id="category"
        ),
        pytest.param(GOOD.replace('"quux"', '"qu(ux"'), "match is not a regular expression", id="regex"),
        pytest.param(GOOD.replace('"quux"', '"a{99999999999}"'), "match is not a regular expression", id="repetition"),
        pytest.param(GOOD.replace('"quux"', "17"), "match is 17: expected a regular expression", id="match-type"),
        pytest.param(GOOD.replace('match = "quux"', ""), "nothing to match", id="no-condition"),
        pytest.param(GOOD.replace('advice = "Do this."', ""), "advice is missing", id="no-advice"),
        pytest.param(
            GOOD.replace('"Do this."', '" "'), "advice is ' ': expected a non-empty string", id="blank-advice"
        ),
        pytest.param(GOOD.replace('example = "550 quux"', ""), "example is missing", id="no-example"),
        pytest.param(GOOD.replace('"550 quux"', "[]"), "example is empty", id="empty-examples"),
        pytest.param(GOOD.replace('"550 quux"', "[7]"), "example is [7]", id="example-type"),
        pytest.param(GOOD + 'colour = "red"', "unknown key 'colour'", id="unknown-key"),
        pytest.param(GOOD + 'provider = "nobody"', "provider is 'nobody'", id="unknown-provider"),
        pytest.param(GOOD.replace('"sender"', '"recipient"'), "would call it dead", id="policy-never-kills-an-address"),
        pytest.param("[providers.x]\nname = 'X'", "neither host nor text", id="provider-without-sign"),
        pytest.param("[providers.x]\nhost = '('", "host is not a regular expression", id="provider-regex"),
        pytest.param("[providers]\nx = 1", "write [providers.NAME]", id="provider-not-a-table"),
    ],
)
def test_problems_are_named(toml: str, said: str) -> None:
    """Each mistake is reported with the file, the rule, the value and what was expected."""
    with pytest.raises(RuleError) as caught:
        parse_rules(toml, "mine.toml")
    assert any(said in problem for problem in caught.value.problems)
    assert all(problem.startswith("mine.toml: ") for problem in caught.value.problems)


def test_all_problems_are_reported_at_once() -> None:
    """A user who made three mistakes reads of three mistakes."""
    with pytest.raises(RuleError) as caught:
        parse_rules(GOOD.replace('"hard"', '"x"').replace('"sender"', '"y"').replace('"policy"', '"z"'), "mine.toml")
    assert len(caught.value.problems) == 3


def test_users_rules_come_first(tmp_path: Path) -> None:
    """A rule of the user's own decides before any shipped rule."""
    mine = tmp_path / "mine.toml"
    mine.write_text(GOOD.replace('"quux"', '"User unknown"').replace('"550 quux"', '"550 5.1.1 User unknown"'))
    assert default_classifier(mine).classify("550 5.1.1 User unknown").rule == "mine"
    assert default_classifier().classify("550 5.1.1 User unknown").rule == "unknown-user"


def test_users_rule_can_name_shipped_and_own_providers(tmp_path: Path) -> None:
    """A user's file may use a shipped provider, add its own, and test the host that spoke."""
    mine = tmp_path / "mine.toml"
    mine.write_text(
        "[providers.corp]\nname = 'Corp'\nhost = 'corp\\.example$'\n"
        + GOOD.replace('"550 quux"', '"host mx.corp.example[192.0.2.1] said: 550 quux"').replace(
            'match = "quux"', 'match = "quux"\nprovider = "corp"'
        )
        + GOOD.replace('"mine"', '"g"')
        .replace('match = "quux"', 'match = "quux"\nprovider = "gmail"')
        .replace('"550 quux"', '"550 quux - gsmtp"')
        + GOOD.replace('"mine"', '"h"')
        .replace('match = "quux"', 'host = "^mx9\\\\."')
        .replace('"550 quux"', '"host mx9.example.net[192.0.2.1] said: 550 anything"')
    )
    classifier = default_classifier(mine)
    verdict = classifier.classify("550 quux", relay="mx.corp.example[192.0.2.9]:25")
    assert (verdict.rule, verdict.provider) == ("mine", "Corp")
    assert classifier.classify("550 quux").rule == "unclassified"
    assert classifier.classify("550 quux", relay="MX9.example.net").rule == "h"


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        pytest.param(GOOD.replace('"mine"', '"unknown-user"'), "already taken", id="shipped-id"),
        pytest.param(
            GOOD.replace('"550 quux"', '"550 xyzzy"'), "is matched first by no rule", id="example-not-matched"
        ),
        pytest.param(
            GOOD + GOOD.replace('"mine"', '"second"'), "is matched first by rule 'mine'", id="unreachable-second-rule"
        ),
    ],
)
def test_users_file_is_checked_as_a_whole(tmp_path: Path, toml: str, said: str) -> None:
    """A user's file must not clash with the shipped ids, and each of its rules must be reachable."""
    mine = tmp_path / "mine.toml"
    mine.write_text(toml)
    with pytest.raises(ValueError, match=r"mine\.toml") as caught:
        default_classifier(mine)
    assert said in str(caught.value)


def test_advice_needs_no_sound_rules(tmp_path: Path) -> None:
    """A report has the advice of all rules, the user's own too, however wrong they are; no such file is said."""
    mine = tmp_path / "mine.toml"
    shipped = {rule.id: rule.advice for rule in SHIPPED.rules}
    assert advice_by_rule(None) == shipped
    mine.write_text(GOOD + GOOD.replace('"mine"', '"second"').replace("550", "(((") + '[[rule]]\nid = "bare"\n')
    advice = tomllib.loads(GOOD)["rule"][0]["advice"]
    assert advice_by_rule(mine) == shipped | {"mine": advice, "second": advice, "bare": ""}
    for text in ("[rule]\nid = 'x'", "rule = 5", "rule = ['x']", ""):
        mine.write_text(text)
        assert advice_by_rule(mine) == shipped
    for data, said in ((b"[[rule", "not TOML"), (b"\xff", "not UTF-8")):
        mine.write_bytes(data)
        with pytest.raises(ConfigError, match=said):
            advice_by_rule(mine)
    with pytest.raises(ConfigError, match="cannot read the reply rules"):
        advice_by_rule(tmp_path / "none.toml")


def test_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    """A rule file in another encoding is refused with the place of the first bad byte."""
    mine = tmp_path / "mine.toml"
    mine.write_bytes(b"# caf\xe9\n")
    with pytest.raises(RuleError, match="not UTF-8 at byte 5"):
        default_classifier(mine)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("user unknown", ("user unknown",)),
        ("over ?quota", ("quota",)),
        (r"5\.7\.26 failed", ("5.7.26 failed",)),
        ("relay|loops", ("loops", "relay")),
        ("(?:relay)|(?:loops back)", ("loops back", "relay")),
        ("(user|recipient) .*", ("recipient", "user")),
        ("(?:(user|recipient) ?: refused)", (": refused",)),
        ("(?:(user|recipient) ?)", ("recipient", "user")),
        ("(user)? unknown", (" unknown",)),
        ("(?!user )absent", ("absent",)),
        (r"[Uu]ser|\bspam\b", ("ser", "spam")),
        ("a{3}bcdef", ("bcdef",)),
        ("ab|user", None),
        (".*", None),
        ("", None),
    ],
)
def test_needles(pattern: str, expected: tuple[str, ...] | None) -> None:
    """A pattern's needles are plain strings one of which it cannot match without."""
    assert needles(pattern) == expected


@given(
    text=st.lists(
        st.sampled_from(
            [
                "user",
                "unknown",
                "Mailbox",
                "FULL",
                "quota",
                "exceeded",
                "is",
                "not",
                "relay",
                "denied",
                "blocked",
                "using",
                "spam",
                "address",
                "rejected",
                "sender",
                "domain",
                "found",
                "connection",
                "timed out",
                "too",
                "many",
                "no",
                "such",
                "greylisted",
                "DMARC",
                "account",
                "disabled",
                "message",
                "size",
                "access",
                "rate",
                "limit",
                "-",
                ":",
                "from",
                "by",
                "host",
                "IP",
                "the",
                "of",
                "invalid",
                "does",
                "exist",
                "TLS",
                "loop",
                "hop",
                "count",
                "policy",
            ]
        ),
        max_size=10,
    ).map(" ".join)
)
@settings(max_examples=400, deadline=None)
def test_needles_never_hide_a_match(text: str) -> None:
    """Whatever a shipped pattern finds contains one of its needles."""
    for rule in SHIPPED.rules:
        if rule.match is not None and rule.needles is not None and rule.match.search(text):
            assert any(needle in text.lower() for needle in rule.needles), rule.id


def test_unless_keeps_a_rule_from_matching() -> None:
    """`unless` takes texts out again that `match` found."""
    ruleset = parse_rules(GOOD.replace('match = "quux"', 'match = "quux"\nunless = "not quux"'), "mine.toml")
    classifier = Classifier(ruleset)
    assert classifier.classify("550 quux").rule == "mine"
    assert classifier.classify("550 Not Quux").rule == "unclassified"


@pytest.mark.parametrize(("code", "matches"), [("550", True), ("450", False), ("", True)])
def test_code_condition_may_allow_its_absence(code: str, matches: bool) -> None:
    """An empty alternative in `code` stands for a reply without a code."""
    classifier = Classifier(parse_rules(GOOD.replace('match = "quux"', "match = 'quux'\ncode = '5..|'"), "mine.toml"))
    assert (classifier.classify(f"{code} quux").rule == "mine") == matches


DOCUMENT = Path(__file__).parents[3] / "docs" / "classification.md"


def test_documented_rule_file_works(tmp_path: Path) -> None:
    """The rule file that docs/classification.md shows can be copied as it stands."""
    block = re.search(r"```toml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    mine = tmp_path / "mine.toml"
    mine.write_text(block[1])
    verdict = default_classifier(mine).classify("451 message quarantined", relay="mx.corp.example[192.0.2.5]:25")
    assert (verdict.rule, verdict.provider, verdict.category) == ("corp-quarantine", "Example Corp", "policy")


def test_documented_categories_are_the_categories() -> None:
    """The table of categories lists each one, and no other."""
    table = DOCUMENT.read_text(encoding="utf-8").split("## Categories")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z-]+)`", table, re.MULTILINE)) == CATEGORIES
