"""Two processes never write to one run (goal R12)."""

from __future__ import annotations

import os
import platform
import re
import signal
import time
from pathlib import Path

import tiny
from figures import Figures
from server import shared


def attack(count: int, seed: int, tmp: Path) -> Figures:
    """`count` races of two starts, the second with and without --resume."""
    server, failures = shared(), []
    assert server.run(tiny.words(tmp, tmp / "whole"), tmp / "told.txt") == 0
    expected = tiny.remains(tmp / "whole")
    for race in range(count):
        run = tmp / f"run-{race}"
        more = ["--resume"] if (race + seed) % 2 else []
        told = [tmp / f"told-{race}-{name}.txt" for name in "ab"]
        children = [server.start(tiny.words(tmp, run, *more), file) for file in told]
        codes = [server.wait(child) for child in children]
        if sorted(map(str, codes)) == ["0", "0"] and more:
            pass  # the first had ended before the second began
        elif sorted(map(str, codes)) != ["0", "2"]:
            failures.append(f"race {race}: exits {codes}")
            continue
        else:
            winner, loser = children[codes.index(0)], told[codes.index(2)]
            text = loser.read_text(encoding="utf-8")
            known = re.search(r"is being written by process (\d+) on (\S+); wait or stop it", text)
            if known and known.groups() != (str(winner), platform.node()):
                failures.append(f"race {race}: names {known.groups()}, not process {winner}")
            if not known and "already holds a run" not in text:
                failures.append(f"race {race}: {text[-200:]}")
        if tiny.remains(run) != expected:
            failures.append(f"race {race}: the winner was disturbed")
    return Figures(count, tuple(failures))


def test_one_of_two_starts_runs(tmp_path: Path) -> None:
    assert attack(4, 0, tmp_path).failures == ()


def test_a_second_start_is_refused_and_a_killed_first_one_is_not_waited_for(tmp_path: Path) -> None:
    server, run = shared(), tmp_path / "run"
    told = tmp_path / "told.txt"
    long = tiny.words(tmp_path, run, "--steps", "100000")
    first = server.start(long, tmp_path / "first.txt")
    end = time.monotonic() + 20
    while not (run / "checkpoints").is_dir() and time.monotonic() < end:
        time.sleep(0.01)
    begun = time.monotonic()
    assert server.run([*long, "--resume"], told) == 2
    assert time.monotonic() - begun < 5
    who = f"is being written by process {first} on {platform.node()}; wait or stop it"
    assert who in told.read_text(encoding="utf-8")
    assert server.wait(first, 0) is None  # unhurt
    os.killpg(first, signal.SIGKILL)
    server.wait(first)
    second = server.start([*long, "--resume"], told)
    time.sleep(0.5)
    os.kill(second, signal.SIGTERM)
    assert server.wait(second) == 143
