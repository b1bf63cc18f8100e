"""Tabulated: a schedule that is a list of log-SNRs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from undiffuse.errors import UndiffuseError
from undiffuse.schedules import VP, Cosine, Tabulated, Truncated

FALLS = st.lists(st.floats(0.01, 5), min_size=1, max_size=20)


@given(falls=FALLS, first=st.floats(-5, 12), t=st.floats(0, 1))
def test_log_snr_is_linear_between_the_values(falls: list[float], first: float, t: float) -> None:
    values = first - np.cumsum([0, *falls])
    schedule = Tabulated(tuple(values.tolist()))
    expected = np.interp(t * len(falls), np.arange(len(values)), values)
    assert float(schedule.log_snr(t)) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    alpha_2 = 1 / (1 + math.exp(-expected))
    assert float(schedule.alpha(t)) ** 2 == pytest.approx(alpha_2, rel=1e-11)
    assert float(schedule.t_from_log_snr(float(schedule.log_snr(t)))) == pytest.approx(t, abs=1e-11)


def test_a_fine_table_is_the_schedule_it_was_made_from() -> None:
    """Linear interpolation: four times closer with twice the knots."""
    whole = Truncated.to_log_snr(Cosine(), -5.0, 5.0)
    t, errors = torch.linspace(0, 1, 40009, dtype=torch.float64), []
    for knots in (200, 400, 800):
        values = whole.log_snr(torch.linspace(0, 1, knots + 1, dtype=torch.float64))
        table = Tabulated(tuple(values.tolist()))
        errors.append(float((table.log_snr(t) - whole.log_snr(t)).abs().max()))
    assert errors[-1] < 1e-3
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.2)


@pytest.mark.parametrize("values", [(), (1.0,), (1, 1), (0, 1), (1, math.nan), (math.inf, 0), "ba"])
def test_tables_that_do_not_fall_are_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(UndiffuseError, match="Tabulated: log_snrs must be at least two"):
        Tabulated(values)


def test_it_prints_short_and_compares_by_value() -> None:
    many = VP().log_snr(torch.linspace(0.01, 1, 1000, dtype=torch.float64)).tolist()
    assert repr(Tabulated(tuple(many))).startswith("Tabulated(<1000 log-SNRs from ")
    assert Tabulated(many) == Tabulated(tuple(many))  # type: ignore[arg-type]
