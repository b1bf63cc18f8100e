"""The adaptive pair: as exact as it is told to be, at the price that this takes."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse import catalogue
from undiffuse.denoiser import Denoiser
from undiffuse.errors import RunFailed, UndiffuseError
from undiffuse.noise import Stream
from undiffuse.samplers.adaptive import Adaptive
from undiffuse.samplers.loop import rule_of, start, times_of
from undiffuse.schedules.base import Schedule

MEANS = torch.tensor([[-1.0, 0.0], [1.0, 0.4], [0.0, 1.2]])
TOLERANCES = (1e-3, 1e-5, 1e-7)


def mixture(schedule: Schedule) -> ud.exact.GaussianMixture:
    return ud.exact.GaussianMixture(MEANS, None, schedule, std=0.2)


def drawn(denoiser: Denoiser, tolerance: float, count: int = 32) -> tuple[Tensor, int]:
    rule = Adaptive(rtol=tolerance, atol=tolerance)
    path = ud.sample(denoiser, (count, 2), rule, trajectory=True)
    assert isinstance(path, ud.samplers.Trajectory)
    return path.x[-1].double(), path.evaluations


@pytest.mark.parametrize("schedule", [ud.schedules.VP(), ud.schedules.EDM(), ud.schedules.Flow()])
def test_the_error_falls_with_the_tolerance_on_a_gaussian(schedule: Schedule) -> None:
    """Against the flow in closed form: x_s - m scales as the standard deviation of p_s does."""
    mean, std = torch.tensor([0.5, -1.0]), 0.3
    oracle = ud.exact.Gaussian(mean, schedule, std=std)
    times = times_of(schedule, Adaptive())
    x = start(schedule, times[0], Stream(0, tuple(range(32))), (2,))
    first, last = times[0], times[1]

    def spread(t: Tensor) -> Tensor:
        return torch.hypot(std * schedule.alpha(t), schedule.sigma(t))

    at_last = schedule.alpha(last) * mean + (x - schedule.alpha(first) * mean) * spread(
        last
    ) / spread(first)
    exact = oracle(at_last, last)
    errors, costs = [], []
    for tolerance in TOLERANCES:
        found, evaluations = drawn(oracle, tolerance)
        errors.append(float((found - exact).abs().max()))
        costs.append(evaluations)
    for tolerance, error in zip(TOLERANCES, errors, strict=True):
        assert error < 10 * tolerance + 1e-7  # samples are float32
    assert errors[0] > 100 * errors[-1]
    assert costs == sorted(costs)
    assert costs[-1] > costs[0]


def test_the_cost_and_the_samples_belong_to_no_schedule() -> None:
    """The flow is followed along the angle of the noise, where every schedule is the same."""
    schedules = ud.schedules.VP(), ud.schedules.EDM(), ud.schedules.Flow()
    (x, cost), *others = (drawn(mixture(schedule), 1e-3) for schedule in schedules)
    for y, other in others:
        assert other == cost
        torch.testing.assert_close(y, x, rtol=0, atol=1e-4)


def test_every_evaluation_is_counted() -> None:
    asked = []

    class Counting(Denoiser):
        def __init__(self) -> None:
            super().__init__()
            self.oracle = mixture(ud.schedules.VP())
            self.schedule = self.oracle.schedule

        def denoise(self, x_t: Tensor, t: Tensor, **condition: Tensor | None) -> Tensor:
            asked.append(float(t))
            return self.oracle(x_t, t)

    _, evaluations = drawn(Counting(), 1e-3)
    assert evaluations == len(asked)
    first, last, _ = times_of(ud.schedules.VP(), Adaptive())
    assert max(asked) <= float(first) + 1e-9  # and never asked outside of its way
    assert min(asked) >= float(last) - 1e-9


def test_it_agrees_with_the_default_rule_at_many_steps() -> None:
    oracle = mixture(ud.schedules.VP())
    grid = Adaptive().grid
    many = ud.sample(oracle, (32, 2), steps=300, grid=grid)
    assert isinstance(many, Tensor)
    torch.testing.assert_close(drawn(oracle, 1e-7)[0].float(), many, rtol=0, atol=1e-4)


def test_the_batch_changes_samples_within_the_tolerance_and_the_seed_all() -> None:
    oracle = mixture(ud.schedules.VP())
    rule = "adaptive(rtol=1e-6, atol=1e-6)"
    whole = ud.sample(oracle, (24, 2), rule, seed=3)
    assert torch.equal(whole, ud.sample(oracle, (24, 2), rule, seed=3))
    parts = ud.sample(oracle, (24, 2), rule, seed=3, batch_size=5)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-4)
    later = ud.sample(oracle, (4, 2), rule, seed=3, first_index=20)
    torch.testing.assert_close(later, whole[20:], rtol=0, atol=1e-4)
    other = ud.sample(oracle, (24, 2), rule, seed=4)
    assert float((other - whole).abs().max()) > 0.1


def test_given_times_are_stops_and_the_way_back_is_open() -> None:
    oracle = mixture(ud.schedules.VP())
    rule = Adaptive(rtol=1e-6, atol=1e-6)
    times = [0.9, 0.5, 0.2, 0.05]
    path = ud.sample(oracle, (8, 2), rule, times=times, trajectory=True)
    straight = ud.sample(oracle, (8, 2), rule, times=[0.9, 0.05])
    torch.testing.assert_close(path.x[-1], straight, rtol=0, atol=1e-4)
    x_T = path.x[0].double()
    there = ud.sample(oracle, (8, 2), rule, times=times, x_T=x_T)
    back = ud.sample(oracle, (8, 2), rule, times=times[::-1], x_T=there)
    torch.testing.assert_close(back, x_T, rtol=0, atol=1e-4)


def test_it_is_no_rule_of_steps() -> None:
    assert "adaptive" not in catalogue.names("samplers")
    assert rule_of("adaptive(atol=1e-4)") == Adaptive(atol=1e-4)
    oracle = mixture(ud.schedules.VP())
    with pytest.raises(UndiffuseError, match=r"leave the number of steps \(20\) out"):
        ud.sample(oracle, (2, 2), "adaptive", steps=20)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("adaptive(rtol=2)", "rtol must be between 0 and 1, not 2"),
        ("adaptive(atol=0)", "atol must be between 0 and 1, not 0"),
        ("adaptive(rtl=1e-3)", "sampler 'adaptive' has no option 'rtl'; did you mean 'rtol'?"),
    ],
)
def test_mistakes_are_one_sentence(text: str, told: str) -> None:
    with pytest.raises(UndiffuseError) as caught:
        ud.sample(mixture(ud.schedules.VP()), (2, 2), text)
    assert told in str(caught.value)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    with pytest.raises(UndiffuseError, match=r"needs torchdiffeq: install undiffuse\[ode\]"):
        ud.sample(mixture(ud.schedules.VP()), (2, 2), "adaptive")


def test_what_is_not_finite_is_a_failure_of_the_run() -> None:
    class Broken(Denoiser):
        schedule = ud.schedules.VP()

        def denoise(self, x_t: Tensor, t: Tensor, **condition: Tensor | None) -> Tensor:
            return x_t * math.nan

    with pytest.raises(RunFailed, match="gave NaN or infinity at sigma/alpha"):
        ud.sample(Broken(), (2, 2), "adaptive")
