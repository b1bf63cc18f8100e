"""Distributions of t: their densities, what they are uniform or normal in, what they learn."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor

from undiffuse import catalogue, noise
from undiffuse.errors import UndiffuseError
from undiffuse.objectives.times import (
    Importance,
    Integral,
    LogitNormal,
    LogNormal,
    Uniform,
    UniformLogSNR,
)
from undiffuse.objectives.times.base import Times, log_snr_ends
from undiffuse.schedules import EDM, VP, Cosine, Flow
from undiffuse.schedules.base import Schedule

N = 20000
MIDDLES = (torch.arange(N, dtype=torch.float64) + 0.5) / N
LEARNED = (4.0, 0.25, 1.0, 9.0, 0.0625)
EVERY = [
    Uniform(),
    LogNormal(0.0, 0.8),
    LogitNormal(0.3, 0.8),
    UniformLogSNR(0.05, 20.0),
    Importance(5, squares=LEARNED),
    Integral(LogNormal(0.0, 0.8)),
]


@pytest.mark.parametrize("times", EVERY, ids=lambda times: times.name)
def test_the_density_is_that_of_the_times(times: Times, schedule: Schedule) -> None:
    """Its integral between two times is the share of times between them."""
    t = times.times(MIDDLES, schedule)
    assert t.dtype == torch.float64
    assert 0 <= float(t.min()) <= float(t.max()) <= 1
    for low, high in ((0.31, 0.57), (0.57, 0.83)):
        grid = low + (high - low) * MIDDLES
        chance = float(times.density(grid, schedule).mean()) * (high - low)
        share = float(((t > low) & (t <= high)).double().mean())
        assert chance == pytest.approx(share, abs=2e-3)


@pytest.mark.parametrize("name", catalogue.names("objectives.times"))
def test_every_distribution_has_a_measure_a_range_and_a_description(
    name: str, schedule: Schedule
) -> None:
    times: Times = catalogue.build(name, "objectives.times")
    assert catalogue.build(json.loads(json.dumps(catalogue.describe(times)))) == times
    t = times.times(MIDDLES[::50], schedule)
    inner = t[(t > 0) & (t < 1)]
    measured = times.density(inner, schedule) * times.correction(inner, schedule)
    torch.testing.assert_close(times.measure(inner, schedule), measured, rtol=1e-9, atol=1e-12)
    low, high = times.log_snr_range(schedule)
    assert float(schedule.log_snr(1.0)) <= low < high <= float(schedule.log_snr(0.0))
    assert times.updated(MIDDLES[:4], torch.ones(4), schedule).name == times.name


def test_logit_normal_is_normal_in_the_logit() -> None:
    """Esser et al. 2024."""
    times = LogitNormal(0.4, 0.9)
    t = times.times(MIDDLES, Flow())
    assert stats.kstest(torch.logit(t).numpy(), stats.norm(0.4, 0.9).cdf).statistic < 1e-4
    at = torch.tensor([0.1, 0.5, 0.8], dtype=torch.float64)
    z = (at / (1 - at)).log() - 0.4
    printed = 1 / (0.9 * math.sqrt(2 * math.pi)) / (at * (1 - at)) * torch.exp(-(z**2) / 2 / 0.9**2)
    torch.testing.assert_close(times.density(at, Flow()), printed, rtol=1e-12, atol=0)
    same = LogNormal(0.4, 0.9)  # of sigma / alpha, which is t / (1 - t)
    torch.testing.assert_close(t, same.times(MIDDLES, Flow()), rtol=1e-9, atol=0)
    torch.testing.assert_close(times.density(at, Flow()), same.density(at, Flow()))
    assert times.log_snr_range(Flow()) == pytest.approx(same.log_snr_range(Flow()))


def test_uniform_log_snr_is_uniform_between_the_nearer_ends(schedule: Schedule) -> None:
    times = UniformLogSNR(0.1, 10.0)
    low, high = times.log_snr_range(schedule)
    log_snr = schedule.log_snr(times.times(MIDDLES, schedule)).sort().values
    torch.testing.assert_close(log_snr, low + (high - low) * MIDDLES, rtol=0, atol=1e-6)
    assert low == max(float(schedule.log_snr(1.0)), -2 * math.log(10))


def test_ends_are_cut() -> None:
    assert log_snr_ends(Flow()) == pytest.approx((-2 * math.log(160), -2 * math.log(0.002)))
    assert log_snr_ends(EDM(0.01, 5)) == pytest.approx((-2 * math.log(5), -2 * math.log(0.01)))


# ------------------------------------------------------------------ importance


def test_before_losses_are_seen_times_are_uniform() -> None:
    u = noise.uniform(0, "time", 64)
    for times in (Importance(), Importance(3, squares=(1.0, 0.0, 1.0))):
        torch.testing.assert_close(times.times(u, VP()), 1 - u, rtol=1e-12, atol=1e-15)
        assert bool((times.correction(1 - u, VP()) == 1).all())


@pytest.mark.parametrize("steps", [None, 4, 5, 17])
def test_importance_leaves_the_expectation_as_it_is(steps: int | None) -> None:
    times, uniform = Importance(5, steps, share=0.2, squares=LEARNED), Uniform(steps)

    def f(t: Tensor) -> Tensor:
        return (3 * t).exp() + (9 * t).cos()

    t = times.times(MIDDLES, VP())
    if steps is not None:
        assert set((t * steps).round().tolist()) == set(range(1, steps + 1))
    mine = float((times.correction(t, VP()) * f(t)).mean())
    assert mine == pytest.approx(float(f(uniform.times(MIDDLES, VP())).mean()), rel=1e-3)
    assert float(times.correction(t, VP()).max()) <= 1 / 0.2


def test_the_learned_density_is_the_root_mean_square_and_scatters_least() -> None:
    """Where the loss is constant in each cell, loss / p is the same everywhere: no variance."""
    levels = torch.tensor([1.0, 8.0, 3.0, 0.5], dtype=torch.float64)

    def loss(t: Tensor) -> Tensor:
        return levels[(t * 4).ceil().long().clamp(1) - 1]

    times = Importance(4, share=1e-9)
    for step in range(30):
        u = noise.uniform(0, "time", 64, step)
        t = times.times(u, VP())
        times = times.updated(u, times.correction(t, VP()) * loss(t), VP())
    torch.testing.assert_close(times.weights, levels / levels.mean(), rtol=1e-6, atol=0)
    t = times.times(MIDDLES, VP())
    corrected = times.correction(t, VP()) * loss(t)
    torch.testing.assert_close(corrected, levels.mean().expand(N), rtol=1e-6, atol=0)


def test_a_cell_forgets() -> None:
    times = Importance(1, history=10.0)
    u = torch.full((1,), 0.5, dtype=torch.float64)
    times = times.updated(u, torch.tensor([3.0]), VP())
    assert times.squares == (9.0,)
    for _ in range(100):
        times = times.updated(u, torch.tensor([1.0]), VP())
    assert times.squares[0] == pytest.approx(1, abs=8 * 0.9**100 * 1.01)


def test_importance_within_the_bound_learns_the_bound_s_own_integrand() -> None:
    u = noise.uniform(0, "time", 4096)
    times: Times = Integral(Importance(8), 0.05, 20.0)
    t = times.times(u, Cosine())
    times = times.updated(u, times.correction(t, Cosine()), Cosine())  # a noise error of 1
    assert isinstance(times, Integral)
    drawn = times.drawn
    assert isinstance(drawn, Importance)
    weight = drawn.weights.tolist()
    assert weight[0] > weight[3] < weight[7]  # |dlog_snr/dt| is least in the middle
    mean = float(times.correction(times.times(MIDDLES, Cosine()), Cosine()).mean())
    assert mean == pytest.approx(math.log(400), rel=2e-3)  # half of the log-SNRs' range


# ------------------------------------------------------------------ low discrepancy


@pytest.mark.parametrize("count", [1, 2, 7, 64, 1000])
def test_low_discrepancy_numbers_are_at_equal_distances(count: int) -> None:
    u = noise.low_discrepancy(5, "t", count, step=3)
    assert u.dtype == torch.float64
    assert u.shape == (count,)
    assert 0 <= float(u.min()) <= float(u.max()) < 1
    torch.testing.assert_close(
        ((u - u[0]) % 1 * count).round() / count, torch.arange(count).double() / count
    )
    assert torch.equal(u, noise.low_discrepancy(5, "t", count, step=3))
    assert not torch.equal(u, noise.low_discrepancy(5, "t", count, step=4))


def test_low_discrepancy_numbers_are_uniform_one_by_one() -> None:
    many = torch.stack([noise.low_discrepancy(0, "t", 4, step) for step in range(2000)])
    for i in range(4):
        assert stats.kstest(many[:, i].numpy(), "uniform").pvalue > 1e-3


# ------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LogitNormal(std=0.0), "LogitNormal: std"),
        (lambda: LogitNormal(mean=math.inf), "LogitNormal: mean"),
        (lambda: UniformLogSNR(1.0, 1.0), "UniformLogSNR: noise_max must be larger"),
        (lambda: UniformLogSNR(0.0), "UniformLogSNR: noise_min"),
        (lambda: UniformLogSNR(200.0, 300.0).times(MIDDLES, EDM()), "no noise level in common"),
        (lambda: Integral(Uniform(), 2.0, 1.0), "Integral: noise_max"),
        (lambda: Importance(0), "Importance: cells"),
        (lambda: Importance(share=0.0), "Importance: share"),
        (lambda: Importance(history=0.5), "Importance: history"),
        (lambda: Importance(4, squares=(1.0,)), "Importance: squares"),
        (lambda: Importance(1, squares=(-1.0,)), "Importance: squares"),
        (lambda: Importance(steps=0), "Importance: steps"),
    ],
)
def test_impossible_options_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UndiffuseError, match=message):
        make()
