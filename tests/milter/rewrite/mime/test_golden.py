"""Messages before and after, byte for byte: tests/golden/rewrite holds pairs NAME.eml and NAME.out.eml.

``POSTWAKE_GOLDEN=write`` writes the results anew; read the difference before it is committed.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest

from postwake_milter.rewrite.engine import Mint, Plan, Rewritten
from postwake_milter.rewrite.whole_message import rewrite_message

GOLDEN = Path(__file__).resolve().parents[3] / "golden" / "rewrite"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.eml") if not path.stem.endswith(".out"))
STAMP = b"0197e0d5f3b87cc08a11223344556677"


def _outcome(result: Rewritten) -> str:
    facts = {
        "tracked": result.tracked,
        "untracked_reason": result.untracked_reason,
        "opens": result.opens,
        "links": list(result.destinations),
        "links_skipped": result.links_skipped,
        "parts_rewritten": result.parts_rewritten,
        "part_reasons": result.part_reasons,
        "control": {
            name: value
            for name, value in asdict(result.control).items()
            if value not in (None, (), {}) and name not in ("remove",)
        },
    }
    return json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str, plan: Plan, mint: Mint, judge: ModuleType) -> None:
    """The message comes out as it stands in the golden file, and the judge agrees that nothing else changed."""
    raw = (GOLDEN / f"{name}.eml").read_bytes()
    after, result = rewrite_message(raw, plan, mint, stamp=STAMP)
    if os.environ.get("POSTWAKE_GOLDEN") == "write":
        (GOLDEN / f"{name}.out.eml").write_bytes(after)
        (GOLDEN / f"{name}.json").write_text(_outcome(result), encoding="utf-8")

    assert after == (GOLDEN / f"{name}.out.eml").read_bytes()
    assert _outcome(result) == (GOLDEN / f"{name}.json").read_text(encoding="utf-8")
    judge.check(raw, after, {field.decode().lower() for field, _ in result.control.remove})


def test_there_are_golden_files() -> None:
    """The pairs are there to be compared with."""
    assert len(NAMES) >= 10
