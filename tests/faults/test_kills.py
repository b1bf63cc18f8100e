"""A run that is killed at any moment ends as the run that was not (reliability goal R1).

The process dies without a warning, at random moments or at each place between two writes of a save;
no start after it fails, at most the steps since the last checkpoint are done again, and nothing
stray stays behind.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import tiny
from figures import Figures
from server import shared

from undiffuse.training import checkpoint

EVERY = 5  # steps between two checkpoints
STEPS = 30


def words(tmp: Path, run: Path, steps: int = STEPS, every: int = EVERY) -> list[str]:
    settings = [f"training.checkpoint_every={every}", "training.keep=1", "training.keep_best=0"]
    return tiny.words(tmp, run, "--resume", "--steps", str(steps), "--set", *settings)


def differences(run: Path, expected: dict[str, Any]) -> list[str]:
    """What is not as in the run that nobody killed."""
    found = tiny.remains(run)
    wrong = [f"{key} differs" for key in expected if found.get(key) != expected[key]]
    strays = [f for pattern in (".tmp-*", ".old-*") for f in run.rglob(pattern)]
    return [*wrong, *(f"{stray.name} was left behind" for stray in strays)]


def step_of(run: Path) -> int:
    folder, _ = checkpoint.newest(run)
    return 0 if folder is None else int(folder.name[5:])


def attack(count: int, seed: int, tmp: Path) -> Figures:
    """Kill `count` processes at random moments; each run is continued until it is done."""
    server, rng, failures, kills, number = shared(), random.Random(seed), [], 0, 0
    begun = time.monotonic()
    assert server.run(words(tmp, tmp / "whole"), tmp / "told.txt") == 0
    longest, expected = time.monotonic() - begun, tiny.remains(tmp / "whole")
    while kills < count:
        number += 1
        run, told, reached = tmp / f"run-{number}", tmp / f"told-{number}.txt", 0
        while True:
            child = server.start(words(tmp, run), told)
            wait = rng.uniform(0, 0.8 * longest) if kills < count else 60.0
            code = server.wait(child, wait)
            if code is None:
                os.killpg(child, signal.SIGKILL)
                code, kills = server.wait(child), kills + 1
            if code == 0:
                failures += [f"run {number}: {wrong}" for wrong in differences(run, expected)]
                break
            if code != -signal.SIGKILL:
                failures.append(f"run {number}: exit {code}, {told.read_text()[-200:]}")
                break
            if step_of(run) < reached:
                failures.append(f"run {number}: step {reached} was lost")
            reached = step_of(run)
    return Figures(kills, tuple(failures))


def attack_places(count: int, seed: int, tmp: Path) -> Figures:
    """Kill at up to `count` of the places between two writes, spread over three saves."""
    server, failures, tried = shared(), [], 0
    short = words(tmp, tmp / "whole", steps=3, every=1)
    assert server.run(short, tmp / "told.txt") == 0
    expected = tiny.remains(tmp / "whole")
    places = 90  # a few more than there are
    for place in range(1 + seed % 3, places, max(1, places // count)):
        run = tmp / f"place-{place}"
        told = tmp / f"place-{place}.txt"
        crash = {"UNDIFFUSE_TEST_CRASH": f"after:{place}"}
        again = words(tmp, run, steps=3, every=1)
        code = server.run(again, told, environment=crash)
        if code == 0:
            break  # there are no more places
        tried += 1
        if code != 9 or (code := server.run(again, told)) != 0:
            failures.append(f"place {place}: exit {code}, {told.read_text()[-200:]}")
            continue
        failures += [f"place {place}: {wrong}" for wrong in differences(run, expected)]
    return Figures(tried, tuple(failures))


def test_a_killed_run_ends_as_the_run_that_was_not(tmp_path: Path) -> None:
    figures = attack(6, 0, tmp_path)
    assert figures.failures == ()
    assert figures.runs == 6


def test_a_run_may_die_at_any_place_of_a_save(tmp_path: Path) -> None:
    figures = attack_places(12, 0, tmp_path)
    assert figures.failures == ()
    assert figures.runs >= 9
