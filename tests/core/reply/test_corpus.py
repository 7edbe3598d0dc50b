"""Agreement with replies that others collected and labelled, where that corpus is present."""

from __future__ import annotations

import csv
import email
import os
from pathlib import Path

import pytest

from postwake.reply import default_classifier

CORPORA = Path(os.environ.get("POSTWAKE_CORPORA", Path(__file__).parents[3] / "../shared/corpora"))

# Explained in docs/classification.md, "Where we disagree".
EXPLAINED = {"lhost-postfix-17.eml", "rhost-aol-06.eml", "rhost-gsuite-10.eml", "rhost-nttdocomo-02.eml"}
EXPLAINED_IN_MAILS = {"lhost-powermta-01.eml"}
# Reasons that Sisimai itself calls undecided, or that are no bounces.
UNDECIDED = {"filtered", "feedback", "vacation", "delivered", "onhold", "undefined"}


def _rows(name: str) -> list[dict[str, str]]:
    path = CORPORA / name
    if not path.exists():
        pytest.skip(f"no corpus of labelled replies at {path}")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_dead_addresses_agree_with_sisimai() -> None:
    """The verdict "this address is dead" agrees with the expected hardbounce in 97 % or more; the rest is explained."""
    classifier = default_classifier()
    rows = [row for row in _rows("bounces-sisimai/replies.tsv") if row["hardbounce"]]
    disagree = {
        row["file"]
        for row in rows
        if row["reason"] != "filtered"
        and classifier.classify(row["reply"]).is_dead_address != (row["hardbounce"] == "1")
    }
    assert len(disagree) <= 0.03 * len(rows)
    assert disagree <= EXPLAINED


def test_dead_addresses_agree_with_sisimai_in_whole_mails() -> None:
    """Where the mails themselves have a Diagnostic-Code for each recipient, the verdict on it agrees as often."""
    classifier = default_classifier()
    expected: dict[str, list[dict[str, str]]] = {}
    for row in _rows("bounces-sisimai/expected.tsv"):
        expected.setdefault(row["file"], []).append(row)
    judged, disagree = 0, set()
    for name, rows in expected.items():
        path = CORPORA / "bounces-sisimai" / "bsd" / name
        said = _diagnostics(path.read_bytes()) if path.exists() else []
        for (text, status, host), row in zip(said, rows, strict=False) if len(said) == len(rows) else ():
            if row["hardbounce"] and row["reason"] not in UNDECIDED:
                judged += 1
                if classifier.classify(text, dsn=status, relay=host).is_dead_address != (row["hardbounce"] == "1"):
                    disagree.add(name)
    assert judged > 100
    assert len(disagree) <= 0.03 * judged
    assert disagree <= EXPLAINED | EXPLAINED_IN_MAILS


def _diagnostics(mail: bytes) -> list[tuple[str, str | None, str]]:
    """The Diagnostic-Code of each recipient of a delivery status notification, unfolded, with Status and Remote-MTA."""
    reports = [part for part in email.message_from_bytes(mail).walk() if isinstance(part.get_payload(), list)]
    blocks = [
        block
        for report in reports
        if report.get_content_type() == "message/delivery-status"
        for block in report.get_payload()
    ]
    return [
        (" ".join(code.split()), block["Status"], block.get("Remote-MTA", "").rpartition(";")[2].strip())
        for block in blocks
        if (code := block["Diagnostic-Code"])
    ]


def test_collected_replies_are_classified_and_attributed() -> None:
    """Nearly every reply of a published collection is known, and a provider that signs its replies is named."""
    classifier = default_classifier()
    rows = _rows("replies-smtp-field-manual/responses.tsv")
    unknown = [row["response"] for row in rows if classifier.classify(row["response"]).category == "unclassified"]
    assert len(unknown) <= 0.03 * len(rows)
    signed = {
        "google": ("Gmail", "gsmtp"),
        "mimecast": ("Mimecast", "mimecast.com"),
        "apple": ("Apple", "support.apple.com"),
    }
    for row in rows:
        provider, sign = signed.get(row["provider"], (None, ""))
        if provider and sign in row["response"]:
            assert classifier.classify(row["response"]).provider == provider
