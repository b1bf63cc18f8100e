"""The contract of every schedule in the catalogue."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from undiffuse import catalogue
from undiffuse.schedules.base import Schedule

NEAR = st.floats(1e-12, 1e-3)
TIMES = st.one_of(st.floats(0, 1), NEAR, NEAR.map(lambda gap: 1 - gap))


def double(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_any_shape_and_dtype_of_time_gives_float64_of_that_shape(schedule: Schedule) -> None:
    generator = torch.Generator().manual_seed(0)
    for function in (
        schedule.alpha,
        schedule.sigma,
        schedule.log_snr,
        schedule.t_from_log_snr,
        schedule.alpha_rate,
        schedule.sigma_rate,
        schedule.log_snr_rate,
    ):
        for shape in ((), (1,), (0,), (5,), (2, 3, 1)):
            t = 0.2 + 0.5 * torch.rand(shape, generator=generator)
            value = function(t)
            assert value.shape == shape
            assert value.dtype == torch.float64
            assert bool(value.isfinite().all())
            torch.testing.assert_close(value, function(t.double()), rtol=0, atol=0)


def test_a_number_is_a_time(schedule: Schedule) -> None:
    assert schedule.alpha(0.1) == schedule.alpha(double([0.1]))[0]  # not the float32 next to 0.1
    assert schedule.t_from_log_snr(0.0).shape == ()


@given(t=TIMES)
@settings(max_examples=50)
def test_alpha_and_sigma_are_factors_and_log_snr_is_theirs(schedule: Schedule, t: float) -> None:
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    assert 0 <= alpha <= 1
    assert 0 <= sigma < math.inf
    assert alpha + sigma > 0
    if min(alpha, sigma) > 1e-150:
        expected = 2 * (math.log(alpha) - math.log(sigma))
        assert float(schedule.log_snr(t)) == pytest.approx(expected, rel=1e-7, abs=1e-7)


def test_time_0_is_data_and_log_snr_falls_strictly(schedule: Schedule) -> None:
    log_snr = schedule.log_snr(torch.linspace(0, 1, 4001, dtype=torch.float64))
    assert bool((log_snr[1:] < log_snr[:-1]).all())
    assert bool(log_snr[1:-1].isfinite().all())
    if schedule.sigma(0.0) == 0:
        assert schedule.alpha(0.0) == 1
        assert log_snr[0] == math.inf
    if schedule.alpha(1.0) == 0:
        assert log_snr[-1] == -math.inf


@given(t=TIMES)
@settings(max_examples=100)
def test_t_from_log_snr_inverts_log_snr(schedule: Schedule, t: float) -> None:
    assert float(schedule.t_from_log_snr(schedule.log_snr(t))) == pytest.approx(t, rel=0, abs=1e-9)


@given(where=st.floats(0, 1))
@settings(max_examples=50)
def test_log_snr_inverts_t_from_log_snr(schedule: Schedule, where: float) -> None:
    low, high = float(schedule.log_snr(1.0)), float(schedule.log_snr(0.0))
    low, high = max(low, -12.0), min(high, 12.0)
    log_snr = low + where * (high - low)
    assert float(schedule.log_snr(schedule.t_from_log_snr(log_snr))) == pytest.approx(
        log_snr, rel=1e-9, abs=1e-9
    )


def test_log_snrs_outside_the_range_give_the_nearer_end(schedule: Schedule) -> None:
    low, high = float(schedule.log_snr(1.0)), float(schedule.log_snr(0.0))
    beyond = double([math.inf, 1e5, high, high + 1, low, low - 1, -1e5, -math.inf])
    ends = double([0, 0, 0, 0, 1, 1, 1, 1])
    torch.testing.assert_close(schedule.t_from_log_snr(beyond), ends, rtol=0, atol=1e-9)


def test_the_inverse_by_bisection_agrees(schedule: Schedule) -> None:
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    bisected = Schedule.t_from_log_snr(schedule, schedule.log_snr(t))
    torch.testing.assert_close(bisected, t, rtol=0, atol=1e-9)


def test_rates_are_finite_differences(schedule: Schedule) -> None:
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64) + 0.00037  # between steps of 1 / 1000
    for function, rate in (
        (schedule.alpha, schedule.alpha_rate),
        (schedule.sigma, schedule.sigma_rate),
        (schedule.log_snr, schedule.log_snr_rate),
    ):
        difference = (function(t + 1e-6) - function(t - 1e-6)) / 2e-6
        torch.testing.assert_close(rate(t), difference, rtol=1e-6, atol=1e-8)
    assert bool((schedule.log_snr_rate(t) < 0).all())


def test_schedules_are_frozen_hashable_values(schedule: Schedule) -> None:
    for field in dataclasses.fields(schedule):  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(schedule, field.name, 0.5)
    assert hash(schedule) == hash(dataclasses.replace(schedule))  # type: ignore[type-var]
    assert len({schedule, dataclasses.replace(schedule)}) == 1  # type: ignore[type-var]
    assert len(repr(schedule)) < 100


def test_schedules_survive_json(schedule: Schedule) -> None:
    written = json.loads(json.dumps(catalogue.describe(schedule)))
    assert written["kind"] == f"schedules.{schedule.name}"
    assert catalogue.build(written) == schedule
    assert hash(catalogue.build(written)) == hash(schedule)
