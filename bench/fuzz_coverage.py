#!/usr/bin/env python3
"""Fuzz the parts of the rewriting engine, led by coverage (atheris); each against another implementation.

    bench/fuzz_coverage.py [--runs 60000] [--seconds 240] [--keep DIR] [TARGET…]

``html``: the scanner and the edits of a document, against html5lib. ``mime``: whole messages, against the standard
library's email. ``qp`` and ``base64``: the two decoders against quopri and base64, and edits of the encoded bytes, read
back by them. ``fields``: header fields, parameters, encoded words and control fields never fail. Each target is a
process of its own with RUNS inputs, SECONDS at most; what fails is kept in DIR, and the exit status is 1. Golden mails
are the seeds.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import email
import importlib.util
import quopri
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import atheris

with atheris.instrument_imports(include=["postwake_milter.rewrite"]):
    from postwake_milter.rewrite.charsets import editable
    from postwake_milter.rewrite.content import describe
    from postwake_milter.rewrite.control import read_control
    from postwake_milter.rewrite.engine import Plan
    from postwake_milter.rewrite.headers import Fields, decode_text, read_block
    from postwake_milter.rewrite.html_edit import HtmlPlan, edit_html
    from postwake_milter.rewrite.html_scan import Edit, apply_edits
    from postwake_milter.rewrite.placing import TransferError
    from postwake_milter.rewrite.transfer import apply_to, open_body
    from postwake_milter.rewrite.whole_message import rewrite_message

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests/golden/rewrite"


def load_judge() -> ModuleType:
    path = ROOT / "tests/milter/rewrite/mime/stdlib_judge.py"
    spec = importlib.util.spec_from_file_location("stdlib_judge", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["stdlib_judge"] = module
    spec.loader.exec_module(module)
    return module


JUDGE = load_judge()
MINT = JUDGE.JudgedMint()


def html(data: bytes) -> None:
    own = frozenset({JUDGE.HOST})
    plan = HtmlPlan(opens=True, clicks=True, pixel_position="both" if len(data) % 2 else "bottom", own_hosts=own)
    codec, reason = editable("", data)
    if reason is not None or b"track.example.test" in data:
        return
    result = edit_html(data, plan, MINT, codec=codec)
    if result.edits:
        JUDGE.same_html(data.decode("utf-8"), apply_edits(data, result.edits).decode("utf-8"))


def mime(data: bytes) -> None:
    parts = email.message_from_bytes(data).walk()
    if any(b"track.example.test" in text for part in parts if isinstance(text := part.get_payload(decode=True), bytes)):
        return  # the judge would take what is ours already for ours from now
    plan = Plan(own_hosts=frozenset({JUDGE.HOST}), text_clicks=True, list_unsubscribe="wrap", allow_dkim_signed=True)
    after, result = rewrite_message(data, plan, MINT, stamp=b"0197e0d5f3b87cc08a11223344556677")
    JUDGE.check(data, after, {name.decode("latin-1").lower() for name, _ in result.control.remove})


def _encoded(data: bytes, encoding: str, encode: Callable[[bytes], bytes], decode: Callable[[bytes], bytes]) -> None:
    """Judge a decoder, and edits of what it opened; the body is *data* itself, or *data* as a mailer encodes it."""
    provider = atheris.FuzzedDataProvider(data)
    spans = sorted(provider.ConsumeIntListInRange(2 * provider.ConsumeIntInRange(0, 4), 0, 400))
    new = provider.ConsumeBytes(20)
    width, eol = provider.ConsumeIntInRange(0, 100), provider.PickValueInList([b"\n", b"\r\n"])
    is_raw = provider.ConsumeProbability() < 0.2
    encoded = provider.ConsumeBytes(len(data))
    if not is_raw:
        encoded = encode(encoded)
        if width and encoding == "base64":
            encoded = eol.join(encoded[at : at + width] for at in range(0, len(encoded), width))
        else:
            encoded = encoded.replace(b"\n", eol)
    try:
        opened = open_body(encoded, encoding)
    except TransferError:
        return
    content = opened.decoded
    if decode(encoded) != content:
        raise AssertionError(f"{decode(encoded)!r} is read as {content!r}")
    edits = [Edit(start, end, new) for start, end in zip(spans[::2], spans[1::2], strict=True) if end <= len(content)]
    if any(one.end >= two.start for one, two in pairwise(edits)):
        return
    try:
        after = apply_to(opened, edits)
    except TransferError:
        return
    if b"\n" not in new and b"\r" not in new and decode(after) != apply_edits(content, edits):
        raise AssertionError(f"{apply_edits(content, edits)!r} became {decode(after)!r}")


def qp(data: bytes) -> None:
    # White space at the end of a line was put there on the way (RFC 2045 section 6.7, rule 3); quopri leaves it.
    padding = re.compile(rb"[ \t]+(?=\r?\n|\Z)")
    _encoded(data, "quoted-printable", quopri.encodestring, lambda text: quopri.decodestring(padding.sub(b"", text)))


def base64_(data: bytes) -> None:
    def decode(encoded: bytes) -> bytes:
        digits = encoded.translate(None, b" \t\r\n").rstrip(b"=")
        try:
            return base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
        except binascii.Error as error:
            raise AssertionError("what base64 does not take was opened") from error

    _encoded(data, "base64", base64.b64encode, decode)


def fields(data: bytes) -> None:
    found = Fields((item.name, item.value) for item in read_block(data).fields)
    describe(found)
    control = read_control(found)
    for text in (*control.tags, *control.metadata, *control.metadata.values(), *(decode_text(v) for _, v in found)):
        text.encode("utf-8")


TARGETS: dict[str, Callable[[bytes], None]] = {
    "html": html,
    "mime": mime,
    "qp": qp,
    "base64": base64_,
    "fields": fields,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=60_000)
    parser.add_argument("--seconds", type=int, default=240)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="TARGET", choices=[*TARGETS, []])
    args = parser.parse_args()
    if args.alone:
        name = args.targets[0]
        limits = [f"-runs={args.runs}", f"-max_total_time={args.seconds}", "-max_len=4096", "-timeout=20"]
        with tempfile.TemporaryDirectory() as new:
            atheris.Setup([name, *limits, f"-artifact_prefix={args.keep}/{name}-", new, str(GOLDEN)], TARGETS[name])
            atheris.Fuzz()
    args.keep.mkdir(parents=True, exist_ok=True)
    common = ["--alone", "--runs", str(args.runs), "--seconds", str(args.seconds), "--keep", str(args.keep)]
    failed = [
        name
        for name in args.targets or TARGETS
        if subprocess.run([sys.executable, __file__, *common, name], check=False).returncode
    ]
    print("findings: " + (", ".join(failed) or "none"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
