"""Guidance by a likelihood: with the exact one it is the posterior's denoiser."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.errors import UndiffuseError
from undiffuse.guidance import LikelihoodGuide
from undiffuse.schedules.base import Schedule

MEAN = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
COV = torch.tensor([[0.5, 0.2, 0.0], [0.2, 0.4, -0.1], [0.0, -0.1, 0.3]], dtype=torch.float64)
A = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, -1.0]], dtype=torch.float64)  # y = A x_0 + S n
S = 0.3
Y = torch.tensor([[0.5, 0.2], [-1.0, 0.4], [0.0, 0.0], [2.0, -1.0]], dtype=torch.float64)


def posterior(y: Tensor, schedule: Schedule) -> ud.exact.Gaussian:
    """The denoiser of x_0 given y, a Gaussian."""
    gain = COV @ A.mT @ torch.linalg.inv(A @ COV @ A.mT + S**2 * torch.eye(2).double())
    cov = COV - gain @ A @ COV
    return ud.exact.Gaussian(MEAN + gain @ (y - A @ MEAN), schedule, cov=(cov + cov.mT) / 2)


class Exact:
    """log p(y | x_t) = log N(y; A x0_hat, S^2 I + A Cov[x_0 | x_t] A^T)."""

    def __init__(self, oracle: ud.exact.Gaussian) -> None:
        self.oracle = oracle

    def __call__(self, x_t: Tensor, t: Tensor, x0_hat: Tensor, y: Tensor) -> Tensor:
        cov = self.oracle.posterior_covariance(x_t, t)
        width = A @ cov @ A.mT + S**2 * torch.eye(2).double()
        law = torch.distributions.MultivariateNormal(x0_hat @ A.mT, width)
        log_p: Tensor = law.log_prob(y)
        return log_p


def points(count: int) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("t", [0.05, 0.4, 0.9, torch.linspace(0.2, 0.9, 4)])
def test_the_exact_likelihood_gives_the_posterior(t: Any) -> None:
    x = points(4)
    for schedule in (ud.schedules.VP(), ud.schedules.EDM(), ud.schedules.Flow()):
        oracle = ud.exact.Gaussian(MEAN, schedule, cov=COV)
        found = LikelihoodGuide(oracle, Exact(oracle), ["y"])(x, t, y=Y)
        each = torch.as_tensor(t, dtype=torch.float64).expand(4)
        expected = torch.cat([posterior(Y[i], schedule)(x[i : i + 1], each[i]) for i in range(4)])
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_samples_are_those_of_the_posterior() -> None:
    """The same noise ends where the exact posterior's own sampler ends."""
    schedule = ud.schedules.VP()
    oracle = ud.exact.Gaussian(MEAN, schedule, cov=COV)
    y = Y[:1].expand(16, 2)
    guide = LikelihoodGuide(oracle, Exact(oracle), ["y"])
    found = ud.sample(guide, (16, 3), steps=20, batch_size=5, y=y)
    expected = ud.sample(posterior(Y[0], schedule), (16, 3), steps=20)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_estimate_in_place_of_x_0_trusts_the_measurement_too_much() -> None:
    """Posterior sampling as DPS does it: not exact, and it errs towards y."""
    schedule = ud.schedules.VP()
    oracle = ud.exact.Gaussian(MEAN, schedule, cov=COV)

    def log_p(x_t: Tensor, t: Tensor, x0_hat: Tensor, y: Tensor) -> Tensor:
        return -(y - x0_hat @ A.mT).square().sum(1) / (2 * S**2)

    x, t = oracle.draw(256, 0.3), 0.3
    y = Y[:1].expand(256, 2)
    point, exact = (LikelihoodGuide(oracle, p, ["y"])(x, t, y=y) for p in (log_p, Exact(oracle)))
    moved_point, moved = ((e - oracle(x, t)).norm(dim=1) for e in (point, exact))
    assert bool((moved_point > moved).all())


def test_the_estimate_comes_with_its_graph_and_at_one_call(recording: Any, labelled: Any) -> None:
    """With its own conditions kept from the denoiser, and the others passed on."""
    model = recording(labelled())
    x, label = points(4)[:, :2], torch.tensor([0, 1, 2, -1])
    seen: list[Tensor] = []

    def log_p(x_t: Tensor, t: Tensor, x0_hat: Tensor, y: Tensor) -> Tensor:
        seen.append(x0_hat)
        return -(y - x0_hat).square().sum(1) / 2

    with torch.no_grad():
        found = LikelihoodGuide(model, log_p, ["y"], 0.5)(x, 0.4, label=label, y=Y)
    assert seen[0].requires_grad
    assert not found.requires_grad
    assert [set(condition) for _, _, condition in model.asked] == [{"label"}]
    schedule, oracle = model.schedule, labelled()
    slope = ud.derivatives.jacobian(lambda x: oracle(x, 0.4, label=label), x)
    x0_hat = oracle(x, 0.4, label=label)
    pull = torch.einsum("bij,bi->bj", slope, Y - x0_hat)
    scale = 0.5 * schedule.sigma(0.4) ** 2 / schedule.alpha(0.4)
    torch.testing.assert_close(found, x0_hat + scale * pull)


def test_a_loss_that_ignores_x_t_changes_nothing(labelled: Any, x: Tensor) -> None:
    guide = LikelihoodGuide(labelled(), lambda x_t, t, x0_hat: torch.zeros(6))
    torch.testing.assert_close(guide(x, 0.4), labelled()(x, 0.4))


def test_mistakes(labelled: Any, x: Tensor) -> None:
    with pytest.raises(UndiffuseError, match="weight must be a finite number >= 0"):
        LikelihoodGuide(labelled(), Exact, weight=float("nan"))
    flow = LikelihoodGuide(labelled(ud.schedules.Flow()), lambda x_t, t, x0_hat: x_t.sum(1))
    with pytest.raises(UndiffuseError, match="a gradient cannot guide"):
        flow(x, 1.0)
