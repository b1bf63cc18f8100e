"""Lecture 003's geometry: the ideal denoiser follows the gradient of a smooth square distance."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from undiffuse.derivatives import gradient, jacobian
from undiffuse.errors import UndiffuseError
from undiffuse.exact import FiniteSet, distance_to, projection, smoothed_square_distance
from undiffuse.exact.distance import square_distances
from undiffuse.schedules import EDM
from undiffuse.schedules.base import Schedule

SIGMAS = (0.05, 0.3, 1.0, 4.0)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


POINTS, X = normal(12, 3), 2 * normal(30, 3, seed=1)


def test_distance_and_projection() -> None:
    """dist(x) = |x - proj(x)|, proj(x) is in K, and no other point is nearer."""
    nearest = projection(POINTS, X)
    torch.testing.assert_close(distance_to(POINTS, X), (X - nearest).norm(dim=1))
    torch.testing.assert_close(distance_to(POINTS, nearest), torch.zeros(30, dtype=torch.float64))
    for point in POINTS:
        assert bool((distance_to(POINTS, X) <= (X - point).norm(dim=1) + 1e-12).all())


def test_half_the_gradient_of_the_square_leads_from_the_projection() -> None:
    found = gradient(lambda x: distance_to(POINTS, x).square() / 2, X)
    torch.testing.assert_close(found.detach(), X - projection(POINTS, X))


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_theorem(sigma: float) -> None:
    """1/2 grad dist^2(x, sigma) = sigma eps*(x, sigma) = x - E[x_0 | x], at alpha = 1."""
    oracle = FiniteSet(POINTS, EDM())
    t = EDM().t_from_log_snr(-2 * math.log(sigma))
    found = gradient(lambda x: smoothed_square_distance(POINTS, x, sigma) / 2, X).detach()
    torch.testing.assert_close(found, sigma * oracle.noise(X, t), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found, X - oracle(X, t), rtol=1e-8, atol=1e-8)
    normalised = gradient(lambda x: smoothed_square_distance(POINTS, x, sigma, True) / 2, X)
    torch.testing.assert_close(found, normalised.detach())


def test_003_the_printed_softmin_is_half_of_a_square() -> None:
    """-sigma^2 log sum exp is printed as dist, whose square then has another gradient."""
    sigma = 0.7
    oracle = FiniteSet(POINTS, EDM())
    eps = oracle.noise(X, EDM().t_from_log_snr(-2 * math.log(sigma)))

    def printed(x: Tensor) -> Tensor:
        return -(sigma**2) * (-torch.cdist(x, POINTS).square() / (2 * sigma**2)).logsumexp(1)

    wrong = gradient(lambda x: printed(x).square() / 2, X).detach()
    assert float((wrong - sigma * eps).norm() / (sigma * eps).norm()) > 0.5
    right = gradient(printed, X).detach()  # what is printed smooths 1/2 dist^2 itself
    torch.testing.assert_close(right, sigma * eps, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(2 * printed(X), smoothed_square_distance(POINTS, X, sigma))


def test_the_theorem_under_any_schedule(schedule: Schedule) -> None:
    """Read x / alpha for x and sigma / alpha for sigma."""
    oracle, t = FiniteSet(POINTS, schedule), 0.6
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    found = gradient(lambda y: smoothed_square_distance(POINTS, y, sigma / alpha) / 2, X)
    expected = sigma / alpha * oracle.noise(alpha * X, t)
    torch.testing.assert_close(found.detach(), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_bounds(sigma: float) -> None:
    """dist^2 - 2 sigma^2 log N <= smoothed <= dist^2, and the normalised form is not negative."""
    square, low = distance_to(POINTS, X).square(), 2 * sigma**2 * math.log(len(POINTS))
    smooth = smoothed_square_distance(POINTS, X, sigma)
    assert bool((smooth <= square + 1e-12).all())
    assert bool((smooth >= square - low - 1e-12).all())
    normalised = smoothed_square_distance(POINTS, X, sigma, normalised=True)
    assert bool((normalised >= 0).all())
    torch.testing.assert_close(normalised, smooth + low)


def test_the_lower_bound_is_reached_where_all_points_are_one() -> None:
    same = torch.ones(8, 2)
    reached = smoothed_square_distance(same, torch.ones(1, 2), 0.5)
    assert reached.item() == pytest.approx(-2 * 0.25 * math.log(8))
    assert smoothed_square_distance(same, torch.ones(1, 2), 0.5, normalised=True).item() == (
        pytest.approx(0, abs=1e-6)
    )


def test_without_smoothing_it_is_the_distance() -> None:
    """As sigma falls to 0, and at sigma = inf the normalised form is the mean square distance."""
    for sigma in (1e-2, 1e-3):
        smooth = smoothed_square_distance(POINTS, X, sigma)
        error = (smooth - distance_to(POINTS, X).square()).abs().max()
        assert float(error) <= 2 * sigma**2 * math.log(len(POINTS))
    mean = (X[:, None] - POINTS).square().sum(2).mean(1)
    far = smoothed_square_distance(POINTS, X, 1e4, normalised=True)
    torch.testing.assert_close(far, mean, rtol=1e-6, atol=0)


def test_square_distances_have_second_derivatives() -> None:
    """Which torch.cdist lacks; without the cancellation of the expanded square."""
    x, points = normal(3, 2).requires_grad_(), normal(4, 2, seed=1).requires_grad_()
    own = normal(3, 4, 2, seed=2).requires_grad_()
    for second in (points, own):
        expected = (x[:, None] - second).square().sum(-1)
        torch.testing.assert_close(square_distances(x, second), expected)
        assert torch.autograd.gradcheck(square_distances, (x, second))
        assert torch.autograd.gradgradcheck(square_distances, (x, second))
    far = torch.full((1, 3), 1e4)
    assert square_distances(far, far + 0.01).item() == pytest.approx(3e-4, rel=0.2)
    hessian = jacobian(lambda x: gradient(lambda y: distance_to(POINTS, y).square() / 2, x), X)
    torch.testing.assert_close(hessian.detach(), torch.eye(3).double().expand(30, 3, 3))


def test_ranks_levels_and_mistakes() -> None:
    points, x = normal(6, 1, 2, 2), normal(5, 1, 2, 2, seed=1)
    sigma = torch.tensor([0.1, 0.2, 0.5, 1.0, 2.0])
    assert projection(points, x).shape == x.shape
    smooth = smoothed_square_distance(points, x, sigma)
    for i in range(5):
        alone = smoothed_square_distance(
            points.flatten(1), x[i : i + 1].flatten(1), float(sigma[i])
        )
        torch.testing.assert_close(smooth[i : i + 1], alone)
    for wrong in (0.0, -1.0):
        with pytest.raises(UndiffuseError, match="needs sigma > 0"):
            smoothed_square_distance(points, x, wrong)
    with pytest.raises(UndiffuseError, match=r"points must be \[N, 1, 2, 2\].*not \[6, 4\]"):
        distance_to(points.flatten(1), x)
