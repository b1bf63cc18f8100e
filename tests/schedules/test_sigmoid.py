"""Sigmoid against the function of Jabri et al. 2022."""

from __future__ import annotations

import math

import pytest
import torch

from undiffuse.errors import UndiffuseError
from undiffuse.schedules import Sigmoid

OPTIONS = [(-3, 3, 1.0), (-3, 3, 0.9), (-3, 3, 1.1), (0, 3, 0.3), (0, 3, 0.7), (-1, 0.5, 2.0)]


@pytest.mark.parametrize(("start", "end", "tau"), OPTIONS)
def test_it_is_the_function_of_the_paper(start: float, end: float, tau: float) -> None:
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    v_start, v_end = (1 / (1 + math.exp(-u / tau)) for u in (start, end))
    printed = (v_end - torch.sigmoid((t * (end - start) + start) / tau)) / (v_end - v_start)
    schedule = Sigmoid(start, end, tau)
    torch.testing.assert_close(schedule.alpha(t) ** 2, printed, rtol=0, atol=1e-13)
    torch.testing.assert_close(schedule.sigma(t) ** 2, 1 - printed, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("start", "end", "tau"), [*OPTIONS, (-3, 3, 0.001), (-3, 3, 1e6)])
def test_the_ends_are_exact_and_accurate(start: float, end: float, tau: float) -> None:
    schedule = Sigmoid(start, end, tau)
    assert schedule.alpha(torch.tensor([0.0, 1.0])).tolist() == [1, 0]
    assert schedule.sigma(torch.tensor([0.0, 1.0])).tolist() == [0, 1]


@pytest.mark.parametrize(("start", "end", "tau"), OPTIONS)
def test_both_tails_have_the_slope_of_the_logistic_curve(
    start: float, end: float, tau: float
) -> None:
    schedule, gap = Sigmoid(start, end, tau), 2.0**-40
    v = [1 / (1 + math.exp(-u / tau)) for u in (start, end)]
    slopes = [u * (1 - u) * (end - start) / tau / (v[1] - v[0]) for u in v]
    assert float(schedule.sigma(gap)) ** 2 == pytest.approx(slopes[0] * gap, rel=1e-9)
    assert float(schedule.alpha(1 - gap)) ** 2 == pytest.approx(slopes[1] * gap, rel=1e-9)


def test_a_large_tau_is_a_straight_line() -> None:
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(Sigmoid(tau=1e5).alpha(t) ** 2, 1 - t, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "options", [(3, -3), (1, 1), (-3, 3, 0), (-3, 3, -1), (math.nan, 1), (0, math.inf), (0, "a")]
)
def test_impossible_options_are_refused(options: tuple[float, ...]) -> None:
    with pytest.raises(UndiffuseError, match="Sigmoid: "):
        Sigmoid(*options)
