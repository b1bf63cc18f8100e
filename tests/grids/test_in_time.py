"""Grids that are formulas in t, and the cosine grid: exact values, and what they are limits of."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from undiffuse import catalogue
from undiffuse.errors import UndiffuseError
from undiffuse.grids import Beta, Cosine, Quadratic, Uniform
from undiffuse.schedules import EDM, VP, Discrete, Flow, Truncated
from undiffuse.schedules import Cosine as CosineSchedule
from undiffuse.schedules.base import Schedule

EXAMPLES = [VP(), CosineSchedule(), Flow(), EDM(), Discrete.linear(100), Truncated(VP(), 0.01, 0.9)]
under = pytest.mark.parametrize("schedule", EXAMPLES, ids=lambda s: s.name)


def angle(schedule: Schedule, times: torch.Tensor) -> torch.Tensor:
    """atan(sigma / alpha)."""
    return torch.atan2(schedule.sigma(times), schedule.alpha(times))


def test_quadratic_is_the_paper_s_list_without_its_rounding() -> None:
    """Song et al. 2021: tau_i = floor(c i^2), here for a chain of 1000 steps and 10 of them."""
    times = Quadratic().times(Discrete.linear(1000), 10)
    assert times.tolist() == [pytest.approx((k / 10) ** 2, abs=1e-15) for k in range(10, -1, -1)]
    paper = np.floor(1000 / 10**2 * np.arange(10, 0, -1) ** 2)
    assert np.floor(times[:-1].numpy() * 1000 + 1e-9).tolist() == paper.tolist()


@under
def test_cosine_has_equal_angles(schedule: Schedule) -> None:
    n = 12
    times = Cosine().times(schedule, n)
    gaps = angle(schedule, times).diff()
    torch.testing.assert_close(gaps, gaps.mean().expand_as(gaps), rtol=1e-6, atol=1e-9)
    assert float(times[0]) == 1.0
    assert float(times[-1]) == 0.0


def test_cosine_has_the_noise_levels_of_the_cosine_schedule() -> None:
    """sigma / alpha = tan(pi u / 2) at u = 1 - i / n; on that schedule it is the uniform grid."""
    times = Cosine().times(Flow(), 8)
    ratio = Flow().sigma(times) / Flow().alpha(times)
    expected = torch.tan(math.pi / 2 * Uniform().times(Flow(), 8))
    torch.testing.assert_close(ratio[1:], expected[1:], rtol=1e-9, atol=1e-12)
    both = Cosine().times(CosineSchedule(), 8), Uniform().times(CosineSchedule(), 8)
    torch.testing.assert_close(*both, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("a", "b"), [(0.6, 0.6), (1.0, 1.0), (0.5, 2.0), (5.0, 3.0)])
def test_beta_has_the_quantiles_of_scipy(a: float, b: float) -> None:
    """As the paper's code and the user interfaces that offer it compute them."""
    times = Beta(a, b).times(VP(), 20)
    expected = stats.beta.ppf(1 - np.linspace(0, 1, 21), a, b)
    np.testing.assert_allclose(times.numpy(), expected, rtol=1e-9, atol=1e-14)


def test_beta_of_one_and_one_is_uniform() -> None:
    for schedule in (VP(), EDM()):
        both = Beta(1, 1).times(schedule, 9), Uniform().times(schedule, 9)
        torch.testing.assert_close(*both, rtol=0, atol=1e-12)


def test_beta_is_dense_at_both_ends_and_symmetric() -> None:
    times = Beta().times(VP(), 10)
    torch.testing.assert_close(times + times.flip(0), torch.ones_like(times))
    gaps = -times.diff()
    assert float(gaps[0]) < 0.6 * float(gaps[4])


def test_impossible_options_are_refused() -> None:
    for value in (0, -1, 101, math.nan, True, "a"):
        with pytest.raises(UndiffuseError, match=r"Beta: a must be in \(0, 100\]"):
            Beta(a=value)  # type: ignore[arg-type]
        with pytest.raises(UndiffuseError, match=r"Beta: b must be in \(0, 100\]"):
            Beta(b=value)  # type: ignore[arg-type]
    with pytest.raises(UndiffuseError, match="two of the times of 500 steps are the same number"):
        Beta(0.01, 0.01).times(VP(), 500)
    assert catalogue.parse("grids", "beta(a=2, b=0.5)") == Beta(2, 0.5)
