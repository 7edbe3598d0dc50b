"""How many lines a second the line grammar reads, alone: no store, no correlation.

python bench/parse_log.py FILE…
"""

from __future__ import annotations

import sys
import time
from collections import deque
from pathlib import Path

from postwake_logparse.postfix import PostfixGrammar
from postwake_logparse.stamp import StampReader

BLOCK_BYTES = 1 << 20


def main() -> None:
    for name in sys.argv[1:]:
        grammar = PostfixGrammar()
        clock = StampReader(reference_us=int(time.time() * 1e6), timezone="UTC")
        began = time.perf_counter()
        rest = b""
        with Path(name).open("rb") as log:
            while block := log.read(BLOCK_BYTES):
                block = rest + block
                end = block.rfind(b"\n") + 1
                rest = block[end:]
                deque(grammar.parse_block(block[:end], clock), 0)
        if rest:
            deque(grammar.parse_block(rest, clock), 0)
        seconds = time.perf_counter() - began
        tally = grammar.tally
        records = sum(tally.records.values())
        print(
            f"{name}: {tally.lines} lines, {records} records, {tally.unparsed} unparsed, {seconds:.2f} s,"
            f" {tally.lines / seconds:,.0f} lines/s"
        )


if __name__ == "__main__":
    main()
