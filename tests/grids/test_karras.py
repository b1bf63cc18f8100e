"""The noise levels of EDM, under any schedule."""

from __future__ import annotations

import math

import pytest
import torch

from undiffuse.errors import UndiffuseError
from undiffuse.grids import Karras, LogSNR, Uniform
from undiffuse.schedules import EDM, VP, Cosine, Discrete, Flow
from undiffuse.schedules.base import Schedule


def noise(schedule: Schedule, times: torch.Tensor) -> torch.Tensor:
    """sigma / alpha."""
    return schedule.sigma(times) / schedule.alpha(times)


def equation_5(n: int, low: float, high: float, rho: float) -> list[float]:
    """(sigma_max^(1/rho) + i/(n-1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho."""
    ends = high ** (1 / rho), low ** (1 / rho)
    return [(ends[0] + i / (n - 1) * (ends[1] - ends[0])) ** rho for i in range(n)]


@pytest.mark.parametrize("rho", [1.0, 3.0, 7.0])
@pytest.mark.parametrize(
    "schedule", [VP(), Cosine(), Flow(), EDM(), Discrete.linear(100)], ids=lambda s: s.name
)
def test_equation_5_of_karras(schedule: Schedule, rho: float) -> None:
    times = Karras(rho=rho).times(schedule, 18)
    expected = torch.tensor(equation_5(18, 0.002, 80.0, rho), dtype=torch.float64)
    torch.testing.assert_close(noise(schedule, times)[:18], expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("n", [1, 2, 3, 18])
def test_on_edm_it_is_the_uniform_grid(n: int) -> None:
    times = Karras().times(EDM(), n), Uniform().times(EDM(), n)
    torch.testing.assert_close(*times, rtol=0, atol=1e-12)


def test_a_large_rho_is_the_log_snr_grid() -> None:
    one = noise(VP(), Karras(80, 0.01, rho=1000).times(VP(), 9))
    two = noise(VP(), LogSNR(80, 0.01).times(VP(), 9))
    torch.testing.assert_close(one, two, rtol=0.02, atol=1e-9)


def test_mistakes() -> None:
    for rho in (0.5, -1, math.inf, True):
        with pytest.raises(UndiffuseError, match=r"Karras: rho must be in \[1, 1000\]"):
            Karras(rho=rho)
    with pytest.raises(UndiffuseError, match="Karras: noise_max must be larger than noise_min"):
        Karras(noise_max=0.001)
    with pytest.raises(UndiffuseError, match="no noise level in common"):
        Karras(noise_max=4000.0, noise_min=1000.0).times(VP(), 5)
