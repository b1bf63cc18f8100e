"""The ideal denoiser against the lecture's formula, and where that formula breaks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from undiffuse.errors import UndiffuseError
from undiffuse.exact import FiniteSet, GaussianMixture
from undiffuse.schedules import EDM, VP, Flow
from undiffuse.schedules.base import Schedule

WIDE = EDM(sigma_min=1e-4, sigma_max=1e4)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def lecture(x: Tensor, points: Tensor, sigma: float) -> Tensor:
    """sum_i (x - x_i) e_i / (sigma sum_i e_i) with e_i = exp(-|x - x_i|^2 / 2 sigma^2)."""
    offset = x[:, None] - points
    e = torch.exp(-offset.square().sum(-1) / (2 * sigma**2))
    return (offset * e[..., None]).sum(1) / (sigma * e.sum(1, keepdim=True))


@pytest.mark.parametrize("sigma", [0.1, 0.5, 2.0, 30.0, 1e3])
def test_it_is_the_formula_of_the_lecture(sigma: float) -> None:
    points = normal(20, 3)
    x = points + sigma * normal(20, 3, seed=1)
    oracle = FiniteSet(points, EDM())
    t = float(EDM().t_from_log_snr(-2 * torch.log(torch.tensor(sigma, dtype=torch.float64))))
    if sigma <= 80:
        expected = lecture(x, points, sigma)
        torch.testing.assert_close(oracle.noise(x, t), expected, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(oracle(x, t), x - sigma * expected, rtol=1e-8, atol=1e-8)
    wide = FiniteSet(points, WIDE)
    t = float(WIDE.t_from_log_snr(-2 * torch.log(torch.tensor(sigma, dtype=torch.float64))))
    expected = x - sigma * lecture(x, points, sigma)
    torch.testing.assert_close(wide(x, t), expected, rtol=1e-7, atol=1e-7)


def test_with_alpha_it_is_the_formula_of_the_scaled_points(schedule: Schedule) -> None:
    points, x = normal(9, 3), normal(6, 3, seed=1)
    for t in (0.3, 0.6, 0.95):
        alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
        eps = lecture(x, alpha * points, sigma)
        oracle = FiniteSet(points, schedule)
        if bool(eps.isfinite().all()):  # the naive formula divides 0 by 0 when sigma is small
            torch.testing.assert_close(oracle.noise(x, t), eps, rtol=1e-7, atol=1e-7)
        assert bool(oracle.noise(x, t).isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_stays_finite_from_tiny_to_huge_noise_and_far_apart(dtype: torch.dtype) -> None:
    points = 1e3 * torch.nn.functional.normalize(normal(100, 5), dim=1)
    oracle = FiniteSet(points, WIDE)
    x = torch.cat([points, points + normal(100, 5, seed=1), torch.zeros(1, 5), 1e4 * points[:5]])
    x = x.to(dtype)
    for t in torch.linspace(0, 1, 33, dtype=torch.float64):
        for value in (oracle(x, t), oracle.score(x, t), oracle.log_prob(x, t)):
            assert bool(value.isfinite().all())
        inside = oracle(x, t).double().norm(dim=1)  # a mean of points of norm 1000
        assert float(inside.max()) <= 1e3 * (1 + 1e-5)
    naive = lecture(x, points.to(dtype), 1e-4)
    assert not bool(naive.isfinite().all())
    if dtype == torch.float64:
        torch.testing.assert_close(oracle(points, 0.0), points, rtol=1e-12, atol=0)
        middle = oracle(torch.zeros(1, 5, dtype=dtype), 1.0)
        torch.testing.assert_close(middle, points.mean(0, keepdim=True), rtol=1e-3, atol=1e-3)


def test_distances_far_from_the_origin_lose_nothing() -> None:
    """Points 0.001 apart at 1,000: |x|^2 - 2 x m + |m|^2 would round them together."""
    near, x = 1e-3 * normal(40, 2), 1e-3 * normal(30, 2, seed=1)
    t = WIDE.t_from_log_snr(-2 * torch.log(torch.tensor(3e-4, dtype=torch.float64)))
    for time in (t, t.expand(30)):
        expected = FiniteSet(near, WIDE)(x, time)
        far = FiniteSet(near + 1e3, WIDE)(x + 1e3, time) - 1e3
        torch.testing.assert_close(far, expected, rtol=0, atol=1e-9)


def test_between_two_points_it_is_a_hyperbolic_tangent() -> None:
    """Points -1 and 1: E[x_0 | x] = tanh(x / sigma^2) at alpha = 1."""
    oracle, x = FiniteSet(torch.tensor([[-1.0], [1.0]]), EDM()), normal(30, 1)
    for t in (0.3, 0.5, 0.9):
        expected = torch.tanh(x / EDM().sigma(t) ** 2)
        torch.testing.assert_close(oracle(x, t), expected, rtol=1e-9, atol=1e-12)


def test_it_is_the_limit_of_narrow_gaussians(schedule: Schedule) -> None:
    points, x = normal(5, 2), normal(6, 2, seed=1)
    narrow = GaussianMixture(points, None, schedule, std=1e-7)
    for t in (0.2, 0.7):
        torch.testing.assert_close(
            FiniteSet(points, schedule)(x, t), narrow(x, t), rtol=1e-6, atol=1e-6
        )


def test_labels_draws_and_ranks() -> None:
    points, labels = normal(6, 2, 3), torch.tensor([0, 0, 0, 1, 1, 1])
    oracle = FiniteSet(points, VP(), labels)
    drawn = oracle.draw(50, label=1)
    assert drawn.shape == (50, 2, 3)
    is_point = (drawn[:, None] == points).flatten(2).all(2)  # [50, 6]
    assert is_point.sum(0).gt(0).tolist() == [False, False, False, True, True, True]
    assert bool(is_point.any(1).all())
    x = normal(4, 2, 3, seed=1)
    label = torch.tensor([0, 1, -1, 0])
    denoised = oracle(x, 0.4, label=label)
    torch.testing.assert_close(denoised[1:2], FiniteSet(points[3:], VP())(x[1:2], 0.4))
    torch.testing.assert_close(denoised[2:3], oracle(x, 0.4)[2:3])
    again = oracle.with_schedule(Flow()).with_schedule(VP())
    torch.testing.assert_close(again(x, 0.4, label=label), denoised)
    with pytest.raises(UndiffuseError, match="no density"):
        oracle.log_prob(points, 0.0)
