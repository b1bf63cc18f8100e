"""Which samples a step sees depends on nothing but the seed and the step (reliability goal R14).

There are no loader processes whose state could be lost: the order is a function. So threads, the
global generators and the place where a run was resumed, at every position of an epoch of 13
samples, change nothing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from figures import Figures
from torch import Tensor

from undiffuse import noise
from undiffuse.data.dataset import Batch, InMemory
from undiffuse.training.recipe import from_table
from undiffuse.training.session import Session

POINTS = noise.normal(0, "points", (13, 2))


class Watched(InMemory):
    """Writes down what is asked of it."""

    def batch(self, indices: Sequence[int] | Tensor) -> Batch:
        SEEN.append(torch.as_tensor(indices).tolist())
        return super().batch(indices)


SEEN: list[list[int]] = []


def steps(out: Path, batch_size: int, stop: int | None = None, count: int = 14) -> list[list[int]]:
    """The samples that each step of a run sees, up to a stop."""
    recipe = from_table(
        {
            "network": {"name": "mlp", "width": 4, "depth": 1},
            "training": {"steps": count, "batch_size": batch_size, "warmup": 2, "sample_every": 99},
            "sampling": {"steps": 1},
        }
    )
    SEEN.clear()
    session = Session(Watched(POINTS), out, recipe, resume=True)
    for record in session.records():
        session.stop = record.step == stop
    return list(SEEN)


def disturb(seed: int) -> None:
    """Move every global generator, and the number of threads."""
    rng = random.Random(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    torch.set_num_threads(rng.choice([1, 2]))


def attack(count: int, seed: int, tmp: Path) -> Figures:
    """`count` runs that are stopped and resumed somewhere; each epoch must be whole."""
    rng, failures = random.Random(seed), []
    for number in range(count):
        size, stop = rng.choice([1, 2, 3, 5, 13, 20]), 1 + number % 13
        whole = steps(tmp / f"whole-{number}", size)
        disturb(number)
        parts = steps(tmp / f"parts-{number}", size, stop)
        disturb(number + 1)
        parts += steps(tmp / f"parts-{number}", size)
        torch.set_num_threads(1)
        if parts != whole:
            failures.append(f"batches of {size}, stopped at {stop}: {parts} are not {whole}")
        flat = [index for batch in whole for index in batch]
        for first in range(0, len(flat) - 12, 13):
            if sorted(flat[first : first + 13]) != list(range(13)):
                failures.append(f"batches of {size}: an epoch of {flat[first : first + 13]}")
    return Figures(count, tuple(failures))


def test_every_position_of_an_epoch(tmp_path: Path) -> None:
    whole = steps(tmp_path / "whole", 1)
    for stop in range(1, 14):
        disturb(stop)
        parts = steps(tmp_path / f"{stop}", 1, stop) + steps(tmp_path / f"{stop}", 1)
        assert parts == whole
    torch.set_num_threads(1)


def test_any_batch_size(tmp_path: Path) -> None:
    assert attack(4, 0, tmp_path).failures == ()


@pytest.mark.parametrize("size", [1, 4, 13, 30])
def test_order_of_samples_is_one_sequence(size: int, tmp_path: Path) -> None:
    """Whatever the size of the batches: they cut one sequence into pieces."""
    flat: list[Any] = [index for batch in steps(tmp_path / "a", size, count=4) for index in batch]
    one = [index for batch in steps(tmp_path / "b", 1, count=30) for index in batch]
    length = min(len(flat), len(one))
    assert flat[:length] == one[:length]
