"""The probability of 8-bit values under a Gaussian."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.special import ndtr

from undiffuse.errors import UndiffuseError
from undiffuse.likelihood.decoders import discretised_log_prob, gaussian_log_prob

LEVELS = 2 * torch.arange(256, dtype=torch.float64)[:, None] / 255 - 1


@pytest.mark.parametrize("std", [1e-4, 0.003, 0.05, 1.0, 30.0])
@pytest.mark.parametrize("mean", [-1.3, -1.0, 0.0, 0.123, 0.9])
def test_the_256_values_share_all_of_the_mass(mean: float, std: float) -> None:
    one = torch.ones_like(LEVELS)
    log_mass = discretised_log_prob(LEVELS, mean * one, std**2 * one)
    assert float(log_mass.max()) <= 0
    assert bool(log_mass.isfinite().all())
    assert float(log_mass.exp().sum()) == pytest.approx(1, abs=1e-12)


def test_it_is_a_difference_of_normal_distribution_functions() -> None:
    mean, std = 0.2, 0.1
    found = discretised_log_prob(LEVELS, torch.full_like(LEVELS, mean), torch.tensor(std**2))
    edges = (LEVELS[:, 0].numpy() - mean) / std
    half = 1 / 255 / std
    expected = ndtr(edges + half) - ndtr(edges - half)
    expected[0], expected[-1] = ndtr(edges[0] + half), 1 - ndtr(edges[-1] - half)
    torch.testing.assert_close(found.exp(), torch.from_numpy(expected), rtol=1e-6, atol=1e-15)


def test_far_out_in_either_tail_it_stays_finite_and_has_a_slope() -> None:
    for x, mean in ((LEVELS[:1], 1.0), (LEVELS[-1:], -1.0), (LEVELS[100:101], 3.0)):
        centre = torch.full_like(x, mean).requires_grad_()
        log_mass = discretised_log_prob(x, centre, torch.tensor(1e-8).double())
        slope = torch.autograd.grad(log_mass.sum(), centre)[0]
        assert log_mass.item() < -1e6
        assert bool(slope.isfinite().all())
        assert bool(slope * (x - mean) > 0)  # towards the data


def test_narrow_bins_are_the_density_times_their_width() -> None:
    x, mean, variance = LEVELS[60:190], torch.zeros(130, 1).double(), torch.tensor(4.0).double()
    found = discretised_log_prob(x, mean, variance)
    density = gaussian_log_prob(x, mean, variance)
    torch.testing.assert_close(found, density + math.log(2 / 255), rtol=0, atol=1e-5)


def test_other_data_is_refused() -> None:
    one = torch.ones(1, 2)
    for x in (0.5 * one, 1.5 * one, 2 * 300 / 255 * one - 1):
        with pytest.raises(UndiffuseError, match="8-bit data"):
            discretised_log_prob(x, one, one)
    assert bool(discretised_log_prob(LEVELS.float(), LEVELS.float(), one[:, :1]).isfinite().all())
