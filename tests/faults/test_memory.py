"""A long run takes no more memory and no more files than a short one (reliability goal R24)."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from figures import Figures

import undiffuse
from undiffuse import noise
from undiffuse.data.dataset import InMemory
from undiffuse.training.recipe import from_table
from undiffuse.training.session import Session

POINTS = InMemory(noise.normal(0, "points", (40, 2)), source="points")


def held() -> tuple[int, int]:
    """Bytes of memory and open files of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))


def attack(count: int, seed: int, tmp: Path) -> Figures:
    """`count` steps with a checkpoint every 50th, and a tenth as many calls of `sample`."""
    recipe = from_table(
        {
            "network": {"name": "mlp", "width": 8, "depth": 1},
            "training": {
                "steps": count,
                "batch_size": 4,
                "checkpoint_every": 50,
                "sample_every": 10**6,
            },
            "sampling": {"steps": 2},
        }
    )
    failures: list[str] = []
    session, marks = Session(POINTS, tmp / "run", recipe, seed=seed), []
    for record in session.records():
        if record.step in (min(200, count // 2), count):
            marks.append(held())
    failures += growth("training", *marks[:2])
    model, marks = undiffuse.load(tmp / "run"), []
    for call in range(count // 10):
        model.sample(4, seed=call)
        if call in (min(20, count // 20), count // 10 - 1):
            marks.append(held())
    failures += growth("sampling", *marks[:2])
    return Figures(2, tuple(failures))


def growth(what: str, first: tuple[int, int], last: tuple[int, int]) -> list[str]:
    """What has grown: memory by more than 1 %, or the number of files."""
    wrong = (
        [] if last[0] <= 1.01 * first[0] else [f"{what} grew from {first[0]} to {last[0]} bytes"]
    )
    return wrong + ([] if last[1] <= first[1] else [f"{what} left {last[1] - first[1]} files open"])


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs /proc")
def test_nothing_grows(tmp_path: Path) -> None:
    assert attack(800, 0, tmp_path).failures == ()
