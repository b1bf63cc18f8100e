"""EDM against equation 5 of Karras et al. 2022."""

from __future__ import annotations

import math

import pytest
import torch

from undiffuse.errors import UndiffuseError
from undiffuse.schedules import EDM


def test_uniform_steps_in_t_are_the_noise_levels_of_karras() -> None:
    n, rho = 18, 7
    i = torch.arange(n, dtype=torch.float64)
    low, high = 0.002 ** (1 / rho), 80 ** (1 / rho)
    printed = (high + i / (n - 1) * (low - high)) ** rho
    torch.testing.assert_close(EDM().sigma(1 - i / (n - 1)), printed, rtol=1e-12, atol=0)


@pytest.mark.parametrize("rho", [1.0, 3.0, 7.0, 20.0])
def test_both_ends_are_exact(rho: float) -> None:
    schedule = EDM(0.01, 50.0, rho)
    assert schedule.sigma(0.0) == 0.01
    assert schedule.sigma(1.0) == 50.0
    assert bool((schedule.alpha(torch.rand(3)) == 1).all())
    low, high = 0.01 ** (1 / rho), 50 ** (1 / rho)
    for t, root in ((0.0, low), (1.0, high)):  # d/dt of (low + t (high - low))^rho
        slope = rho * root ** (rho - 1) * (high - low)
        assert float(schedule.sigma_rate(t)) == pytest.approx(slope, rel=1e-12)


@pytest.mark.parametrize(
    "options", [(0.0, 1), (-1.0, 1), (2.0, 1), (0.1, math.inf), (0.1, 1, 0), (0.1, 1, math.nan)]
)
def test_impossible_options_are_refused(options: tuple[float, ...]) -> None:
    with pytest.raises(UndiffuseError, match="EDM: "):
        EDM(*options)
