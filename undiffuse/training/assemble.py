r"""From a recipe and data to the objects that train: data set, denoiser, objective.

Where an option of the recipe is the word "data", the measured standard deviation of the data stands
in; what a network must know of the data (channels, size, dims, classes) is filled in where its
dataclass has such a field.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from undiffuse import catalogue, noise
from undiffuse.data.dataset import Dataset, InMemory
from undiffuse.data.open import open_data
from undiffuse.denoiser import Learned
from undiffuse.errors import UndiffuseError
from undiffuse.guidance.noisy_classifier import NoisyClassifier
from undiffuse.guidance.words import Guides
from undiffuse.objectives.classification import Classification
from undiffuse.objectives.objective import Loss, Objective
from undiffuse.training.recipe import Recipe, Table, read, to_table

Data = str | os.PathLike[str] | Dataset | Tensor


def open_any(data: Data, size: int | None) -> Dataset:
    """A data set from a name, a path, a Dataset (as it is) or samples in a tensor.

    Raises:
        UndiffuseError: as `open_data`; a Dataset or tensor of another size than is asked for.
    """
    if not isinstance(data, Dataset | Tensor):
        return open_data(data, size=size)
    dataset = InMemory(data) if isinstance(data, Tensor) else data
    if size is not None and dataset.shape[1:] != (size, size):
        raise UndiffuseError(
            f"data.size asks for images of {size}x{size}, and those given are"
            f" {list(dataset.shape)}; scale them first, or leave it out"
        )
    return dataset


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
    std = float(dataset.facts()["std"])
    if std == 0:
        raise UndiffuseError(
            f"all values of {dataset.source} are equal, so there is nothing to learn: look at the"
            " data with `undiffuse data`"
        )
    std = round(std, 4) if std >= 0.1 else float(f"{std:.4g}")
    if recipe.data.flip and len(dataset.shape) != 3:
        raise UndiffuseError(f"data.flip mirrors images, and {dataset.source} holds none")
    table = to_table(recipe)
    rooms = [r for r in ("network", "schedule", "prediction", "times", "weight") if r in table]
    settings = {
        f"{room}.{key}": std
        for room in rooms
        for key, value in getattr(recipe, room).items()
        if value == "data" and key != "name"  # there is a prediction of that name
    }
    return recipe.changed(settings)


def make_objective(recipe: Recipe) -> Loss:
    """The loss of a recipe."""
    times = catalogue.build(recipe.times, "objectives.times")
    if recipe.kind == "classifier":
        return cast(Loss, Classification(times))  # of a classifier in the place of a denoiser
    return Objective(times, catalogue.build(recipe.weight, "objectives.weights"))


def make_learner(recipe: Recipe, dataset: Dataset, seed: int) -> Learned:
    """What a recipe trains, untrained: a denoiser, or by its kind a classifier.

    The engine asks no more of either than its network, its schedule and its config.
    """
    if recipe.kind == "classifier":
        return cast(Learned, make_classifier(recipe, dataset, seed))
    return make_denoiser(recipe, dataset, seed)


def make_classifier(recipe: Recipe, dataset: Dataset, seed: int) -> NoisyClassifier:
    """The untrained classifier of a recipe; its first weights are a function of the seed.

    Raises:
        UndiffuseError: data without labels, or with one.
    """
    if not dataset.classes:
        raise UndiffuseError(f"{dataset.source} has no labels, so there is nothing to classify")
    schedule, shape = catalogue.build(recipe.schedule, "schedules"), dataset.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(noise.integer(seed, "weights"))
        body = _network(recipe, shape, classes=0)  # it tells labels, and is told none
        return NoisyClassifier(body, shape, dataset.classes, schedule)


def make_denoiser(recipe: Recipe, dataset: Dataset, seed: int) -> Learned:
    """The untrained denoiser of a recipe; its first weights are a function of the seed."""
    schedule = catalogue.build(recipe.schedule, "schedules")
    times = make_objective(recipe).times
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(noise.integer(seed, "weights"))
        network = _network(recipe, dataset.shape, dataset.classes)
    prediction = catalogue.build(recipe.prediction, "predictions")
    return Learned(network, prediction, schedule, times.log_snr_range(schedule))


def _network(recipe: Recipe, shape: tuple[int, ...], classes: int) -> nn.Module:
    """The network of a recipe, told what it must know of the data."""
    known = catalogue.load("networks", recipe.network["name"].partition(".")[0])  # "unet.small"
    facts = {
        "channels": shape[0],
        "size": shape[0],
        "dims": len(shape) - 1,
        "classes": classes,
    }
    fields = {f.name for f in dataclasses.fields(known)}
    options = {k: v for k, v in facts.items() if k in fields} | recipe.network
    network: nn.Module = catalogue.build(options, "networks")
    return network


def difference(old: Recipe, new: Recipe) -> str | None:
    """The first setting in which two recipes differ, in words; None if they are equal."""
    a, b = to_table(old), to_table(new)
    for room in (room for room in a if room not in {"description", "expected"}):
        mine, other = _table(a[room]), _table(b.get(room))
        for key in sorted({*mine, *other}):
            if mine.get(key) != other.get(key):
                name = f"{room}.{key}" if key else room
                return f"{name} was {mine.get(key)!r}, not {other.get(key)!r}"
    return None


def _table(value: Any) -> Table:
    return value if isinstance(value, dict) else {"": value}


def check_guides(recipe: Recipe, denoiser: Learned) -> None:
    """Put the guides of the recipe around a denoiser, so that a wrong option is told now."""
    if recipe.sampling.guide:
        guides = Guides.open(recipe.sampling.guide, {})
        guides.complete(2.0, 2.0, labels=1, negative=False).around(denoiser)
