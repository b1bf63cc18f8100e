"""Whom the umask allows may read a run: no file is more private or more open (fact M3).

safetensors creates its files for their owner alone, so that a second user of a shared machine could
not sample from them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import tiny
from figures import Figures

from undiffuse.cli import main

MASKS = [0o002, 0o007, 0o022, 0o077, 0o000, 0o027]


def attack(count: int, seed: int, tmp: Path) -> Figures:
    """`count` runs, each trained, resumed and reported under another umask."""
    failures = []
    run = tmp / "masked"
    for i in range(count):
        shutil.rmtree(run, ignore_errors=True)
        mask = MASKS[(seed + i) % len(MASKS)]
        before = os.umask(mask)
        try:
            codes = [
                main(tiny.words(tmp, run)),
                main(tiny.words(tmp, run, "--resume")),
                main(["report", str(run)]),
            ]
            if os.umask(mask) != mask:
                failures.append(f"umask {mask:o} was changed")
        finally:
            os.umask(before)
        if codes != [0, 0, 0]:
            failures.append(f"umask {mask:o}: exit codes {codes}")
        for path in (run, *run.rglob("*")):
            mode = path.stat().st_mode & 0o777
            if mode != (0o777 if path.is_dir() else 0o666) & ~mask:
                failures.append(f"umask {mask:o}: {path.relative_to(run)} has mode {mode:o}")
    return Figures(count, tuple(failures))


def test_permissions_are_the_umask_s(tmp_path: Path) -> None:
    assert attack(2, 4, tmp_path) == Figures(2)
