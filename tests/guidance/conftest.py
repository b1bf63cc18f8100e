"""Denoisers whose conditional laws are known, and one that keeps what it was asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.broadcast import over
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.schedules.base import Schedule

MEANS = torch.tensor([[-1.0, 0.0], [1.0, 0.4], [0.0, 1.2]], dtype=torch.float64)
STDS = torch.tensor([0.2, 0.3, 0.4], dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2])


class Recording(Denoiser):
    """A denoiser that keeps what it was asked."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser, self.schedule = denoiser, denoiser.schedule
        self.asked: list[tuple[Tensor, Tensor, dict[str, Condition]]] = []

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        self.asked.append((x_t, t, condition))
        return self.denoiser(x_t, t, label=condition.get("label"))


class Shifted(Denoiser):
    """Gaussians of one covariance; label k has the mean means[k], "no label" the last of them.

    So p(x | label) / p(x) is a ratio of Gaussians of one width, and products of its powers with
    p(x) are Gaussians of that width again, at every noise level.
    """

    def __init__(self, means: Tensor, std: float, schedule: Schedule) -> None:
        super().__init__()
        self.means, self.std, self.schedule = means.double(), std, schedule

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        label = condition.get("label")
        mean = self.means[-1] if label is None else self.means[label]
        a, v = self.schedule.alpha(t), self.schedule.sigma(t) ** 2
        total = a**2 * self.std**2 + v
        return over(v / total, x_t) * mean.to(x_t) + over(a * self.std**2 / total, x_t) * x_t

    def with_mean(self, mean: Tensor) -> ud.exact.Gaussian:
        """The one of them that has this mean."""
        return ud.exact.Gaussian(mean, self.schedule, std=self.std)


def _mixture(schedule: Schedule | None = None) -> ud.exact.GaussianMixture:
    return ud.exact.GaussianMixture(
        MEANS, None, schedule or ud.schedules.VP(), std=STDS, labels=LABELS
    )


class ExactClassifier:
    """log p(label | x_t) of the mixture, by Bayes' rule."""

    def __init__(self, schedule: Schedule | None = None) -> None:
        self.mixture = _mixture(schedule)

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        labels = [torch.full((len(x_t),), k) for k in range(3)]
        joint = [self.mixture.log_prob(x_t, t, label=label) for label in labels]
        return torch.stack(joint, 1).log_softmax(1)  # the components weigh the same


@pytest.fixture
def labelled() -> Callable[..., ud.exact.GaussianMixture]:
    """Makes three components, each with a label of its own, under a schedule (VP)."""
    return _mixture


@pytest.fixture
def classifier() -> Callable[..., ExactClassifier]:
    """Makes the exact classifier of the mixture under a schedule (VP)."""
    return ExactClassifier


@pytest.fixture
def recording() -> type[Recording]:
    """The class of denoisers that keep what they were asked."""
    return Recording


@pytest.fixture
def shifted() -> type[Shifted]:
    """The class of denoisers of Gaussians of one covariance."""
    return Shifted


@pytest.fixture
def x() -> Tensor:
    """Six points of the plane."""
    return torch.randn(6, 2, generator=torch.Generator().manual_seed(0)).double()
