"""What an attack found.

Every `test_*.py` of this folder has a plain function

    attack(count: int, seed: int, tmp: Path) -> Figures

that tries `count` faults drawn from `seed` in the empty folder `tmp`. The test calls it with a
small count; the long form calls it with a large one and writes the figures down.
"""

from __future__ import annotations

from typing import NamedTuple


class Figures(NamedTuple):
    """How many faults were tried, and the ones that did harm, each in one line."""

    runs: int
    failures: tuple[str, ...] = ()

    def __add__(self, other: object) -> Figures:
        if not isinstance(other, Figures):
            return NotImplemented
        return Figures(self.runs + other.runs, self.failures + other.failures)
