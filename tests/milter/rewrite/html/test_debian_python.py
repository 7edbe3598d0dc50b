"""Debian 12's own Python has a bug in regular expressions that later 3.11 releases have not (gh-106052)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from postwake_milter.rewrite import html_scan

DEBIAN = Path("/usr/bin/python3")
DOCUMENTS = {
    "a letter": '<html><body class="x"><p>A <b>test</b> by <a href="https://example.com/">us</a>.</p></body></html>',
    "text first": "text <i>and</i> <a href=x>more</a>",
    "comments": "<!-- x --><p><!--[if mso]><a href='y'><![endif]--></p><a b = c></a>",
    "declarations": "<!DOCTYPE html><?xml version='1.0'?></3><p ><br/><a\nhref=z >",
    "cut off": "<p>one</p><a href='x'>two</a><p class=\"",
    "raw text": "<style>a > b {}</style><script><!-- <script></script> --></script><a href=1>",
    "many tags": "<b>x</b>" * 1500 + "<a href=2>",
}
_SCAN = """
import dataclasses, importlib.util, json, sys
spec = importlib.util.spec_from_file_location("html_scan", sys.argv[1])
module = sys.modules["html_scan"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
for line in sys.stdin:
    scan = module.scan_html(json.loads(line).encode())
    print(json.dumps([[tag.name.decode(), tag.start, tag.end] for tag in scan.tags]))
"""


def test_the_same_tags_are_found() -> None:
    """What this Python finds in a document, Debian's finds too."""
    if not DEBIAN.exists():
        pytest.skip("no /usr/bin/python3")
    asked = "".join(json.dumps(text) + "\n" for text in DOCUMENTS.values())
    found = []
    for python in (str(DEBIAN), sys.executable):
        command = [python, "-c", _SCAN, html_scan.__file__]
        done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)
        if "possessive" in done.stderr or "multiple repeat" in done.stderr:
            pytest.skip(f"{python} is older than 3.11")
        assert done.returncode == 0, done.stderr
        found.append(dict(zip(DOCUMENTS, map(json.loads, done.stdout.splitlines()), strict=True)))
    assert found[0] == found[1]
    assert all(found[0].values())
