r"""The ELBO of an isotropic Gaussian is known in closed form, for every variance of the steps."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from undiffuse import process
from undiffuse.denoiser import Denoiser, Learned
from undiffuse.errors import UndiffuseError
from undiffuse.exact import FiniteSet, Gaussian, GaussianMixture
from undiffuse.grids import LogSNR
from undiffuse.likelihood import chain_bound
from undiffuse.likelihood.elbo import prior_term, step_term
from undiffuse.networks import MLP
from undiffuse.predictions import V
from undiffuse.schedules import EDM, VP, Cosine, Discrete, Flow
from undiffuse.schedules.base import Schedule

EULER = 0.57721566490153286
FAMILIES = [VP(), Cosine(), Flow(), EDM(sigma_max=20), Discrete.linear(100)]
MEAN, STD = 0.5, 0.6
NLL = math.log(2 * math.pi * math.e * STD**2) / 2


def prior(schedule: Schedule, t: float) -> dict[str, Tensor]:
    """p_t of the data."""
    spread = torch.sqrt(schedule.alpha(t) ** 2 * STD**2 + schedule.sigma(t) ** 2)
    return {"prior_mean": schedule.alpha(t) * MEAN, "prior_std": spread}


def gap(exact: Any, schedule: Schedule, times: Tensor, variance: float | str) -> float:
    """How far the expected ELBO lies above the expected -log p(x_0), per dimension."""
    oracle = Gaussian(torch.tensor([MEAN]), schedule, std=STD)
    ends = prior(schedule, float(times[0]))
    bound = chain_bound(oracle, exact.x_0, times, variance=variance, noise=exact.noise, **ends)
    return exact.mean(bound.total) - NLL


# ------------------------------------------------------------------ against the exact likelihood


@pytest.mark.parametrize("schedule", FAMILIES)
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 100])
def test_with_the_optimal_variance_it_is_the_likelihood_at_every_T(
    exact: Any, schedule: Schedule, steps: int
) -> None:
    times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    assert gap(exact, schedule, times, "own") == pytest.approx(0, abs=1e-10)
    spaced = LogSNR().times(schedule, max(steps, 2))
    assert gap(exact, schedule, spaced, "own") == pytest.approx(0, abs=1e-10)


def test_with_beta_tilde_it_converges_on_a_log_snr_grid_whose_end_rises(exact: Any) -> None:
    gaps = []
    for steps in (50, 200, 800):
        grid = LogSNR(noise_max=80, noise_min=1 / steps)
        gaps.append(gap(exact, VP(), grid.times(VP(), steps), 0.0))
    assert gaps[0] > 2.4 * gaps[1] > 5.5 * gaps[2] > 0
    assert gaps[2] < 0.1
    # With an end that stays, the gap of the decoder stays.
    stuck = LogSNR(noise_max=80, noise_min=0.5)
    few, many = (gap(exact, VP(), stuck.times(VP(), steps), 0.0) for steps in (200, 800))
    assert many > 0.9 * few > 0.05


@pytest.mark.parametrize(
    ("schedule", "limit"),
    [(VP(beta_min=1, beta_max=1), EULER / 2), (Flow(), EULER + math.pi**2 / 12)],
)
def test_with_beta_tilde_on_uniform_times_a_gap_remains(
    exact: Any, schedule: Schedule, limit: float
) -> None:
    r"""Near the data sigma^2 is t (times beta), and step k pays 1/2 (1/(k-1) - log(k/(k-1))).

    The sum is gamma / 2. Where sigma is t itself, k/(k-1) is squared: gamma + pi^2 / 12.
    """
    gaps = [
        gap(exact, schedule, torch.linspace(1, 0, n + 1, dtype=torch.float64), 0.0)
        for n in (250, 500, 1000)
    ]
    errors = [abs(g - limit) for g in gaps]
    assert errors[2] < 0.012
    assert errors[0] > 1.6 * errors[1] > 2.5 * errors[2]  # it falls like log(T) / T


def test_with_beta_it_converges_on_uniform_times(exact: Any) -> None:
    gaps = [gap(exact, VP(), torch.linspace(1, 0, n + 1).double(), 1.0) for n in (50, 500)]
    assert 0 < gaps[1] < 0.002 < 0.01 < gaps[0]


def test_the_optimal_variance_is_the_best_of_all_rules(exact: Any) -> None:
    times = torch.linspace(1, 0, 21, dtype=torch.float64)
    least = gap(exact, VP(), times, "own")
    for fraction in (0.0, 0.3, 0.7, 1.0):
        assert gap(exact, VP(), times, fraction) > least + 0.005


def test_many_dimensions_add_up_and_the_errors_cover_the_truth() -> None:
    schedule = VP()
    oracle = Gaussian(torch.full((3, 4), MEAN), schedule, std=STD)
    x_0, times = oracle.draw(500, seed=3), [1.0, 0.6, 0.3, 0.1, 0.0]
    ends = prior(schedule, 1.0)
    bound = chain_bound(oracle, x_0, times, variance="own", draws=4, **ends)
    assert bound.diffusion.shape == (3, 4, 500)
    assert abs(bound.nats - 12 * NLL) < 3 * bound.standard_error
    exact_here = -float(oracle.log_prob(x_0, 0.0).mean())
    assert abs(bound.nats - exact_here) < 3 * bound.noise_error
    assert bound.noise_error < bound.standard_error
    assert bound.bits_per_dimension == pytest.approx(bound.nats / 12 / math.log(2))
    optimal = chain_bound(oracle, x_0, times, variance="optimal", draws=4, **ends)
    assert bound.nats - 0.05 < optimal.nats < bound.nats  # made for these very samples


# ------------------------------------------------------------------ the terms


@pytest.mark.parametrize("schedule", FAMILIES)
def test_the_terms_are_the_kl_of_torch_distributions(schedule: Schedule) -> None:
    generator = torch.Generator().manual_seed(0)
    x_0, x0_hat, x_t = torch.randn(3, 4, 2, 3, dtype=torch.float64, generator=generator)
    t, s = torch.tensor([[0.3, 0.5, 0.9, 1.0], [0.2, 0.1, 0.8, 0.999]], dtype=torch.float64)
    for fraction in (0.0, 0.4, 1.0):
        variance = process.interpolated_variance(schedule, t, s, fraction)
        found = step_term(schedule, x_0, x0_hat, t, s, variance)
        mu, std = process.posterior(schedule, x_t, x_0, t, s)
        mu_hat, _ = process.posterior(schedule, x_t, x0_hat, t, s)
        q, p = Normal(mu, std), Normal(mu_hat, variance.sqrt()[:, None, None])
        expected = kl_divergence(q, p).sum((1, 2))
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)
    q = Normal(*process.marginal(schedule, x_0, 1.0))
    for mean, std_p in ((0.0, 1.0), (x_0.mean(0), 2.0)):
        expected = kl_divergence(q, Normal(mean, std_p)).sum((1, 2))
        found = prior_term(schedule, x_0, 1.0, mean, std_p)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("variance", [0.0, 0.5, 1.0, "own", "optimal"])
def test_every_term_but_a_continuous_L_0_is_non_negative(variance: float | str) -> None:
    levels = torch.tensor([[0.0, 17.0], [255.0, 128.0], [3.0, 250.0]], dtype=torch.float64)
    points = 2 * levels / 255 - 1
    oracle = FiniteSet(points, VP())
    times = torch.linspace(1, 0, 41, dtype=torch.float64)
    x_0 = points.repeat(5, 1)
    bound = chain_bound(oracle, x_0, times, variance=variance, decoder="gaussian", draws=2)
    if isinstance(variance, float):
        assert float(bound.reconstruction.min()) < 0  # a density may be above 1
        bound = chain_bound(oracle, x_0, times, variance=variance, decoder="discretised", draws=2)
        assert float(bound.reconstruction.min()) >= 0
        assert bound.bits_per_dimension > 0
        assert bound.nats > math.log(3)  # no model of three equally likely points pays less
    assert float(bound.prior.min()) >= 0
    assert float(bound.diffusion.min()) >= 0


def test_a_perfect_prior_costs_nothing() -> None:
    x_0 = torch.zeros(2, 3, dtype=torch.float64)
    assert torch.equal(prior_term(Cosine(), x_0 + 0.7, 1.0), torch.zeros(2).double())
    assert torch.equal(prior_term(VP(), x_0, 0.5, 0.0, VP().sigma(0.5)), torch.zeros(2).double())


# ------------------------------------------------------------------ use


def test_any_grid_and_the_same_numbers_every_time() -> None:
    oracle = GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), None, EDM(), std=0.3)
    x_0 = oracle.draw(6)
    first = chain_bound(oracle, x_0, LogSNR().times(EDM(), 12), seed=1)
    again = chain_bound(oracle, x_0[:3], LogSNR().times(EDM(), 12), seed=1)
    other = chain_bound(oracle, x_0, LogSNR().times(EDM(), 12), seed=2)
    assert first.diffusion.shape == (11, 1, 6)
    torch.testing.assert_close(first.total[:3], again.total)
    assert not torch.equal(first.total, other.total)
    assert math.isnan(first.noise_error)
    assert first.standard_error > 0


def test_conditions_and_learned_denoisers() -> None:
    torch.manual_seed(0)
    learned = Learned(MLP(size=2, width=8, depth=1, classes=2, variance=True), V(), VP())
    x_0, label = torch.randn(4, 2), torch.tensor([0, 1, 1, -1])
    own = chain_bound(learned, x_0, [1.0, 0.5, 0.1], variance="own", label=label)
    half = chain_bound(learned, x_0, [1.0, 0.5, 0.1], variance=0.5, label=label)
    torch.testing.assert_close(own.total, half.total)  # v = 0 before training


def test_it_prints_as_a_table() -> None:
    oracle = Gaussian(torch.zeros(2), VP(), std=0.5)
    text = repr(chain_bound(oracle, oracle.draw(10), torch.linspace(1, 0, 101), variance=1.0))
    lines = text.splitlines()
    assert [line.split()[0] for line in lines] == [
        *("term", "L_T"),
        *(line.split()[0] for line in lines[2:10]),
        *("sum", "L_0", "total"),
    ]
    assert lines[2].startswith("t=1 ")
    assert len({len(line) for line in lines}) == 1


class Named(Denoiser):
    """A denoiser without a variance of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule = VP()

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Tensor | None) -> Tensor:
        return x_t / 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"times": [0.0]}, "at least one time with noise"),
        ({"times": [0.5, 1.0]}, "fall from noise to data"),
        ({"times": []}, "fall from noise to data"),
        ({"variance": 1.5}, "a number in"),
        ({"variance": "best"}, "a number in"),
        ({"variance": "own"}, "Named knows no reverse variance"),
        ({"decoder": "gausian"}, "did you mean 'gaussian'"),
        ({"decoder": "discretised"}, "8-bit data"),
        ({"draws": 0}, "draws must be at least 1"),
    ],
)
def test_mistakes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UndiffuseError, match=message):
        chain_bound(Named(), torch.full((2, 2), 0.3), **{"times": [1.0, 0.5, 0.0], **options})
