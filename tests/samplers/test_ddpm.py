r"""Ancestral sampling: its law on Gaussian data, and the lectures' algorithm."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.errors import UndiffuseError
from undiffuse.samplers import DDPM
from undiffuse.schedules.base import Schedule

MEAN, STD = 0.3, 0.5


def recursion(schedule: Schedule, times: Tensor, variance: float) -> tuple[float, float]:
    r"""Mean and variance of x_0 when DDPM samples N(MEAN, STD^2) from N(0, alpha^2 + sigma^2).

    With x0_hat = m + k (x - alpha_t m), k = alpha_t c / (alpha_t^2 c + sigma_t^2), each step is
    affine in x: x_s = a x + b x0_hat + std z, a = alpha_{t|s} sigma_s^2 / sigma_t^2 and
    b = alpha_s sigma_{t|s}^2 / sigma_t^2.
    """
    c = STD**2
    alphas, squares = schedule.alpha(times).tolist(), (schedule.sigma(times) ** 2).tolist()
    mean, var = 0.0, alphas[0] ** 2 + squares[0]
    for alpha_t, v_t, alpha_s, v_s in zip(alphas, squares, alphas[1:], squares[1:], strict=False):
        alpha_ts = alpha_t / alpha_s
        beta = v_t - alpha_ts**2 * v_s
        beta_tilde = beta * v_s / v_t
        a, b = alpha_ts * v_s / v_t, alpha_s * beta / v_t
        k = alpha_t * c / (alpha_t**2 * c + v_t)
        mean = a * mean + b * (MEAN + k * (mean - alpha_t * MEAN))
        var = (a + b * k) ** 2 * var + beta_tilde ** (1 - variance) * beta**variance * (v_s > 0)
    return mean, var


@pytest.mark.parametrize("variance", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [4, 20])
def test_the_variance_of_the_samples_follows_the_recursion(variance: float, steps: int) -> None:
    schedule = ud.schedules.VP()
    count, size = 16, 8192  # independent dimensions, so 2^17 numbers
    oracle = ud.exact.Gaussian(torch.full((size,), MEAN), schedule, std=STD)
    x = ud.sample(oracle, (count, size), DDPM(variance), steps=steps).double()
    mean, var = recursion(schedule, torch.linspace(1, 0, steps + 1).double(), variance)
    error = math.sqrt(2 / x.numel())  # relative standard error of a sample variance
    assert abs(float(x.var()) / var - 1) < 4 * error
    assert abs(float(x.mean()) - mean) < 4 * math.sqrt(var / x.numel())


def test_the_three_variances_are_told_apart_and_agree_in_the_limit() -> None:
    schedule = ud.schedules.VP()
    for steps, spread in ((20, 0.05), (2000, 0.0)):
        times = torch.linspace(1, 0, steps + 1).double()
        _, low = recursion(schedule, times, 0.0)
        _, high = recursion(schedule, times, 1.0)
        assert high - low > spread
    assert low == pytest.approx(STD**2, rel=0.01)
    assert high == pytest.approx(STD**2, rel=0.01)


def test_ddim_with_eta_one_is_ddpm(schedule: Schedule) -> None:
    r"""Song et al. 2021: eta = 1 is ancestral sampling with variance \tilde\beta."""
    oracle = ud.exact.GaussianMixture(
        torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), None, schedule, std=0.3
    )
    x_T = torch.randn(8, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one, two = (
        ud.sample(oracle, (8, 2), rule, steps=10, grid="uniform", x_T=x_T, seed=3)
        for rule in ("ddim(eta=1)", "ddpm(variance=0)")
    )
    torch.testing.assert_close(one, two, rtol=0, atol=1e-12)


def test_lecture_002_algorithm_2() -> None:
    r"""x_{k-1} = (x_k - beta_k / sqrt(1 - \bar\alpha_k) eps) / sqrt(alpha_k) + sqrt(beta_k) z.

    The factor in front is 1 / sqrt(alpha_k), no bar; with the bar, as some pages print it, the
    step is far away.
    """
    chain = ud.schedules.Discrete.linear(100)
    oracle = ud.exact.GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), None, chain, std=0.3)
    generator = torch.Generator().manual_seed(0)
    alphas = 1 - torch.tensor(chain.betas, dtype=torch.float64)
    bars = alphas.cumprod(0)
    for k in range(100, 0, -1):
        beta, alpha, bar = 1 - alphas[k - 1], alphas[k - 1], bars[k - 1]
        t, s = torch.tensor([k / 100, (k - 1) / 100], dtype=torch.float64)
        x, z = torch.randn(2, 4, 2, generator=generator, dtype=torch.float64)
        found, memory = DDPM(variance=1.0).step(oracle, x, t, s, None, lambda like, z=z: z)
        numerator = x - beta / torch.sqrt(1 - bar) * oracle.noise(x, t)
        z = z if k > 1 else torch.zeros_like(z)
        expected = numerator / alpha.sqrt() + beta.sqrt() * z
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        assert memory is None
        if k > 50:
            printed = numerator / bar.sqrt() + beta.sqrt() * z
            assert float((found - printed).norm() / found.norm()) > 0.5


def test_lecture_000_noise_is_beta_tilde() -> None:
    r"""variance = 0 adds \tilde\beta_k = beta_k (1 - \bar\alpha_{k-1}) / (1 - \bar\alpha_k)."""
    chain = ud.schedules.Discrete((0.1, 0.2, 0.3))
    oracle = ud.exact.Gaussian(torch.zeros(1), chain, std=1.0)
    t, s = torch.tensor([2 / 3, 1 / 3], dtype=torch.float64)
    x = torch.zeros(1, 1, dtype=torch.float64)
    drawn, _ = DDPM().step(oracle, x, t, s, None, torch.ones_like)
    bar_1, bar_2 = 0.9, 0.9 * 0.8
    assert drawn.item() == pytest.approx(math.sqrt(0.2 * (1 - bar_1) / (1 - bar_2)), rel=1e-9)


@pytest.mark.parametrize("variance", [-0.1, 1.5, float("inf")])
def test_variance_out_of_range_is_refused(variance: float) -> None:
    with pytest.raises(UndiffuseError, match="variance must be in"):
        DDPM(variance=variance)
