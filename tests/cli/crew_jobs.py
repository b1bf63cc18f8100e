"""Workers for the tests of a crew: functions of a module, as those of a crew must be."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from undiffuse.errors import UndiffuseError


def squares(number: int) -> Callable[[int], tuple[int, int]]:
    """Answers in a varying time, and tells which process did."""

    def answer(job: int) -> tuple[int, int]:
        time.sleep(0.02 * (job % 3))
        return job * job, os.getpid()

    return answer


def mistaken(number: int) -> Callable[[int], int]:
    """Refuses job 3."""

    def answer(job: int) -> int:
        if job == 3:
            raise UndiffuseError("job 3 cannot be done; choose another")
        return job

    return answer


def failing(number: int) -> Callable[[int], int]:
    """Fails at once, without a sentence for the user."""
    raise ValueError("no such thing")


def dying(number: int) -> Callable[[int], int]:
    """Is gone in the middle of its work."""

    def answer(job: int) -> int:
        os._exit(9)

    return answer


def slow(number: int) -> Callable[[int], int]:
    """Never answers."""

    def answer(job: int) -> int:
        time.sleep(1000)
        return job

    return answer
