"""What is stored is everything: n steps are k and n - k, whatever the run is made of (goal R15).

All that a run can be made of is drawn: number type, parts of a batch, average, dropout, flips,
hidden labels, how times and noise are drawn, losses that times learn from, steps that are skipped,
and the steps at which it is stopped.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tiny
import torch
from figures import Figures
from torch import Tensor

from undiffuse import noise
from undiffuse.data.dataset import Batch, InMemory
from undiffuse.training.recipe import Recipe, from_table
from undiffuse.training.session import Session

STEPS = 7
IMAGES = noise.normal(0, "images", (13, 1, 4, 4)).clamp(-1, 1)
LABELS = torch.arange(13) % 3


class Spoiled(InMemory):
    """Number 4 is not a number, so the steps that see it are skipped."""

    def batch(self, indices: Sequence[int] | Tensor) -> Batch:
        x, label = super().batch(indices)
        wrong = (torch.as_tensor(indices) == 4).reshape(-1, *(1,) * (x.ndim - 1))
        return Batch(torch.where(wrong, math.nan, x), label)


CHOICES: dict[str, Sequence[Any]] = {
    "precision": ["float32", "float32", "bfloat16", "float16"],
    "accumulate": [1, 1, 2, 3],
    "ema": [0.05, 0.2],
    "label_dropout": [0.0, 0.3],
    "time_draws": ["stratified", "low-discrepancy"],
    "coupling": ["independent", "optimal-transport"],
    "weight_decay": [0.0, 0.1],
    "warmup": [0, 3],
    "checkpoint_every": [1, 2, 5],
}
NETWORKS: Sequence[dict[str, Any]] = [
    {"name": "mlp", "width": 8, "depth": 1},
    {"name": "unet", "width": 4, "multipliers": [1], "attention": [True], "dropout": 0.2},
]
TIMES: Sequence[dict[str, Any]] = [{"name": "log-normal"}, {"name": "importance", "cells": 4}]


def drawn(rng: random.Random) -> tuple[InMemory, Recipe]:
    """Data and a recipe."""
    network, images = rng.choice(NETWORKS), None
    images = network["name"] == "unet"
    kind = rng.choice([InMemory, Spoiled])
    data = kind(IMAGES if images else IMAGES.flatten(1), source="noise", labels=LABELS)
    training = {key: rng.choice(values) for key, values in CHOICES.items()}
    return data, from_table(
        {
            "network": network,
            "times": rng.choice(TIMES),
            "data": {"flip": images and rng.random() < 0.5},
            "training": {**training, "steps": STEPS, "batch_size": 5, "sample_every": 99},
            "sampling": {"steps": 1},
        }
    )


def attack(count: int, seed: int, tmp: Path) -> Figures:
    """`count` kinds of runs, each stopped and resumed at one or two steps."""
    rng, failures = random.Random(seed), []
    for number in range(count):
        data, recipe = drawn(rng)
        stops = sorted(rng.sample(range(1, STEPS), rng.choice([1, 2])))
        for name, ends in (("whole", []), ("parts", stops)):
            for stop in [*ends, None]:
                torch.manual_seed(rng.randrange(2**31))  # nobody's business
                session = Session(data, tmp / f"{name}-{number}", recipe, resume=True)
                for record in session.records():
                    session.stop = record.step == stop
        a, b = (tiny.remains(tmp / f"{name}-{number}") for name in ("whole", "parts"))
        differ = [key for key in a if a[key] != b.get(key)]
        if differ:
            failures.append(f"{recipe.training} {recipe.network} stopped at {stops}: {differ}")
    return Figures(count, tuple(failures))


def test_a_stopped_run_is_the_run_that_was_not(tmp_path: Path) -> None:
    assert attack(12, 1, tmp_path).failures == ()
