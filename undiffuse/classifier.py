r"""A classifier of noisy samples as a thing: weights, what makes them one, facts about its data.

It guides a model that may know no labels itself:

    model.sample(16, label=3, guide="classifier-guided(classifier=runs/judge, weight=2)")

A run of a recipe with kind = "classifier" makes it; `undiffuse.guidance.NoisyClassifier` is what it
does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch

from undiffuse.errors import UndiffuseError
from undiffuse.guidance.noisy_classifier import NoisyClassifier
from undiffuse.schedules.base import Schedule
from undiffuse.stored import read


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained classifier with the facts about its data.

    Attributes:
        network: log p(label | x_t), in evaluation mode.
        data: what was learned from: shape, classes, class_names, kind, count, ...
        digest: sha256 of the weights file.
        skipped: newer checkpoints that were damaged and passed over, in words.
    """

    network: NoisyClassifier
    data: dict[str, Any]
    digest: str = ""
    skipped: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample: (C, H, W) or (D,)."""
        return tuple(self.data["shape"])

    def under(self, schedule: Schedule) -> NoisyClassifier:
        """The classifier for x_t of a schedule, its own or another."""
        own = self.network.schedule == schedule
        return self.network if own else self.network.under(schedule)

    def to(self, device: str | torch.device) -> Classifier:
        """The classifier on a device; the network moves in place."""
        self.network.to(device)
        return self


def load_classifier(path: str | os.PathLike[str]) -> Classifier:
    """The classifier of a run (its newest whole checkpoint) or of a checkpoint.

    Raises:
        UndiffuseError: none there, or a damaged one (the file is named).
    """
    stored = read(path)
    if "classifier" not in stored.facts:
        raise UndiffuseError(
            f"{path} holds no classifier of noisy samples: train one with --recipe noisy-classifier"
        )
    try:
        network = NoisyClassifier.from_config(stored.facts["classifier"])
        network.load_state_dict(stored.weights)
        data = dict(stored.facts["data"])
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UndiffuseError(
            f"{stored.folder} holds no classifier of this version: {error}"
        ) from error
    network.eval().requires_grad_(False)
    return Classifier(network, data, stored.digest, stored.skipped)
