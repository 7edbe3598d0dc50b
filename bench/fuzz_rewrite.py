#!/usr/bin/env python3
"""Fuzz the rewriting engine with mutated mail; the judge is the standard library's email, and html5lib.

    bench/fuzz_rewrite.py [--inputs 10000] [--seed 1] [--seconds 110] [--keep DIR] [CORPUS…]

Every input is a message of the corpora (folders of mail and HTML; by default those that $POSTWAKE_CORPORA names, and
the project's own golden mails), mutated by a seeded generator: bytes flipped, lines moved, doubled and dropped, pieces
of two mails joined, tokens that parsers stumble over put in, transfer encodings changed. Each goes through
``rewrite_message`` under one of twenty plans. An exception, or a difference that is no edit of ours, is a finding: its
input is kept in DIR and the exit status is 1. The same seed gives the same inputs.
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
import os
import quopri
import random
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from types import ModuleType

from postwake_milter.rewrite.engine import Plan
from postwake_milter.rewrite.whole_message import rewrite_message

ROOT = Path(__file__).resolve().parents[1]
STAMP = b"0197e0d5f3b87cc08a11223344556677"
TOKENS = [
    *(
        b"=",
        b"=\r\n",
        b"=3D",
        b"=3d",
        b"= \n",
        b"--",
        b"\r\n\r\n",
        b"\n\n",
        b"\r",
        b"\n",
        b"\x00",
        b"\xff",
        b"\t",
        b" ",
        b".",
    ),
    *(
        b"<",
        b">",
        b'"',
        b"'",
        b"<!--",
        b"-->",
        b"<![endif]-->",
        b"<!--[if mso]>",
        b"</body>",
        b"</html>",
        b"<a ",
        b"</a>",
    ),
    *(
        b'<a href="https://e.com/?a=1&amp;b">x</a>',
        b"<a href=https://e.com/x>",
        b"<A HREF='http://e.com/\n'>",
        b"<plaintext>",
    ),
    *(b"<script>", b"<style>", b"<textarea>", b"<svg>", b"<table>", b"&", b"&#x", b"{{", b"https://", b"[["),
    *(
        b"{{ses:openTracker}}",
        b"+notrack",
        b'<a href="https+notrack://e.com/r">x</a>',
        b' https+notrack://e.com/r[[data-msys-linkname="a"]] ',
        b'[[data-msys-unsubscribe="1"]]',
        b' ses:tags="a:b;c:d" ',
        b" data-msys-linkname=x",
    ),
    *(
        b"Content-Type: text/html\n",
        b"Content-Type: multipart/mixed; boundary=b\n",
        b"Content-Transfer-Encoding: base64\n",
    ),
    *(
        b"Content-Transfer-Encoding: quoted-printable\n",
        b"Content-Disposition: attachment\n",
        b"charset=utf-16",
        b"charset=utf-8",
    ),
    *(
        b"X-SMTPAPI: {\n",
        b"X-Track-Opens: yes\n",
        b"List-Unsubscribe: <https://e.com/u>\n",
        b"X-Metadata-: \n",
        b'boundary="',
        b"(",
        b";",
    ),
]
PATTERNS = ("*.eml", "*.txt", "*.html")
_KINDS = {".html": b"html", ".txt": b"plain"}  # files that are a text and no mail; msg_*.txt are mails


def load_judge() -> ModuleType:
    path = ROOT / "tests/milter/rewrite/mime/stdlib_judge.py"
    spec = importlib.util.spec_from_file_location("stdlib_judge", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["stdlib_judge"] = module
    spec.loader.exec_module(module)
    return module


def read_corpus(folders: list[Path], max_bytes: int) -> list[bytes]:
    corpus = []
    for folder in folders:
        for pattern in PATTERNS:
            for path in sorted(folder.rglob(pattern)):
                raw = path.read_bytes()
                if 0 < len(raw) <= max_bytes and not path.name.endswith(".out.eml"):
                    kind = _KINDS.get(path.suffix) if not path.name.startswith("msg_") else None
                    corpus.append(raw if kind is None else wrap(raw, kind=kind))
    return corpus


def wrap(html: bytes, encoding: bytes = b"8bit", kind: bytes = b"html") -> bytes:
    head = b"Subject: s\nMIME-Version: 1.0\nContent-Type: text/%b; charset=utf-8\nContent-Transfer-Encoding: " % kind
    body = {b"base64": base64.encodebytes, b"quoted-printable": quopri.encodestring}.get(encoding, bytes)(html)
    return head + encoding + b"\n\n" + body


def mutate(rng: random.Random, corpus: list[bytes]) -> bytes:
    raw = bytearray(rng.choice(corpus))
    if rng.random() < 0.5:  # what keeps a mail from being touched would keep its body from being tried
        for name in (b"DKIM-Signature", b"ARC-", b"Auto-Submitted", b"multipart/report"):
            raw = bytearray(bytes(raw).replace(name, b"X-" + name))
    if rng.random() < 0.2:
        _, gap, body = bytes(raw).partition(b"\n\n")
        if gap:
            raw = bytearray(wrap(body, rng.choice([b"8bit", b"base64", b"quoted-printable"])))
    if rng.random() < 0.3:
        raw = bytearray(bytes(raw).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    for _ in range(rng.choice([0, 1, 1, 2, 3, 5, 8, 20])):
        at = rng.randrange(len(raw) + 1)
        stop = min(len(raw), at + rng.choice([1, 2, 5, 20, 100, 1000]))
        what = rng.randrange(8)
        if what == 0 and at < len(raw):
            raw[at] = rng.randrange(256)
        elif what == 1:
            del raw[at:stop]
        elif what == 2:
            raw[at:at] = raw[at:stop]
        elif what in (3, 4, 5):
            raw[at:at] = rng.choice(TOKENS) * rng.choice([1, 1, 1, 2, 30])
        elif what == 6:
            other = rng.choice(corpus)
            start = rng.randrange(len(other) + 1)
            raw[at:at] = other[start : start + rng.choice([10, 200, 3000])]
        else:
            lines = bytes(raw).splitlines(keepends=True)
            if lines:
                line = lines.pop(rng.randrange(len(lines)))
                lines.insert(rng.randrange(len(lines) + 1), line)
                raw = bytearray(b"".join(lines))
    return bytes(raw)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=110)
    parser.add_argument("--max-bytes", type=int, default=30_000, help="largest message of the corpora to start from")
    parser.add_argument(
        "--slow", type=float, default=0.5, help="seconds that a message may take before it is a finding"
    )
    parser.add_argument("--keep", type=Path)
    parser.add_argument("corpus", nargs="*", type=Path)
    args = parser.parse_args()

    judge = load_judge()
    default = Path(os.environ.get("POSTWAKE_CORPORA", ROOT.parent / "shared" / "corpora"))
    folders = args.corpus or [ROOT / "tests/golden/rewrite", *(p for p in (default,) if p.is_dir())]
    corpus = read_corpus(folders, args.max_bytes)
    rng = random.Random(args.seed)
    plans = [
        Plan(
            own_hosts=frozenset({judge.HOST}),
            text_clicks=rng.random() < 0.7,
            list_unsubscribe=rng.choice(["off", "add", "wrap"]),
            pixel_position=rng.choice(["bottom", "top", "both"]),
            skip_visible_url=rng.random() < 0.5,
            allow_dkim_signed=rng.random() < 0.5,
        )
        for _ in range(20)
    ]
    mint = judge.JudgedMint()
    outcomes: Counter[str] = Counter()
    findings = done = edited = 0
    slowest = (0.0, 0)
    begun = time.monotonic()
    for number in range(args.inputs):
        if time.monotonic() - begun > args.seconds:
            break
        raw = mutate(rng, corpus)
        started = time.perf_counter()
        problem = None
        try:
            after, result = rewrite_message(raw, rng.choice(plans), mint, stamp=STAMP)
            took = time.perf_counter() - started
            slowest = max(slowest, (took, number))
            outcomes[result.untracked_reason or "tracked"] += 1
            if took > args.slow:
                problem = f"{took:.2f} s for {len(raw)} bytes"
            edited += judge.check(raw, after, {name.decode("latin-1").lower() for name, _ in result.control.remove})
        except judge.ChangedError as difference:
            problem = str(difference)
        except Exception:  # noqa: BLE001 - any exception at all is what a fuzzer looks for
            problem = traceback.format_exc()
        done += 1
        if problem is not None:
            findings += 1
            print(f"input {number}: {problem[:600]}", file=sys.stderr)
            if args.keep is not None:
                args.keep.mkdir(parents=True, exist_ok=True)
                (args.keep / f"seed{args.seed}-{number}.eml").write_bytes(raw)
    print(f"{done} inputs from {len(corpus)} messages, seed {args.seed}, {time.monotonic() - begun:.0f} s")
    print(f"{edited} parts edited, {findings} findings; slowest {slowest[0] * 1000:.0f} ms (input {slowest[1]})")
    for reason, count in outcomes.most_common():
        print(f"  {count:6} {reason}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
