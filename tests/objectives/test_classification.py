"""The loss of a classifier of noisy samples: its value is the cross-entropy of the exact one."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.errors import UndiffuseError
from undiffuse.guidance import NoisyClassifier
from undiffuse.objectives import Classification
from undiffuse.objectives.times import Importance, Uniform

VP = ud.schedules.VP()
MEANS = torch.tensor([[-0.5, 0.0], [0.5, 0.2]])
MIXTURE = ud.exact.GaussianMixture(MEANS, None, VP, std=0.3, labels=torch.arange(2))


class Exact:
    """Bayes' rule in the place of a network."""

    schedule = VP

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        labels = [torch.full((len(x),), k) for k in range(2)]
        return torch.stack([MIXTURE.log_prob(x, t, label=k) for k in labels], 1).log_softmax(1)


class Worse(Exact):
    """A little less sure of it."""

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return (0.8 * super().__call__(x, t)).log_softmax(1)


def drawn(count: int = 20000) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(count) % 2
    x = MEANS[label] + 0.3 * torch.randn(count, 2, generator=generator)
    noise = torch.randn(count, 2, generator=generator)
    return x.double(), torch.rand(count, generator=generator).double(), noise.double(), label


def mean(classifier: Exact, objective: Classification | None = None) -> float:
    objective = objective or Classification(Uniform())
    x, u, noise, label = drawn()
    loss = objective.loss(cast(NoisyClassifier, classifier), x, u, noise, label=label)
    assert loss.shape == (len(x),)
    return float(loss.mean())


def test_the_exact_classifier_has_the_lowest_loss() -> None:
    assert mean(Exact()) < mean(Worse()) - 1e-3


def test_times_drawn_in_another_way_are_corrected() -> None:
    squares = tuple(1.0 + 3 * (k < 5) for k in range(10))
    importance = Importance(cells=10, squares=squares)
    assert importance.times(torch.linspace(0, 0.99, 100), VP).mean() < 0.45  # drawn earlier
    other = mean(Exact(), Classification(importance))
    assert other == pytest.approx(mean(Exact()), abs=0.02)


def test_a_hidden_label_teaches_nothing() -> None:
    x, u, noise, label = drawn(6)
    loss = Classification(Uniform()).loss(
        cast(NoisyClassifier, Exact()), x, u, noise, label=label.masked_fill(label == 1, -1)
    )
    assert bool((loss[label == 1] == 0).all())
    assert bool((loss[label == 0] > 0).all())


def test_without_labels_there_is_nothing_to_learn() -> None:
    x, u, noise, _ = drawn(6)
    with pytest.raises(UndiffuseError, match="learns from labels, and this data has none"):
        Classification(Uniform()).loss(cast(NoisyClassifier, Exact()), x, u, noise)
