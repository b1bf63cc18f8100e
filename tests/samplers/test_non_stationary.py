"""Multistep rules with weights of their own for each step, and the default among them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.denoiser import Denoiser
from undiffuse.errors import UndiffuseError
from undiffuse.grids.universal import table
from undiffuse.samplers.loop import DEFAULT
from undiffuse.samplers.non_stationary import NonStationary, to_zero
from undiffuse.samplers.universal import Universal, rule
from undiffuse.schedules.base import Schedule

SCHEDULES = [ud.schedules.VP(), ud.schedules.Cosine(), ud.schedules.Flow(), ud.schedules.EDM()]
GEOMETRIC = tuple(float(f"{v:.6g}") for v in np.geomspace(80, 0.01, 12)[1:])


def mixture(schedule: Schedule, std: float = 0.2) -> Denoiser:
    angles = torch.arange(8, dtype=torch.float64) * (2 * math.pi / 8)
    return ud.exact.GaussianMixture(
        torch.stack([angles.cos(), angles.sin()], 1), None, schedule, std=std
    )


def error(oracle: Denoiser, sampler: object, steps: int, grid: object = None) -> float:
    """The median error of 64 samples against 400 steps of order 4."""
    fine = ud.grids.LogSNR(noise_min=1e-3)
    truth = ud.sample(oracle, (64, 2), "exponential-adams(order=4)", 400, fine, seed=3)
    x = ud.sample(oracle, (64, 2), sampler, steps, grid, seed=3)
    return float((x - truth).square().mean(1).sqrt().median())


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.name)
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_written_as_weights_adams_is_itself(schedule: Schedule, order: int) -> None:
    """Down to the last level, where the last step of the written one knows more."""
    written = NonStationary.adams(GEOMETRIC, order)
    oracle = mixture(schedule)
    times = written.grid.times(schedule, 12)[:12]  # type: ignore[union-attr]
    x_T = 3.0 * ud.noise.Stream(0, (0, 1, 2)).draw((2,), step=0).double()
    named = f"exponential-adams(order={order})"
    a, b = (
        ud.sample(oracle, (3, 2), sampler, x_T=x_T, times=times, last_denoise=False)
        for sampler in (written, named)
    )
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_the_mean_of_a_parabola() -> None:
    knots = [0.5, 1.2, 3.0]
    values = [2 * v**2 - v + 0.3 for v in knots]
    mean = sum(w * f for w, f in zip(to_zero(knots), values, strict=True))
    assert mean == pytest.approx((2 / 3 * 0.5**3 - 0.5**2 / 2 + 0.3 * 0.5) / 0.5)


def test_weights_are_used_on_their_own_steps_only() -> None:
    """A rule whose weights are nonsense does as Adams elsewhere, and not so on its own levels."""
    wild = NonStationary((5.0, 1.0, 0.2), ((0.4,), (0.3, 0.3), (-2.0,)))
    oracle = mixture(ud.schedules.VP())
    elsewhere = ud.grids.LogSNR(noise_min=0.02)
    assert torch.equal(
        ud.sample(oracle, (4, 2), wild, 9, elsewhere),
        ud.sample(oracle, (4, 2), "exponential-adams(order=4)", 9, elsewhere),
    )
    assert error(oracle, wild, 4) > 3 * error(oracle, NonStationary.adams((5.0, 1.0, 0.2)), 4)


def test_data_of_one_point_is_reached_whatever_the_weights() -> None:
    wild = NonStationary((5.0, 1.0, 0.2), ((0.4,), (0.3, 0.3), (-2.0, 1.0, 0.7)))
    for schedule in SCHEDULES:
        point = ud.exact.FiniteSet(torch.tensor([[0.3, -0.8]]), schedule)
        x = ud.sample(point, (3, 2), wild, steps=4)
        torch.testing.assert_close(x, torch.tensor([[0.3, -0.8]]).expand(3, 2))


@pytest.mark.parametrize(
    ("levels", "weights", "match"),
    [
        ((2.0, 1.0), ((0.1,),), "a row of numbers for each noise level"),
        ((2.0,), ((0.1, 0.2),), "with at most i \\+ 1 of them"),
        ((2.0,), ((math.nan,),), "a row of numbers"),
        ((1.0, 2.0), ((), ()), "noise_levels must be"),
    ],
)
def test_what_is_no_rule_is_refused(levels: tuple, weights: tuple, match: str) -> None:
    with pytest.raises(UndiffuseError, match=match):
        NonStationary(levels, weights)


def test_another_number_of_steps_is_refused() -> None:
    with pytest.raises(UndiffuseError, match="2 noise levels make 3 steps, not 4"):
        ud.sample(mixture(ud.schedules.VP()), (1, 2), NonStationary((2.0, 0.5), ((), ())), steps=4)


# ------------------------------------------------------------------ the default


def test_the_default_is_universal() -> None:
    oracle = mixture(ud.schedules.VP())
    assert DEFAULT == "universal"
    assert torch.equal(ud.sample(oracle, (4, 2)), ud.sample(oracle, (4, 2), Universal(), steps=20))


@pytest.mark.parametrize("std", [0.05, 0.2])
@pytest.mark.parametrize("steps", [5, 8, 10, 13, 15, 17, 20, 25, 30, 40, 50])
def test_the_default_leaves_less_than_adams(steps: int, std: float) -> None:
    """On a mixture that its weights never saw, in and between the rows of its table."""
    oracle = mixture(ud.schedules.VP(), std)
    own = error(oracle, "universal", steps)
    assert own < min(error(oracle, f"exponential-adams(order={p})", steps) for p in (3, 4))


def test_more_steps_leave_less() -> None:
    oracle = mixture(ud.schedules.Flow())
    errors = [error(oracle, "universal", steps) for steps in (4, 8, 16, 32, 100)]
    assert all(b < a / 2 for a, b in itertools.pairwise(errors))


@pytest.mark.parametrize("steps", sorted(table()))
def test_the_rows_of_the_table_are_rules(steps: int) -> None:
    own = rule(steps)
    assert len(own.noise_levels) == len(own.weights) == steps - 1
    assert all(abs(w) < 6 for row in own.weights for w in row)  # Adams of order 4 has 2.5


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.name)
def test_the_schedule_is_a_change_of_variables(schedule: Schedule) -> None:
    """The weights are found under every schedule, at its end with noise as at its end without."""

    def x_0(under: Schedule) -> Tensor:
        first = ud.grids.Universal().times(under, 10)[0]
        ratio = under.sigma(first) / under.alpha(first)
        z = ud.noise.Stream(0, tuple(range(8))).draw((2,), step=0).double()
        x_T = under.alpha(first) * ratio * z
        return ud.sample(mixture(under), (8, 2), "universal", 10, x_T=x_T)

    torch.testing.assert_close(x_0(schedule), x_0(ud.schedules.VP()), rtol=0, atol=1e-9)
