from __future__ import annotations

import math

import torch

from undiffuse.evaluation.energy import energy_distance


def normal(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_equal_clouds_have_no_distance_and_it_is_symmetric():
    x, y = normal(50, 0), normal(70, 1) + 0.3
    assert abs(energy_distance(x, x)) < 1e-12
    assert abs(energy_distance(x, y) - energy_distance(y, x)) < 1e-12
    assert energy_distance(x, y) > 0


def test_shifted_normals_agree_with_the_closed_form():
    shift = 2.0  # E|Z| for Z ~ N(m, 2) is 2/sqrt(pi) exp(-m^2/4) + m erf(m/2)
    between = 2 / math.sqrt(math.pi) * math.exp(-(shift**2) / 4) + shift * math.erf(shift / 2)
    exact = 2 * between - 4 / math.sqrt(math.pi)
    found = energy_distance(normal(4000, 0), normal(4000, 1) + shift)
    assert abs(found - exact) < 0.05 * exact
