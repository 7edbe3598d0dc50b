"""The account of what became of every line: parsed, known and without a fate, or not understood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

# A sample of a line that nobody understood is there to be read by a person: a line's worth, not a monster line's.
SAMPLE_CHARS = 300
# A log full of something foreign must not grow the table without end.
MAX_SAMPLES = 50


# Records are made, handed on and freed in portions that fit a processor's cache: a third faster than a mebibyte at
# once.
CHUNK_BYTES = 64 * 1024


def chunks(data: bytes) -> Iterator[tuple[int, int]]:
    """Cut a block into portions of about :data:`CHUNK_BYTES` that end at a line's end: (start, end) offsets."""
    start, size = 0, len(data)
    while start < size:
        end = start + CHUNK_BYTES
        if end >= size:
            end = size
        else:
            newline = data.rfind(b"\n", start, end)
            if newline < 0:
                newline = data.find(b"\n", end)
            end = newline + 1 if newline >= 0 else size
        yield start, end
        start = end


@dataclass(slots=True)
class Tally:
    """Counts of lines by what became of them.

    ``shapes`` counts the lines that were recognised and carry no message's fate, by shape name; ``records`` counts the
    lines that made a record, by record class name; ``unparsed`` the rest, with ``samples`` (shape of an unparsed line
    with its digits and identifiers masked → one such line).
    """

    lines: int = 0
    unparsed: int = 0
    records: Counter[str] = field(default_factory=Counter)
    shapes: Counter[str] = field(default_factory=Counter)
    samples: dict[str, str] = field(default_factory=dict)
    sample_counts: Counter[str] = field(default_factory=Counter)

    def unknown(self, line: str) -> None:
        """Count a line that nothing recognised, keeping one sample per masked form."""
        self.unparsed += 1
        form = mask(line)
        if form not in self.samples:
            if len(self.samples) >= MAX_SAMPLES:
                return
            self.samples[form] = line[:SAMPLE_CHARS]
        self.sample_counts[form] += 1

    def add(self, other: Tally) -> None:
        """Add another tally's counts to this one."""
        self.lines += other.lines
        self.unparsed += other.unparsed
        self.records += other.records
        self.shapes += other.shapes
        for form, line in other.samples.items():
            if form in self.samples or len(self.samples) < MAX_SAMPLES:
                self.samples.setdefault(form, line)
                self.sample_counts[form] += other.sample_counts[form]

    def reset(self) -> None:
        """Back to zero, keeping the object (the caller has stored the counts)."""
        self.lines = self.unparsed = 0
        self.records.clear()
        self.shapes.clear()
        self.samples.clear()
        self.sample_counts.clear()


def mask(line: str) -> str:
    """The form of a line: its first words, with every word that has a digit, an address or a bracket in it as ``*``."""
    words = line[:SAMPLE_CHARS].split()
    return " ".join("*" if any(c in "0123456789@[<=" for c in word) else word for word in words[:12])
