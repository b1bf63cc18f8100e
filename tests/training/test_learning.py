"""What is learned, against what can be known: the exact denoiser's own loss on the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from undiffuse import noise
from undiffuse.broadcast import over
from undiffuse.data.dataset import InMemory
from undiffuse.data.mixture import Mixture
from undiffuse.data.open import open_data
from undiffuse.denoiser import Condition, Denoiser, Learned
from undiffuse.exact.finite_set import FiniteSet
from undiffuse.exact.mixture import GaussianMixture
from undiffuse.objectives.objective import Objective
from undiffuse.training.session import Session


class Known(Learned):
    """An exact denoiser as the network that would give it: F = (x0_hat - skip x_t) / out."""

    def __init__(self, exact: Denoiser, learned: Learned) -> None:
        super().__init__(learned.network, learned.prediction, learned.schedule)
        self.exact = exact

    def predict(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        skip, out = self.prediction.skip(alpha, sigma), self.prediction.out(alpha, sigma)
        x0_hat = self.exact(x_t, t, **condition)
        return (x0_hat - over(skip, x_t) * x_t) / over(out, x_t)


def loss(objective: Objective, denoiser: Learned, x_0: Tensor, **condition: Condition) -> Tensor:
    """The loss of each sample; the times and the noise are the same in every call."""
    u = noise.uniform(77, "time", len(x_0))
    eps = noise.normal(77, "noise", x_0.shape).double()
    with torch.no_grad():
        return objective.loss(denoiser, x_0.double(), u, eps, **condition)


def test_a_single_image_is_learned(tmp_path: Path) -> None:
    """Its optimum is zero: the ideal denoiser of one point is that point, whatever the noise."""
    image = open_data("digits").batch([7]).x
    session = Session(
        InMemory(image, source="one"),
        tmp_path / "run",
        "digits",
        settings={
            "network.width": 16,
            "network.attention": [False, False],
            "training.steps": 400,
            "training.batch_size": 32,
            "training.lr": 5e-3,
            "training.checkpoint_every": 1000,
            "training.sample_every": 1000,
        },
    )
    x_0, objective = image.expand(512, -1, -1, -1), session.objective
    before = float(loss(objective, session.averaged(), x_0).mean())
    ideal = Known(FiniteSet(image, session.state.denoiser.schedule), session.averaged())
    assert float(loss(objective, ideal, x_0).mean()) < 1e-20
    list(session.records())
    after = float(loss(objective, session.averaged(), x_0).mean())
    assert before > 0.9  # EDM's loss starts near 1
    assert after < 0.02 * before


def test_the_mixture_is_learned_to_within_5_percent_of_the_bayes_risk(tmp_path: Path) -> None:
    """On fresh data, with and without labels, and at every noise level; not just less than before.

    The Bayes risk is the same objective for the exact denoiser of the density. Without labels,
    F = 0 has 11 % more than the risk; with labels, more than twice the risk.
    """
    settings = {"training.steps": 700, "training.sample_every": 9999}
    session = Session("mixture", tmp_path / "run", "vectors", settings=settings)
    untrained = session.averaged()
    list(session.records())
    learned = session.averaged()

    fresh = Mixture(count=40_000, seed=1).open()
    x_0, label = fresh.batch(torch.arange(len(fresh)))
    density = Mixture()
    exact = GaussianMixture(
        density.means, density.weights, learned.schedule, density.std, labels=torch.arange(8)
    )
    known = Known(exact, learned)
    for condition, excess_before in (({"label": label}, 1.2), ({}, 0.1)):
        risk = loss(session.objective, known, x_0, **condition)
        before = loss(session.objective, untrained, x_0, **condition)
        after = loss(session.objective, learned, x_0, **condition)
        assert float(before.mean() / risk.mean()) - 1 > excess_before
        assert -0.01 < float(after.mean() / risk.mean()) - 1 < 0.05
        by_level = noise.uniform(77, "time", len(x_0)).argsort().chunk(5)  # u rises with sigma
        for level in by_level:
            assert float(after[level].mean() / risk[level].mean()) - 1 < 0.08


@pytest.mark.parametrize("name", ["moons", "mixture"])
def test_the_recipe_for_vectors_fits_the_toys(name: str, tmp_path: Path) -> None:
    session = Session(name, tmp_path / "run", steps=1)
    assert session.recipe.network["name"] == "mlp"
    assert [record.step for record in session.records()] == [1]
