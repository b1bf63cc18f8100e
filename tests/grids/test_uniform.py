"""The uniform grid."""

from __future__ import annotations

import pytest
import torch

from undiffuse.grids import Uniform
from undiffuse.schedules import EDM, VP, Discrete


def test_equal_distances() -> None:
    assert Uniform().times(VP(), 4).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_a_chain_is_walked_step_by_step() -> None:
    chain = Discrete.linear(100)
    assert Uniform().times(chain, 100).tolist() == [k / 100 for k in range(100, -1, -1)]


def test_on_edm_these_are_karras_noise_levels() -> None:
    """Karras et al. 2022, equation 5, with n levels for n evaluations."""
    n, rho, low, high = 8, 7.0, 0.002, 80.0
    levels = [
        (high ** (1 / rho) + i / (n - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho
        for i in range(n)
    ]
    edm = EDM(low, high, rho)
    found = edm.sigma(Uniform().times(edm, n))
    torch.testing.assert_close(found, torch.tensor(levels, dtype=torch.float64), rtol=1e-9, atol=0)
    assert float(found[-1]) == pytest.approx(0.002, rel=1e-12)
