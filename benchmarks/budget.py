"""A training of so many CPU-seconds, of all threads together, and what to ask of its model.

Our rate of learning falls over a length that is known beforehand, so a budget becomes a number of
steps first: the pace is that of a short trial. Reading the data is not counted; making the network
is, and the last picture.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

import undiffuse
from undiffuse import noise
from undiffuse.data.dataset import Dataset
from undiffuse.training.loop import Record
from undiffuse.training.recipe import Recipe

TRIAL, SKIPPED = 40, 15  # steps from which the pace is taken, and those before them


def steps_for(budget: float, pace: float) -> int:
    """How many steps fill a budget at so many CPU-seconds a step, but never only a few."""
    return max(SKIPPED, round(budget / pace))


def timed(
    dataset: Dataset, run: Path, recipe: str | Recipe, steps: int, **options: Any
) -> dict[str, Any]:
    """Train so many steps in `run`; CPU-seconds from the first to the last, and of one step.

    `options` are those of `undiffuse.train`.
    """
    shutil.rmtree(run, ignore_errors=True)
    clock: list[float] = [time.process_time()]
    begun = time.perf_counter()

    def watch(_: Record) -> None:
        clock.append(time.process_time())

    rare = {"training.sample_every": steps, "training.checkpoint_every": steps}
    settings: Mapping[str, Any] = {**options.pop("settings", {}), **rare}
    made = undiffuse.train(
        dataset, run, recipe, steps=steps, settings=settings, watch=watch, **options
    )
    batch_size = made.read_config()[0].training.batch_size
    first = min(SKIPPED, len(clock) // 2)
    return {
        "cpu_seconds": clock[-1] - clock[0],
        "wall_seconds": time.perf_counter() - begun,
        "steps": steps,
        "images": steps * batch_size,
        "pace": (clock[-2] - clock[first]) / (len(clock) - 2 - first),
    }


def unlabelled(dataset: Dataset) -> Dataset:
    """The same samples without labels."""
    held_out = dataset.held_out and unlabelled(dataset.held_out)
    return dataclasses.replace(dataset, labels=None, class_names=(), held_out=held_out)


def wanted_labels(dataset: Dataset, num: int) -> Tensor | None:
    """Labels to ask for, [num]: as often as they are in the data, in random order."""
    if dataset.labels is None:
        return None
    labels = dataset.labels[noise.permutation(0, "labels", len(dataset))]
    return labels.repeat(-(-num // len(labels)))[:num]
