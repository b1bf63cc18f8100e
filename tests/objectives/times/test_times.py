"""The distributions of t: their quantiles, and the log-SNRs that training sees."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from undiffuse import catalogue, noise
from undiffuse.errors import UndiffuseError
from undiffuse.objectives.times.base import Times
from undiffuse.objectives.times.log_normal import LogNormal
from undiffuse.objectives.times.uniform import Uniform
from undiffuse.schedules.base import Schedule
from undiffuse.schedules.flow import Flow

LARGEST = -2 * math.log(160), -2 * math.log(0.002)


@pytest.mark.parametrize("steps", [1, 7, 100, 1000])
def test_uniform_hits_every_step_equally(steps: int) -> None:
    u = noise.uniform(0, "time", 3 * steps)
    t = Uniform(steps).times(u, Flow())
    values, counts = t.unique(return_counts=True)
    expected = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    assert torch.equal(values, expected)
    assert counts.tolist() == [3] * steps


@given(
    u=st.floats(0, 1, exclude_max=True),
    steps=st.one_of(st.none(), st.integers(1, 10_000)),
)
def test_uniform_stays_in_the_half_open_interval(u: float, steps: int | None) -> None:
    t = Uniform(steps).times(torch.tensor([u], dtype=torch.float64), Flow())
    assert 0 < float(t) <= 1


@pytest.mark.parametrize(("mean", "std"), [(-1.2, 1.2), (0.0, 1.0), (-0.4, 2.0)])
def test_log_normal_is_normal_in_log_sigma_under_every_schedule(
    schedule: Schedule, mean: float, std: float
) -> None:
    u = noise.uniform(0, "time", 2000)
    t = LogNormal(mean, std).times(u, schedule)
    assert t.dtype == torch.float64
    assert bool(((t >= 0) & (t <= 1)).all())
    low, high = (-float(schedule.log_snr(end)) / 2 for end in (0.0, 1.0))
    drawn = (-schedule.log_snr(t) / 2).sort().values
    normal = mean + std * torch.distributions.Normal(0.0, 1.0).icdf(u.sort().values)
    torch.testing.assert_close(drawn, normal.clamp(low, high), rtol=0, atol=1e-9)
    if low < mean - 4 * std and mean + 4 * std < high:  # nothing was cut
        assert float(drawn.mean()) == pytest.approx(mean, abs=0.01)
        assert float(drawn.std()) == pytest.approx(std, rel=0.01)


def test_the_range_contains_the_draws(schedule: Schedule, times: Times) -> None:
    """As far as they matter: beyond sigma/alpha = 0.002 and 160 a network is told these."""
    u = noise.uniform(0, "time", 20_000)
    drawn = schedule.log_snr(times.times(u, schedule)).clamp(*LARGEST)
    low, high = times.log_snr_range(schedule)
    assert low < high
    assert low <= float(drawn.min()) + 1e-9
    assert float(drawn.max()) <= high + 1e-9


def test_no_time_is_0_where_there_is_no_noise(schedule: Schedule, times: Times) -> None:
    t = times.times(noise.uniform(0, "time", 1000), schedule)
    assert bool((schedule.sigma(t) > 0).all())
    assert bool((t <= 1).all())


def test_the_range_of_uniform_times_is_the_schedule_s_as_far_as_it_matters() -> None:
    low, high = Uniform().log_snr_range(Flow())  # whose own range is the whole line
    assert (low, high) == pytest.approx(LARGEST)
    discrete = catalogue.parse("schedules", "discrete.linear")
    assert Uniform().log_snr_range(discrete)[0] == pytest.approx(float(discrete.log_snr(1.0)))


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("uniform(steps=0)", "steps"),
        ("log-normal(std=0)", "std"),
        ("log-normal(std=NaN)", "std"),
        ("log-normal(mean=Infinity)", "mean"),
    ],
)
def test_bad_options_are_named(text: str, field: str) -> None:
    with pytest.raises(UndiffuseError, match=f"{field} must be"):
        catalogue.parse("objectives.times", text)
