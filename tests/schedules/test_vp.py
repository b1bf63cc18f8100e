"""VP against numerical quadrature of its own beta(t)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from undiffuse.errors import UndiffuseError
from undiffuse.schedules import VP


@given(low=st.floats(0, 5), more=st.floats(0.01, 30), s=st.floats(0, 1), t=st.floats(0, 1))
@settings(max_examples=100)
def test_the_one_step_factor_is_exp_of_minus_the_integral_of_beta(
    low: float, more: float, s: float, t: float
) -> None:
    schedule = VP(low, low + more)
    area, _ = quad(lambda u: float(schedule.beta(u)), s, t)
    factor = (schedule.alpha(t) / schedule.alpha(s)) ** 2
    assert float(factor) == pytest.approx(math.exp(-area), rel=1e-11)


@pytest.mark.parametrize("steps", [1, 7, 50])
def test_alpha_k_and_alpha_bar_of_the_lectures(steps: int) -> None:
    schedule, alpha_bar = VP(), 1.0
    for k in range(1, steps + 1):
        area, _ = quad(lambda u: float(schedule.beta(u)), (k - 1) / steps, k / steps)
        alpha_bar *= math.exp(-area)
        assert float(schedule.alpha(k / steps)) ** 2 == pytest.approx(alpha_bar, rel=1e-11)
        assert float(schedule.sigma(k / steps)) ** 2 == pytest.approx(1 - alpha_bar, rel=1e-11)


def test_the_ends_are_exact() -> None:
    for schedule in (VP(), VP(0, 3), VP(2, 2)):
        assert schedule.alpha(0.0) == 1
        assert schedule.sigma(0.0) == 0
    assert float(VP().sigma(1e-18)) == pytest.approx(math.sqrt(1e-19), rel=1e-12)  # sqrt(0.1 t)


def test_a_constant_beta_is_exponential_decay() -> None:
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(VP(3, 3).alpha(t), torch.exp(-1.5 * t), rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    "options",
    [(-0.1, 20), (5, 4), (0, 0), (math.nan, 1), (0.1, math.inf), ("a", 1), (True, 2)],
)
def test_impossible_options_are_refused(options: tuple[float, float]) -> None:
    with pytest.raises(UndiffuseError, match="VP: beta_"):
        VP(*options)
