"""A crew of processes: all answers in order, and nobody left when it ends."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from undiffuse.cli import signals
from undiffuse.cli.crew import shared
from undiffuse.errors import RunFailed, UndiffuseError


@pytest.fixture(scope="module")
def jobs() -> Iterator[ModuleType]:
    """The module crew_jobs, under a name by which a fresh interpreter finds it too."""
    folder = str(Path(__file__).parent)
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module("crew_jobs")
    finally:
        sys.path.remove(folder)


def test_answers_in_order_from_all_workers(jobs: ModuleType) -> None:
    made = list(shared(jobs.squares, range(12), 2))
    assert [job for job, _ in made] == list(range(12))
    assert [answer for _, (answer, _) in made] == [i * i for i in range(12)]
    assert len({process for _, (_, process) in made}) == 2
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("make", "kind", "sentence"),
    [
        ("mistaken", UndiffuseError, "^job 3 cannot be done; choose another$"),
        ("failing", RunFailed, "^a worker process failed: ValueError: no such thing$"),
        ("dying", RunFailed, "^a worker process ended with exit code 9 before its work was done"),
    ],
)
def test_an_error_of_a_worker_is_that_of_the_whole(
    jobs: ModuleType, make: str, kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence) as caught:
        list(shared(getattr(jobs, make), range(8), 2))
    assert type(caught.value) is kind
    assert not multiprocessing.active_children()


def test_a_signal_ends_all_of_them(jobs: ModuleType) -> None:
    begun = time.monotonic()
    timer = threading.Timer(1.5, lambda: os.kill(os.getpid(), signals.TERM))
    with signals.handling(signals.interrupt, signals.TERM):
        timer.start()
        with pytest.raises(signals.Interrupted):
            list(shared(jobs.slow, range(8), 2))
    assert time.monotonic() - begun < 20
    assert not multiprocessing.active_children()


def test_few_jobs_are_given_out_ahead(jobs: ModuleType) -> None:
    """Nothing is asked of the source of jobs that the writer is not near to."""
    asked: list[int] = []

    def source() -> Iterator[int]:
        for i in range(200):
            asked.append(i)
            yield i

    answers = shared(jobs.squares, source(), 1)
    for _ in range(5):
        next(answers)
    assert max(asked) <= 5 + 5
    close: Callable[[], Any] = answers.close  # type: ignore[attr-defined]
    close()
    assert not multiprocessing.active_children()
