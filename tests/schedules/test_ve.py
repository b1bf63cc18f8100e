"""VE and LogLinear: geometric noise levels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from undiffuse import process
from undiffuse.errors import UndiffuseError
from undiffuse.schedules import VE, LogLinear


def test_levels_grow_by_equal_factors_and_the_ends_are_exact() -> None:
    sigma = VE().sigma(torch.linspace(0, 1, 232, dtype=torch.float64))
    np.testing.assert_allclose(sigma, np.geomspace(0.01, 50, 232), rtol=1e-13)
    for schedule in (VE(), VE(0.3, 7.7), LogLinear()):
        assert schedule.sigma(0.0) == schedule.sigma_min
        assert schedule.sigma(1.0) == schedule.sigma_max
        assert bool((schedule.alpha(torch.rand(3)) == 1).all())


def test_drift_and_diffusion_are_those_of_song() -> None:
    """dx = sigma_min (sigma_max / sigma_min)^t sqrt(2 log(sigma_max / sigma_min)) dW."""
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    printed = 0.01 * (50 / 0.01) ** t * math.sqrt(2 * math.log(50 / 0.01))
    torch.testing.assert_close(process.diffusion(VE(), t), printed, rtol=1e-12, atol=0)
    assert bool((process.drift(VE(), torch.ones(11), t) == 0).all())


def test_log_linear_is_ve_with_the_range_of_the_lecture() -> None:
    t = torch.linspace(0, 1, 1000, dtype=torch.float64)
    levels = LogLinear().sigma(t)
    np.testing.assert_allclose(levels, np.logspace(-2, 2, 1000), rtol=1e-12)
    torch.testing.assert_close(levels, VE(0.01, 100.0).sigma(t), rtol=0, atol=0)
    assert LogLinear() != VE(0.01, 100.0)


@pytest.mark.parametrize("family", [VE, LogLinear])
@pytest.mark.parametrize("options", [(0.0, 1), (-1, 1), (2, 1), (1, 1), (0.1, math.inf), ("a", 1)])
def test_impossible_options_are_refused(family: type[VE], options: tuple[float, float]) -> None:
    with pytest.raises(UndiffuseError, match=rf"{family.__name__}: sigma_"):
        family(*options)
