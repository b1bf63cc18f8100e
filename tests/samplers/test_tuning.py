"""Tuning: the unrolled rule is the rule, its derivatives are right, and fresh noise confirms it."""

from __future__ import annotations

import math

import pytest
import torch

import undiffuse as ud
from undiffuse import catalogue
from undiffuse.denoiser import Denoiser
from undiffuse.samplers.non_stationary import NonStationary, adams_weights
from undiffuse.samplers.tuning import (
    Parameters,
    Target,
    candidates,
    errors,
    fit,
    misfit,
    remembering,
    time_of_level,
    tune,
    unrolled,
)
from undiffuse.schedules.base import Schedule

LEVELS = (12.0, 3.0, 0.8, 0.2, 0.04)
NEAR = "log-snr(noise_max=80, noise_min=0.001)"


def ring(schedule: Schedule, std: float = 0.2) -> Denoiser:
    angles = torch.arange(8, dtype=torch.float64) * (2 * math.pi / 8)
    points = torch.stack([angles.cos(), angles.sin()], 1)
    return ud.exact.GaussianMixture(points, None, schedule, std=std)


def target(oracle: Denoiser, count: int, seed: int = 0) -> Target:
    """Noise at sigma/alpha = 80 and where 300 steps of order 4 take it."""
    t = oracle.schedule.t_from_log_snr(-2 * math.log(80))
    alpha = float(oracle.schedule.alpha(t))
    y = 80 * ud.noise.Stream(seed, tuple(range(count))).draw((2,), step=0).double()
    x_0 = ud.sample(oracle, y.shape, "exponential-adams(order=4)", 300, NEAR, x_T=alpha * y)
    return Target(oracle, 80.0, y, x_0, {})


def test_the_unrolled_rule_is_the_rule(schedule: Schedule) -> None:
    """Its x_0 is that of `sample`, under every schedule that has the levels."""
    rule = remembering(NonStationary.adams(LEVELS, order=3), 6)
    if not rule.grid.fits(schedule):  # type: ignore[union-attr]
        pytest.skip("a schedule without these levels")
    goal = target(ring(schedule), 4)
    own = Parameters(rule)
    (unrolled_x,) = unrolled(own.levels(), own.rows(), [goal])
    first = rule.grid.times(schedule, 6)[0]  # type: ignore[union-attr]
    x_T = schedule.alpha(first) * goal.y_T
    x = ud.sample(goal.denoiser, (4, 2), rule, 6, x_T=x_T)
    torch.testing.assert_close(unrolled_x.detach(), x, rtol=0, atol=1e-6)


def test_the_time_of_a_level_has_its_derivative(schedule: Schedule) -> None:
    """dt / d(sigma/alpha) is that of finite differences, whichever way t is found."""
    rho, h = 0.7, 1e-4
    level = torch.tensor(rho, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(time_of_level(schedule, level), level)
    ahead, behind = (schedule.t_from_log_snr(-2 * math.log(rho + d)) for d in (h, -h))
    assert float(slope) == pytest.approx(float(ahead - behind) / (2 * h), rel=2e-3)


def test_the_gradient_is_that_of_the_misfit() -> None:
    goal = target(ring(ud.schedules.VP()), 6)
    own = Parameters(remembering(NonStationary.adams(LEVELS), 6))

    def loss() -> torch.Tensor:
        (x,) = unrolled(own.levels(), own.rows(), [goal])
        return misfit(errors(x, goal.x_0))

    loss().backward()
    for parameter, place in ((own.gaps, 2), (own.more[3], 1)):
        told, h = float(parameter.grad[place]), 1e-5
        with torch.no_grad():
            parameter[place] += h
            above = float(loss())
            parameter[place] -= 2 * h
            below = float(loss())
            parameter[place] += h
        assert told == pytest.approx((above - below) / (2 * h), rel=1e-4)


def test_fitting_lowers_what_is_left_of_fresh_noise() -> None:
    oracle = ring(ud.schedules.VP())
    rule = remembering(NonStationary.adams((7.0, 1.0, 0.3, 0.06)), 6)
    fitted = fit(rule, [target(oracle, 64)], iterations=120, batch_size=32)
    fresh = target(oracle, 128, seed=1)

    def left(own: NonStationary) -> float:
        parameters = Parameters(own)
        (x,) = unrolled(parameters.levels(), parameters.rows(), [fresh])
        return errors(x, fresh.x_0).median().item()

    assert left(fitted) < left(rule) / 4
    assert fitted == catalogue.build(catalogue.describe(fitted))


def test_tuning_tells_the_errors_on_noise_it_never_saw() -> None:
    """Five calls, better than every fixed rule; the figures are those that `sample` leaves."""
    oracle = ring(ud.schedules.Cosine())
    found = tune(oracle, (2,), 5, iterations=150, batch_size=32)
    assert found.better
    assert found.after < 0.6 * found.before
    assert found.start in candidates(oracle.schedule, 5)
    truth = target(oracle, 256, seed=9)
    first = found.rule.grid.times(oracle.schedule, 5)[0]  # type: ignore[union-attr]
    x_T = oracle.schedule.alpha(first) * truth.y_T
    x = ud.sample(oracle, (256, 2), found.rule, 5, x_T=x_T)
    assert float(errors(x, truth.x_0).median()) == pytest.approx(found.after, rel=0.5)


def test_the_same_seed_tunes_the_same_rule() -> None:
    oracle = ring(ud.schedules.VP())
    one, again, other = (
        tune(oracle, (2,), 3, iterations=3, calibration=8, fresh=8, seed=seed) for seed in (0, 0, 1)
    )
    assert one == again
    assert one.rule != other.rule


def test_conditions_go_with_their_samples() -> None:
    points = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    oracle = ud.exact.FiniteSet(points, ud.schedules.VP(), labels=torch.tensor([0, 1, 1]))
    found = tune(
        *(oracle, (2,), 4),
        condition=lambda index: {"label": index % 2},
        iterations=5,
        calibration=8,
        fresh=8,
    )
    label = torch.arange(12) % 2
    x = ud.sample(oracle, (12, 2), found.rule, 4, label=label)
    nearest = (x[:, None] - points).norm(dim=2).argmin(1)
    assert torch.equal((nearest > 0).long(), label)


def test_one_step_has_nothing_to_tune() -> None:
    found = tune(ring(ud.schedules.VP()), (2,), 1, iterations=2, calibration=4, fresh=4)
    assert found.rule.noise_levels == ()
    assert not found.better


@pytest.mark.parametrize("order", [2, 3, 4])
def test_weights_between_levels_are_those_of_adams(order: int) -> None:
    ends = torch.tensor([80.0, *LEVELS], dtype=torch.float64).log()
    for i, row in enumerate(NonStationary.adams(LEVELS, order).weights, start=1):
        knots = ends[max(0, i + 1 - order) : i + 1].flip(0)
        own = adams_weights(knots, ends[i + 1] if i < len(LEVELS) else None)
        torch.testing.assert_close(own[1:].tolist(), list(row), rtol=1e-6, atol=1e-8)
        assert float(own.sum()) == pytest.approx(1)
