"""A signal ends a run with its last step kept, and the run goes on from there (goal R10).

SIGINT, SIGTERM and SIGHUP are sent at random moments: while steps are made, while pictures are
drawn, while the data is read. A second Ctrl-C ends at once.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest
import tiny
from figures import Figures
from server import shared

from undiffuse.training import checkpoint

STEPS = 12
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def words(tmp: Path, run: Path, *more: str) -> list[str]:
    settings = ["training.sample_every=4", "training.checkpoint_every=1000", "sampling.steps=4"]
    return tiny.words(tmp, run, "--resume", "--steps", str(STEPS), "--set", *settings, *more)


def attack(count: int, seed: int, tmp: Path) -> Figures:
    """Send `count` signals; each run is continued until it is done."""
    server, rng, failures, sent, number = shared(), random.Random(seed), [], 0, 0
    begun = time.monotonic()
    assert server.run(words(tmp, tmp / "whole"), tmp / "told.txt") == 0
    longest, expected = time.monotonic() - begun, tiny.remains(tmp / "whole")
    while sent < count:
        number += 1
        run, told = tmp / f"run-{number}", tmp / f"told-{number}.txt"
        while True:
            child = server.start(words(tmp, run), told)
            code = server.wait(child, rng.uniform(0.03, 0.8) * longest if sent < count else 60.0)
            expected_code = 0
            if code is None:
                kind = rng.choice(list(CODES))
                os.kill(child, kind)
                code, sent = server.wait(child), sent + 1
                expected_code = CODES[kind]
            if code == 0:  # it may have ended just before the signal
                if tiny.remains(run) != expected:
                    failures.append(f"run {number}: another result")
                break
            if code != expected_code:
                failures.append(f"run {number}: exit {code}, {told.read_text()[-200:]}")
                break
            failures += [f"run {number}: {wrong}" for wrong in unsaved(run, told)]
    return Figures(sent, tuple(failures))


def unsaved(run: Path, told: Path) -> list[str]:
    """What a stopped run has not kept."""
    text = told.read_text(encoding="utf-8").splitlines()
    stopped = [line for line in text if line.startswith("stopped after step")]
    if not stopped or not (run / "config.toml").exists():
        return []  # it was not yet training
    step = int(re.findall(r"\d+", stopped[-1])[0])
    folder, _ = checkpoint.newest(run)
    kept = None if folder is None else int(folder.name[5:])
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    last = json.loads(lines[-1])["step"] if lines else 0
    return [] if step == kept == last else [f"stopped at {step}, kept {kept}, metrics to {last}"]


def test_a_signal_keeps_the_step_in_progress(tmp_path: Path) -> None:
    figures = attack(6, 1, tmp_path)
    assert figures.failures == ()
    assert figures.runs == 6


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    server, run, told = shared(), tmp_path / "run", tmp_path / "told.txt"
    child = server.start(tiny.words(tmp_path, run, "--steps", "100000"), told)
    wait_for(run / "config.toml")
    os.kill(child, signal.SIGINT)
    os.kill(child, signal.SIGINT)
    begun = time.monotonic()
    assert server.wait(child, 10) == 130
    assert time.monotonic() - begun < 5  # one, on a machine that does nothing else


def test_a_picture_is_given_up_for_a_signal(tmp_path: Path) -> None:
    server, run, told = shared(), tmp_path / "run", tmp_path / "told.txt"
    slow = ["training.sample_every=1", "sampling.steps=100000"]
    child = server.start(tiny.words(tmp_path, run, "--set", *slow), told)
    wait_for(run / "config.toml")
    time.sleep(0.3)
    os.kill(child, signal.SIGTERM)
    assert server.wait(child, 20) == 143
    assert (run / "checkpoints" / "step-00000001").is_dir()
    assert not list(run.glob("samples/*"))


@pytest.mark.parametrize("number", CODES)
def test_before_there_is_a_run_nothing_is_left(number: signal.Signals, tmp_path: Path) -> None:
    server, told = shared(), tmp_path / "told.txt"
    os.mkfifo(tmp_path / "pipe.toml")  # the recipe is waited for, as data can be
    line = ["train", "moons", "--out", str(tmp_path / "run"), "--recipe"]
    child = server.start([*line, str(tmp_path / "pipe.toml")], told)
    time.sleep(0.2)
    os.kill(child, number)
    assert server.wait(child, 10) in {CODES[number], 2}
    assert not (tmp_path / "run").exists()


def wait_for(file: Path) -> None:
    end = time.monotonic() + 20
    while not file.exists():
        assert time.monotonic() < end, f"{file} was never written"
        time.sleep(0.01)
