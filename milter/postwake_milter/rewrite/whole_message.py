"""Whole messages as bytes, for ``postwake rewrite`` and the tests: header and body in one, as a file has them."""

from __future__ import annotations

from . import never_touch
from .control import read_control
from .engine import Mint, Plan, Rewritten, rewrite, untouched
from .header_changes import HeaderChange
from .headers import Field, Fields, HeaderBlock, read_block
from .html_scan import Edit, apply_edits
from .placing import line_ending


def read_header(raw: bytes) -> HeaderBlock:
    """Read the header of the whole message *raw*, behind its mbox line if it has one."""
    start = 0
    if raw.startswith((b"From ", b">From ")):
        start = raw.find(b"\n") + 1 or len(raw)
    return read_block(raw, start)


def rewrite_message(raw: bytes, plan: Plan, mint: Mint, *, stamp: bytes | None) -> tuple[bytes, Rewritten]:
    """Return the message *raw* rewritten, and what was done.

    *stamp* is the tracking ID as text: a tracked message gets it as ``X-Postwake-ID``. Everything that :func:`rewrite`
    does not change is the same bytes: an mbox ``From `` line, the ending of every line. A message without an empty line
    between header and body goes out as it came, as ``malformed-headers`` (an MTA never hands a milter such a message).
    """
    block = read_header(raw)
    fields = Fields((item.name, item.value) for item in block.fields)
    if (block.malformed and block.body_start < len(raw)) or b"\r" in raw[: block.start].replace(b"\r\n", b""):
        # Something that is no field ends the header: for one program the body starts there, another reads on.
        return raw, untouched("malformed-headers", read_control(fields), ())
    eol = line_ending(raw, b"\n")
    result = rewrite(fields, raw[block.body_start :], plan, mint, eol=eol)
    changes = list(result.header_changes)
    if result.tracked and stamp is not None:
        changes.append(HeaderChange(never_touch.STAMP, 0, stamp))
    if not changes and result.body is None:
        return raw, result
    named: dict[bytes, list[Field]] = {}
    for item in block.fields:
        named.setdefault(item.name.lower(), []).append(item)
    edits: list[Edit] = []
    added: list[bytes] = []
    for change in changes:
        value = b"" if change.value is None else change.value.replace(b"\n", eol)
        if change.index == 0:
            added.append(change.name + b": " + value + eol)
            continue
        item = named[change.name.lower()][change.index - 1]
        if change.value is None:
            edits.append(Edit(item.start, item.end, b""))
        else:
            edits.append(Edit(item.value_start, item.value_start + len(item.value), b" " + value))
    head = apply_edits(raw[: block.end], sorted(edits, key=lambda edit: (edit.start, edit.end)))
    if added and head and not head.endswith(b"\n"):
        head += eol  # the message was cut off in the middle of its last field
    head += b"".join(added) + raw[block.end : block.body_start]
    return head + (raw[block.body_start :] if result.body is None else result.body), result
