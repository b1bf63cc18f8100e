"""Metrics survive what befalls them: a torn line, lines of steps that are lost (goal R25)."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import tiny
from figures import Figures

from undiffuse.cli import main
from undiffuse.training.run import Run


def attack(count: int, seed: int, tmp: Path) -> Figures:
    """Cut the file off at `count` places, put something after it, and resume from step 2."""
    run, rng, failures = tiny.trained(tmp), random.Random(seed), []
    expected = tiny.remains(run)
    whole = (run / "metrics.jsonl").read_bytes()
    ends = [
        b"",
        b"\0" * 40,
        b"\xff\xfe",
        b"{",
        b'{"step": 3',
        b"null\n",
        b'{"step": "x"}\n',
        b"[1]\n",
    ]
    for number in range(count):
        broken = tmp / f"run-{number}"
        shutil.copytree(run, broken)
        for step in (4, 6):
            shutil.rmtree(broken / "checkpoints" / f"step-{step:08d}")
        start = whole.index(b'{"step": 3')
        end = rng.choice(ends)
        content = whole[: rng.randint(start, len(whole))] + end
        (broken / "metrics.jsonl").write_bytes(content)
        lines = list(Run(broken).lines())  # a reader meets no error
        if lines != [json.loads(text) for text in whole.splitlines()[: len(lines)]]:
            failures.append(f"{content[-40:]!r} is read as {lines[-1:]}")
        if main(tiny.words(tmp, broken, "--resume")) != 0:
            failures.append(f"{content[-40:]!r} ends the run")
        elif tiny.remains(broken) != expected:
            failures.append(f"{content[-40:]!r} leaves another run")
    return Figures(count, tuple(failures))


def test_a_torn_log_is_mended(tmp_path: Path) -> None:
    assert attack(10, 0, tmp_path).failures == ()


def test_steps_increase_strictly(tmp_path: Path) -> None:
    run = tiny.trained(tmp_path)
    steps = [line["step"] for line in Run(run).lines()]
    assert steps == [1, 2, 3, 4, 5, 6]
