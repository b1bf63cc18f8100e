"""The process against independent algebra on Gaussians, for every schedule."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from undiffuse import process
from undiffuse.errors import UndiffuseError
from undiffuse.exact import Gaussian
from undiffuse.schedules import Cosine, Flow
from undiffuse.schedules.base import Schedule

PARTITION = st.lists(st.floats(1e-100, 1), max_size=8)
INNER = torch.linspace(0.03, 0.97, 20, dtype=torch.float64) + 0.00037


def ones(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.float64)


@given(between=PARTITION, end=st.floats(1e-6, 1))
@settings(max_examples=60)
def test_many_steps_have_the_moments_of_one_shot(
    schedule: Schedule, between: list[float], end: float
) -> None:
    times = [0.0, *sorted({t for t in between if t < end}), end]
    mean, std = process.marginal(schedule, ones(1, 1), 0.0)
    variance = std**2
    for s, t in pairwise(times):
        factor, step = process.transition(schedule, ones(1, 1), s, t)
        mean, variance = factor * mean, factor**2 * variance + step**2
    shot, std = process.marginal(schedule, ones(1, 1), end)
    assert float(mean) == pytest.approx(float(shot), rel=1e-12, abs=1e-300)
    assert float(variance) == pytest.approx(float(std) ** 2, rel=1e-12)


def test_a_step_between_neighbouring_numbers_is_finite(schedule: Schedule) -> None:
    s = torch.rand(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    std = process.transition_std(schedule, s, torch.nextafter(s, ones(1)))
    assert bool(std.isfinite().all())
    assert bool((std < 1e-3).all())


@given(t=st.floats(0.02, 1), share=st.floats(0.01, 0.9), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_the_posterior_is_bayes_rule(schedule: Schedule, t: float, share: float, seed: int) -> None:
    """(x_s, x_t) given x_0 is jointly Gaussian; condition it on x_t as matrices."""
    s = share * t
    a_s, a_t = float(schedule.alpha(s)), float(schedule.alpha(t))
    v_s, v_t = float(schedule.sigma(s)) ** 2, float(schedule.sigma(t)) ** 2
    x_0, x_t = torch.randn(
        2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    covariance = v_s * a_t / a_s  # Cov(x_s, x_t | x_0): what was there at s, shrunk since
    bayes_mean = a_s * x_0 + covariance / v_t * (x_t - a_t * x_0)
    bayes_variance = v_s - covariance**2 / v_t
    mean, std = process.posterior(schedule, x_t, x_0, t, s)
    torch.testing.assert_close(mean, bayes_mean, rtol=1e-9, atol=1e-9)
    assert float(std) ** 2 == pytest.approx(bayes_variance, rel=1e-8)


def test_the_posterior_is_the_likelihood_times_the_prior(schedule: Schedule) -> None:
    """log q(x_s | x_t, x_0) = log q(x_t | x_s) + log q(x_s | x_0) + const, at several x_s."""
    x_0, x_t, t, s = ones(1, 1) * 0.3, ones(1, 1) * -0.7, 0.6, 0.4
    x_s = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]

    def log_normal(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        return -(((x - mean) / std) ** 2) / 2

    prior = log_normal(x_s, *process.marginal(schedule, x_0, s))
    likelihood = log_normal(x_t, *process.transition(schedule, x_s, s, t))
    posterior = log_normal(x_s, *process.posterior(schedule, x_t, x_0, t, s))
    constant = prior + likelihood - posterior
    torch.testing.assert_close(constant, constant[:1].expand(9, 1), rtol=1e-9, atol=1e-9)


def test_the_posterior_at_the_ends(schedule: Schedule) -> None:
    x_0, x_t = ones(2, 3) * 0.3, ones(2, 3)
    for s in (0.0, 0.5):
        mean, std = process.posterior(schedule, x_t, x_0, 1.0, s)
        assert bool(mean.isfinite().all())
        assert bool(std.isfinite())
    if schedule.sigma(0.0) == 0:
        mean, std = process.posterior(schedule, x_t, x_0, 1.0, 0.0)
        torch.testing.assert_close(mean, x_0, rtol=0, atol=0)
        assert std == 0


def test_without_signal_the_posterior_forgets_x_t() -> None:
    for schedule in (Cosine(), Flow()):
        mean, std = process.posterior(schedule, ones(1, 1) * 9, ones(1, 1), 1.0, 0.5)
        torch.testing.assert_close(mean, schedule.alpha(0.5).expand(1, 1))
        torch.testing.assert_close(std, schedule.sigma(0.5))


def test_drift_and_diffusion_move_mean_and_variance(schedule: Schedule) -> None:
    """d alpha/dt = f alpha and d sigma^2/dt = 2 f sigma^2 + g^2."""
    alpha, sigma = schedule.alpha(INNER), schedule.sigma(INNER)
    f = process.drift(schedule, torch.ones_like(INNER), INNER)
    g = process.diffusion(schedule, INNER)
    torch.testing.assert_close(schedule.alpha_rate(INNER), f * alpha)
    rate = 2 * sigma * schedule.sigma_rate(INNER)
    torch.testing.assert_close(rate, 2 * f * sigma**2 + g**2, rtol=1e-9, atol=1e-12)


def test_one_short_step_is_drift_and_diffusion(schedule: Schedule) -> None:
    h = 1e-6
    factor, std = process.transition(schedule, torch.ones_like(INNER), INNER, INNER + h)
    f = process.drift(schedule, torch.ones_like(INNER), INNER)
    torch.testing.assert_close((factor - 1) / h, f, rtol=1e-3, atol=1e-8)
    torch.testing.assert_close(
        std**2 / h, process.diffusion(schedule, INNER) ** 2, rtol=1e-3, atol=0
    )


def test_reverse_sde_and_flow_keep_the_marginals_of_a_gaussian(schedule: Schedule) -> None:
    """For x_0 ~ N(0, c^2) the variance V of x_t must follow from either, run backwards."""
    c, x = 0.6, torch.ones_like(INNER)
    alpha, sigma = schedule.alpha(INNER), schedule.sigma(INNER)
    V = (alpha * c) ** 2 + sigma**2
    V_rate = 2 * alpha * schedule.alpha_rate(INNER) * c**2 + 2 * sigma * schedule.sigma_rate(INNER)
    flow = process.flow_drift(schedule, x, INNER, -x / V)
    reverse = process.reverse_drift(schedule, x, INNER, -x / V)
    g = process.diffusion(schedule, INNER)
    torch.testing.assert_close(2 * flow * V, V_rate, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(2 * reverse * V - g**2, V_rate, rtol=1e-8, atol=1e-10)


def test_tweedie_makes_the_denoiser_from_the_score(schedule: Schedule) -> None:
    oracle = Gaussian(torch.tensor([0.5, -1.0]), schedule, cov=torch.tensor([[1, 0.3], [0.3, 0.2]]))
    x = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    estimate = process.tweedie(schedule, x, INNER, oracle.score(x, INNER))
    torch.testing.assert_close(estimate, oracle(x, INNER), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 1, 2, 2), (4, 1, 1, 1, 5)])
def test_a_time_for_each_sample_of_any_rank(schedule: Schedule, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    x_0, eps = (torch.randn(shape, generator=generator) for _ in range(2))
    s, t = torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([0.5, 0.3, 0.9, 0.8])
    x_t = process.noised(schedule, x_0, t, eps)
    assert x_t.dtype == torch.float32
    mean, std = process.posterior(schedule, x_t, x_0, t, s)
    assert mean.shape == shape
    assert std.shape == (4,) + (1,) * (len(shape) - 1)
    for i in range(4):
        one = slice(i, i + 1)
        alone = process.noised(schedule, x_0[one], float(t[i]), eps[one])
        torch.testing.assert_close(x_t[one], alone)
        expected, width = process.posterior(schedule, alone, x_0[one], float(t[i]), float(s[i]))
        torch.testing.assert_close(mean[one], expected)
        torch.testing.assert_close(std[i].flatten()[0], width)


def test_steps_back_in_time_are_refused() -> None:
    x = ones(2, 1)
    for s, t in ((0.5, 0.5), (0.6, 0.5), (torch.tensor([0.1, 0.9]), 0.5), (math.nan, 0.5)):
        with pytest.raises(UndiffuseError, match="must lie before"):
            process.transition(Flow(), x, s, t)
        with pytest.raises(UndiffuseError, match="must lie before"):
            process.posterior(Flow(), x, x, t, s)
