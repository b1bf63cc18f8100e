"""Pages of results: words by hand above a mark, tables by a benchmark below it."""

from __future__ import annotations

from pathlib import Path


def write_below(page: Path, mark: str, text: str, head: str = "") -> None:
    """Put a text below the mark of a page, in the place of what is there.

    What stands above the mark stays; a new page begins with `head`.
    """
    above = page.read_text(encoding="utf-8").partition(mark)[0] if page.exists() else head
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{above}{mark}\n{text}", encoding="utf-8")
