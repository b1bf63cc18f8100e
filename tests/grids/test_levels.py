"""Noise levels that are given one by one, and those of the default sampler."""

from __future__ import annotations

import math

import pytest
import torch

import undiffuse as ud
from undiffuse.errors import UndiffuseError
from undiffuse.grids.levels import Levels
from undiffuse.grids.universal import Universal, noise_levels, table
from undiffuse.schedules.base import Schedule


def ratios(schedule: Schedule, times: torch.Tensor) -> list[float]:
    return [float(schedule.sigma(t) / schedule.alpha(t)) for t in times]


@pytest.mark.parametrize("schedule", [ud.schedules.VP(), ud.schedules.Flow(), ud.schedules.EDM()])
def test_the_levels_are_the_levels(schedule: Schedule) -> None:
    times = Levels((9.0, 1.0, 0.1), noise_max=30.0).times(schedule, 4)
    assert ratios(schedule, times)[:4] == pytest.approx([30, 9, 1, 0.1])
    clean = float(schedule.sigma(0.0)) == 0
    assert len(times) == 4 + clean
    assert not clean or float(times[-1]) == 0


@pytest.mark.parametrize(
    ("levels", "match"),
    [
        ((1.0, 2.0), "less than the one before"),
        ((1.0, 1.0), "less than the one before"),
        ((1.0, 0.0), "positive"),
        ((1.0, math.nan), "positive"),
        ((90.0, 1.0), "noise_max must be a number above"),
    ],
)
def test_levels_that_cannot_be_are_refused(levels: tuple[float, ...], match: str) -> None:
    with pytest.raises(UndiffuseError, match=match):
        Levels(levels)


def test_another_number_of_steps_is_refused() -> None:
    with pytest.raises(UndiffuseError, match="2 noise levels make 3 steps, not 5"):
        Levels((1.0, 0.1)).times(ud.schedules.VP(), 5)


def test_a_schedule_without_the_levels_is_refused() -> None:
    with pytest.raises(UndiffuseError, match="do not lie within"):
        Levels((9.0, 0.001)).times(ud.schedules.EDM(sigma_min=0.01), 3)


def test_the_default_falls_through_its_table() -> None:
    """Every number of steps up to beyond the table: falling levels, the start at 80."""
    schedule = ud.schedules.VP()
    for steps in (*range(1, 56), 80, 200, 1000):
        times = Universal().times(schedule, steps)
        levels = ratios(schedule, times[:-1])
        assert len(levels) == steps
        assert levels[0] == pytest.approx(80)
        assert levels[1:] == pytest.approx(noise_levels(steps), rel=1e-6)
        assert bool((times.diff() < 0).all())
    assert {5, 10, 20, 50} <= set(table())


def test_where_levels_are_missing_steps_are_equal_in_log_snr() -> None:
    schedule = ud.schedules.Truncated(ud.schedules.VP(), t_max=0.3)
    equal = ud.grids.LogSNR().times(schedule, 20)
    assert torch.equal(Universal().times(schedule, 20), equal)


def test_the_start_may_be_higher() -> None:
    schedule = ud.schedules.VP()
    times = Universal(noise_max=150.0).times(schedule, 10)
    assert ratios(schedule, times)[0] == pytest.approx(150)
    assert torch.equal(times[1:], Universal().times(schedule, 10)[1:])
