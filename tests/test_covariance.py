"""Tweedie's formula of second order, against the closed form and against the definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from undiffuse import process
from undiffuse.covariance import posterior_covariance, posterior_trace
from undiffuse.derivatives import jacobian
from undiffuse.errors import UndiffuseError
from undiffuse.exact import FiniteSet, Gaussian, GaussianMixture
from undiffuse.schedules import EDM, VP, Cosine, Flow
from undiffuse.schedules.base import Schedule

MEANS = torch.tensor([[-1.0, 0.3], [0.8, -0.5], [0.2, 1.0]], dtype=torch.float64)
COVS = torch.tensor(
    [[[0.5, 0.2], [0.2, 0.3]], [[1.0, -0.6], [-0.6, 0.4]], [[0.1, 0.0], [0.0, 2.0]]],
    dtype=torch.float64,
)
TIMES = (0.1, 0.5, 0.9, torch.linspace(0.05, 0.95, 12, dtype=torch.float64))


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def oracles(schedule: Schedule) -> list[GaussianMixture]:
    weights, stds = torch.tensor([0.2, 0.5, 0.3]), torch.tensor([0.3, 0.0, 0.6])
    return [
        GaussianMixture(MEANS, weights, schedule, std=stds),
        GaussianMixture(MEANS, weights, schedule, cov=COVS),
        GaussianMixture(MEANS, None, schedule, std=0.0, labels=torch.tensor([0, 1, 1])),
    ]


def test_three_ways_to_the_posterior_covariance(schedule: Schedule) -> None:
    """The closed form, the denoiser's Jacobian and the Hessian of log p_t agree."""
    x = normal(12, 2)
    for oracle, t in itertools.product(oracles(schedule), TIMES):
        exact = oracle.posterior_covariance(x, t)
        by_denoiser = posterior_covariance(oracle, x, t).detach()
        torch.testing.assert_close(by_denoiser, exact, rtol=1e-6, atol=1e-7)
        hessian = jacobian(lambda y, o=oracle, t=t: o.score(y, t), x).detach()
        by_hessian = process.tweedie_covariance(schedule, t, hessian)
        torch.testing.assert_close(by_hessian, exact, rtol=1e-6, atol=1e-7)
        assert float(torch.linalg.eigvalsh(exact).min()) > -1e-12


@pytest.mark.parametrize("t", [0.2, 0.5, 0.8])
def test_it_is_the_variance_over_the_posterior(t: float) -> None:
    """Var[x_0 | x_t] = int (x_0 - x0_hat)^2 p(x_0) q(x_t | x_0) dx_0 / p_t, in one dimension."""
    means, weights, stds = (-1.0, 0.5, 2.0), (0.5, 0.2, 0.3), (0.2, 0.5, 0.1)
    schedule = VP()
    oracle = GaussianMixture(
        torch.tensor(means)[:, None], torch.tensor(weights), schedule, std=torch.tensor(stds)
    )
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    x_0 = np.linspace(-8, 8, 40_001)
    density = sum(
        w * np.exp(-(((x_0 - m) / s) ** 2) / 2) / s
        for m, w, s in zip(means, weights, stds, strict=True)
    )
    for x_t in (-1.5 * alpha, 0.0, 0.7 * alpha, 2 * alpha + sigma / 2):
        joint = density * np.exp(-(((x_t - alpha * x_0) / sigma) ** 2) / 2)
        joint /= joint.sum()
        expected = joint @ x_0**2 - (joint @ x_0) ** 2
        found = oracle.posterior_covariance(torch.tensor([[x_t]], dtype=torch.float64), t)
        assert found.item() == pytest.approx(expected, rel=1e-5)


def test_one_gaussian_has_the_same_covariance_everywhere() -> None:
    """(C^-1 + (alpha / sigma)^2 I)^-1, whatever x_t."""
    schedule = Flow()
    oracle = Gaussian(torch.zeros(2), schedule, cov=COVS[0])
    ratio = (schedule.alpha(0.3) / schedule.sigma(0.3)) ** 2
    expected = torch.linalg.inv(torch.linalg.inv(COVS[0]) + ratio * torch.eye(2).double())
    found = oracle.posterior_covariance(normal(5, 2), 0.3)
    torch.testing.assert_close(found, expected.expand(5, 2, 2))
    torch.testing.assert_close(posterior_covariance(oracle, normal(5, 2), 0.3).detach(), found)


def test_the_trace_exactly_and_by_hutchinson() -> None:
    x = normal(4, 1, 2, 1)
    oracle = GaussianMixture(MEANS.reshape(3, 1, 2, 1), None, VP(), std=0.3)
    expected = oracle.posterior_covariance(x, 0.4).diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(posterior_trace(oracle, x, 0.4).detach(), expected)
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=2))).double()
    probes = signs.reshape(4, 1, 1, 2, 1).expand(4, *x.shape)  # all of them: the exact trace
    torch.testing.assert_close(posterior_trace(oracle, x, 0.4, probes).detach(), expected)
    with torch.no_grad():
        without = posterior_trace(oracle, x, 0.4)
    torch.testing.assert_close(without, expected)


def test_conditions_and_ends() -> None:
    oracle = oracles(VP())[2]
    x, label = normal(4, 2), torch.tensor([0, 1, -1, 1])
    found = posterior_covariance(oracle, x, 0.4, label=label).detach()
    torch.testing.assert_close(found, oracle.posterior_covariance(x, 0.4, label=label))
    torch.testing.assert_close(found[0], torch.zeros(2, 2).double())  # a single point is known
    assert float(posterior_covariance(oracle, x, 0.0).detach().abs().max()) == 0
    prior = FiniteSet(MEANS, EDM(sigma_max=1e5)).posterior_covariance(x, 1.0)
    torch.testing.assert_close(prior[0], torch.cov(MEANS.T, correction=0), rtol=1e-3, atol=1e-3)
    with pytest.raises(UndiffuseError, match="no signal"):
        posterior_covariance(oracles(Cosine())[1], x, 1.0)
