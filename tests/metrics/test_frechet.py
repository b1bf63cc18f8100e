from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from undiffuse.metrics.frechet import Frechet, frechet_distance, moments, square_root


def factor(size: int, rank: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, rank, generator=generator, dtype=torch.float64)


def covariance(size: int, rank: int, seed: int) -> torch.Tensor:
    root = factor(size, rank, seed)
    return root @ root.T


def test_normals_with_commuting_covariances_agree_with_the_closed_form():
    m, n = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.0, 1.0, 0.5])
    s, t = torch.tensor([1.0, 0.2, 3.0]), torch.tensor([2.0, 0.2, 0.5])
    exact = float((m - n).square().sum() + (s - t).square().sum())
    found = frechet_distance(m, torch.diag(s**2), n, torch.diag(t**2))
    assert abs(found - exact) < 1e-6  # s and t are float32
    assert frechet_distance(m, torch.diag(s**2), m, torch.diag(s**2)) < 1e-6


@pytest.mark.parametrize("ranks", [(5, 5), (5, 2), (2, 3)])
def test_any_covariances_agree_with_the_nuclear_norm_of_their_factors(ranks):
    """tr (A^1/2 B A^1/2)^1/2 is the sum of the singular values of X^T Y, A = X X^T, B = Y Y^T.

    It is exact for singular ones too, where scipy's square root of a matrix is not.
    """
    x, y = (factor(5, rank, seed) for seed, rank in enumerate(ranks))
    a, b = x @ x.T, y @ y.T
    torch.testing.assert_close(square_root(a) @ square_root(a), a)
    cross = float(torch.linalg.matrix_norm(x.T @ y, ord="nuc"))
    if ranks == (5, 5):
        half = square_root(a).numpy()
        assert abs(np.trace(sqrtm(half @ b.numpy() @ half).real) - cross) < 1e-6
    zero = torch.zeros(5)
    exact = float(a.trace() + b.trace()) - 2 * cross
    assert abs(frechet_distance(zero, a, zero, b) - exact) < 1e-6
    assert abs(frechet_distance(zero, b, zero, a) - exact) < 1e-6


def test_points_moved_by_a_positive_map_are_as_far_as_they_moved(normal):
    """y = A x + b with A positive definite is the optimal transport, so d^2 = E |y - x|^2."""
    x, b = normal(200, 4, 0), torch.tensor([1.0, 0.0, -2.0, 0.5], dtype=torch.float64)
    a = covariance(4, 6, 1) / 3
    y = x @ a + b
    step = y - x
    spread = (step - step.mean(0)).square().sum() / (len(x) - 1)  # unbiased, as the covariances
    exact = float(step.mean(0).square().sum() + spread)
    assert abs(Frechet()(y, x) - exact) < 1e-9 * exact


def test_moments_are_those_of_numpy(normal):
    x = normal(50, 3, 0) * 2 + 1
    mean, cov = moments(x)
    np.testing.assert_allclose(mean, x.numpy().mean(0))
    np.testing.assert_allclose(cov, np.cov(x.numpy(), rowvar=False))


def test_the_fewer_the_points_the_larger_the_distance(normal):
    """The bias: equal distributions are farther apart the fewer points stand for them."""
    real = normal(4000, 8, 0)
    found = [Frechet()(normal(count, 8, 1), real) for count in (50, 200, 800)]
    assert found[0] > 3 * found[1] > 9 * found[2] > 0
