r"""From a recipe and data to the objects that train: data set, denoiser, objective.

Where an option of the recipe is the word "data", the measured standard deviation of the data stands
in; what a network must know of the data (channels, size, dims, classes) is filled in where its
dataclass has such a field.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from undiffuse import catalogue, noise
from undiffuse.data.dataset import Dataset, InMemory
from undiffuse.data.open import open_data
from undiffuse.denoiser import Learned
from undiffuse.errors import UndiffuseError
from undiffuse.objectives.objective import Objective
from undiffuse.training.recipe import Recipe, Table, read, to_table

Data = str | os.PathLike[str] | Dataset | Tensor


def open_any(data: Data, size: int | None) -> Dataset:
    """A data set from a name, a path, a Dataset (as it is) or samples in a tensor."""
    if isinstance(data, Dataset):
        return data
    if isinstance(data, Tensor):
        return InMemory(data)
    return open_data(data, size=size)


def choose(data: Data, recipe: str | Recipe | None, settings: Mapping[str, Any]) -> Recipe:
    """The recipe asked for, or the default one for this kind of data, with settings applied."""
    if recipe is None:
        dataset = open_any(data, settings.get("data.size"))
        known = {"digits": "digits"} if isinstance(data, str) else {}
        recipe = known.get(str(data), "images" if len(dataset.shape) == 3 else "vectors")
    base = read(recipe) if isinstance(recipe, str) else recipe
    return base.changed(settings)


def measured(recipe: Recipe, dataset: Dataset) -> Recipe:
    """The recipe with measured values in place of the word "data"."""
    std = round(float(dataset.facts()["std"]), 4)
    if std == 0:
        raise UndiffuseError(
            f"all values of {dataset.source} are equal, so there is nothing to learn: look at the"
            " data with `undiffuse data`"
        )
    rooms = ("network", "schedule", "prediction", "times", "weight")
    settings = {
        f"{room}.{key}": std
        for room in rooms
        for key, value in getattr(recipe, room).items()
        if value == "data"
    }
    return recipe.changed(settings)


def make_objective(recipe: Recipe) -> Objective:
    """The loss of a recipe."""
    return Objective(
        catalogue.build(recipe.times, "objectives.times"),
        catalogue.build(recipe.weight, "objectives.weights"),
    )


def make_denoiser(recipe: Recipe, dataset: Dataset, seed: int) -> Learned:
    """The untrained denoiser of a recipe; its first weights are a function of the seed."""
    known = catalogue.load("networks", recipe.network["name"])
    shape = dataset.shape
    facts = {
        "channels": shape[0],
        "size": shape[0],
        "dims": len(shape) - 1,
        "classes": dataset.classes,
    }
    fields = {f.name for f in dataclasses.fields(known)}
    options = {k: v for k, v in facts.items() if k in fields} | recipe.network
    schedule = catalogue.build(recipe.schedule, "schedules")
    times = make_objective(recipe).times
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(noise.integer(seed, "weights"))
        network = catalogue.build(options, "networks")
    prediction = catalogue.build(recipe.prediction, "predictions")
    return Learned(network, prediction, schedule, times.log_snr_range(schedule))


def difference(old: Recipe, new: Recipe) -> str | None:
    """The first setting in which two recipes differ, in words; None if they are equal."""
    a, b = to_table(old), to_table(new)
    for room in a:
        mine, other = _table(a[room]), _table(b[room])
        for key in sorted({*mine, *other}):
            if mine.get(key) != other.get(key):
                name = f"{room}.{key}" if key else room
                return f"{name} was {mine.get(key)!r}, not {other.get(key)!r}"
    return None


def _table(value: Any) -> Table:
    return value if isinstance(value, dict) else {"": value}
