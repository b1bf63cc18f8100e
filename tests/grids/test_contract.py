"""What every grid must do under every schedule, for any number of steps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from undiffuse import catalogue
from undiffuse.errors import UndiffuseError
from undiffuse.grids.base import Grid, intervals
from undiffuse.schedules.base import Schedule

WITH_OPTIONS = {  # the others have defaults
    "discrete": "discrete.linear(steps=100)",
    "shifted": "shifted(schedule=cosine, shift=-1.4)",
    "tabulated": "tabulated(log_snrs=[12, 6, 2, -1, -5, -11])",
    "truncated": "truncated(schedule=vp, t_min=0.001)",
    "zero-terminal-snr": "zero-terminal-snr(schedule=discrete.linear)",
}
SCHEDULES = [
    catalogue.parse("schedules", WITH_OPTIONS.get(name, name))
    for name in catalogue.names("schedules")
]
ONE_NUMBER = {"levels"}  # made for one number of steps; tests/grids/test_levels.py
NAMES = [name for name in catalogue.names("grids") if name not in ONE_NUMBER]
GRIDS = [catalogue.parse("grids", name) for name in NAMES]
STARTS_LATE = {"leading"}  # by its convention, which is its fault
CHAINS = {"leading", "trailing", "linspace"}  # choose among the steps there are


@given(st.sampled_from(GRIDS), st.sampled_from(SCHEDULES), st.integers(1, 1500))
def test_times_fall_from_noise_to_data(grid: Grid, schedule: Schedule, steps: int) -> None:
    if grid.name in CHAINS:
        steps = min(steps, round(1 / schedule.first) if schedule.first else 1000)
    times = grid.times(schedule, steps)
    assert times.dtype == torch.float64
    assert times.shape == (intervals(schedule, steps) + 1,)
    assert bool((times.diff() < 0).all())
    assert 0 <= float(times[-1]) <= float(times[0]) <= 1
    if grid.name not in STARTS_LATE:  # the data is drowned
        assert float(schedule.sigma(times[0]) / schedule.alpha(times[0])) > 49
    if bool(schedule.sigma(0.0) == 0):
        assert float(times[-1]) == 0


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.name)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.name)
def test_one_step_is_one_evaluation(grid: Grid, schedule: Schedule) -> None:
    """The step to sigma = 0, or the denoising call alone."""
    times = grid.times(schedule, 1)
    assert len(times) == (2 if bool(schedule.sigma(0.0) == 0) else 1)
    assert float(times[0]) > 0.8 or grid.name in STARTS_LATE


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.name)
@pytest.mark.parametrize("steps", [0, -3, 2.5, float("nan"), float("inf")])
def test_impossible_steps_are_refused(grid: Grid, steps: int) -> None:
    with pytest.raises(UndiffuseError, match="steps must be a whole number, at least 1"):
        grid.times(SCHEDULES[0], steps)


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.name)
def test_grids_are_values(grid: Grid) -> None:
    assert catalogue.build(catalogue.describe(grid)) == grid
    assert hash(grid) == hash(catalogue.build(catalogue.describe(grid)))
