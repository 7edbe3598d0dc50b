"""Edits of main.cf that leave every other byte alone, and take back exactly what they did."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postwake_operate.main_cf import add_milter, find, take_back
from postwake_operate.milter_list import parse

OURS = "{ unix:postwake/milter.sock, default_action=accept }"
ADDRESSES = frozenset({"unix:postwake/milter.sock"})

CASES = {
    "empty": ("", f"smtpd_milters = {OURS}\n"),
    "no newline at the end": ("a = 1", f"a = 1\nsmtpd_milters = {OURS}\n"),
    "one": ("smtpd_milters = inet:localhost:8891\n", f"smtpd_milters = {OURS}, inet:localhost:8891\n"),
    "one, no newline": ("smtpd_milters=inet:localhost:8891", f"smtpd_milters={OURS}, inet:localhost:8891"),
    "set to nothing": ("smtpd_milters =\nb = 2\n", f"smtpd_milters = {OURS}\nb = 2\n"),
    "several lines": (
        "# above\nsmtpd_milters =\n    unix:clamav/x.sock,\n# signs\n    inet:localhost:8891\n# below\nb = 2\n",
        "# above\nsmtpd_milters =\n    unix:clamav/x.sock,\n# signs\n"
        f"    {OURS}, inet:localhost:8891\n# below\nb = 2\n",
    ),
    "behind filters": (
        "smtpd_milters = unix:spamass/x.sock\n\tunix:clamav/x.sock  \n",
        f"smtpd_milters = unix:spamass/x.sock\n\tunix:clamav/x.sock, {OURS}  \n",
    ),
    "the last definition counts": (
        "smtpd_milters = a:b\nsmtpd_milters = inet:localhost:8891\n",
        f"smtpd_milters = a:b\nsmtpd_milters = {OURS}, inet:localhost:8891\n",
    ),
    "a comment is no definition": (
        "#smtpd_milters = x\nnon_smtpd_milters = y\n",
        f"#smtpd_milters = x\nnon_smtpd_milters = y\nsmtpd_milters = {OURS}\n",
    ),
    "CR, form feed and bytes that are no text": (
        "a = \xff\x85\x0c1\r\nsmtpd_milters = inet:localhost:8891\r\n",
        f"a = \xff\x85\x0c1\r\nsmtpd_milters = {OURS}, inet:localhost:8891\r\n",
    ),
}


@pytest.mark.parametrize(("before", "after"), CASES.values(), ids=CASES)
def test_added_and_taken_back(before: str, after: str) -> None:
    """Only our entry is added, and undo gives the very bytes back."""
    changed, edit = add_milter(before, "smtpd_milters", OURS)
    assert changed == after
    assert take_back(changed, edit, ADDRESSES) == before


_LINES = """\
smtpd_milters = inet:localhost:8891
smtpd_milters =
  unix:x.sock,
\t{ inet:a:1, b=c }
# comment

non_smtpd_milters = $smtpd_milters
a = 1
  # indented
smtpd_milters=$more unix:y"""
_LINE = st.sampled_from(_LINES.split("\n"))


@settings(max_examples=300, deadline=None)
@given(lines=st.lists(_LINE, max_size=8), newline=st.booleans())
def test_any_file(lines: list[str], newline: bool) -> None:
    """Whatever the file: every old entry is still there in order, ours once, and undo is exact."""
    before = "\n".join(lines) + ("\n" if newline else "")
    if lines and lines[0][:1] in (" ", "\t"):
        return  # Postfix refuses such a file
    where = find(before, "smtpd_milters")
    old = (
        []
        if where is None
        else [milter.text for milter in parse(before[where.start : where.end], where.value - where.start)]
    )
    changed, edit = add_milter(before, "smtpd_milters", OURS)
    where = find(changed, "smtpd_milters")
    assert where is not None
    new = [milter.text for milter in parse(changed[where.start : where.end], where.value - where.start)]
    assert new.count(OURS) == 1
    assert [text for text in new if text != OURS] == old
    assert take_back(changed, edit, ADDRESSES) == before


EDITED = {
    "elsewhere": (lambda text: text + "c = 3\n", "smtpd_milters = inet:localhost:8891\nc = 3\n"),
    "another milter behind": (
        lambda text: text.replace("8891\n", "8891, inet:new:1\n"),
        "smtpd_milters = inet:localhost:8891, inet:new:1\n",
    ),
    "our options": (lambda text: text.replace("accept", "tempfail"), "smtpd_milters = inet:localhost:8891\n"),
    "ours moved to the end": (
        lambda text: f"smtpd_milters = inet:localhost:8891, {OURS}\n",
        "smtpd_milters = inet:localhost:8891\n",
    ),
    "ours gone": (lambda text: "smtpd_milters = inet:other:1\n", "smtpd_milters = inet:other:1\n"),
    "all gone": (lambda text: "d = 4\n", "d = 4\n"),
}


@pytest.mark.parametrize(("change", "expected"), EDITED.values(), ids=EDITED)
def test_edited_in_between(change, expected: str) -> None:  # type: ignore[no-untyped-def]
    """What somebody did after setup stays; only our entry goes."""
    changed, edit = add_milter("smtpd_milters = inet:localhost:8891\n", "smtpd_milters", OURS)
    assert take_back(change(changed), edit, ADDRESSES) == expected


def test_a_parameter_of_ours_with_somebody_elses_milter() -> None:
    """It was not there before, but is not only ours any more."""
    changed, edit = add_milter("a = 1\n", "smtpd_milters", OURS)
    assert take_back(changed.replace("}\n", "}, inet:new:1\nb = 2\n"), edit, ADDRESSES) == (
        "a = 1\nsmtpd_milters = inet:new:1\nb = 2\n"
    )
    assert take_back(changed + "b = 2\n", edit, ADDRESSES) == "a = 1\nb = 2\n"
