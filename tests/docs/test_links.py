"""Links between the project's own pages lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path


def anchors_of(text: str) -> set[str]:
    """Return the anchors GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_relative_links_exist(pages: dict[str, str], root: Path) -> None:
    """Every relative link in README, docs and contrib leads to a file or folder, and its anchor to a heading."""
    broken = []
    for page, text in pages.items():
        prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose)):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (root / page).parent / path if path else root / page
            if not file.exists():
                broken.append(f"{page}: {target}")
            elif anchor and anchor not in anchors_of(file.read_text(encoding="utf-8")):
                broken.append(f"{page}: {target}: no such heading")
    assert broken == []


def test_every_page_can_be_reached(pages: dict[str, str], root: Path) -> None:
    """Each page of docs is linked from README or from a page that is."""
    reached, waiting = set(), ["README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page not in pages:
            continue
        reached.add(page)
        for target in re.findall(r"\]\(([^)\s#]+)", pages[page]):
            file = ((root / page).parent / target).resolve()
            if file.is_relative_to(root.resolve()):
                waiting.append(str(file.relative_to(root.resolve())))
    assert {page for page in pages if page.startswith("docs/")} - reached == set()
