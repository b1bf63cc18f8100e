"""What every sampler of the catalogue must do: any grid, any schedule, any number of steps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import undiffuse as ud
from undiffuse import catalogue
from undiffuse.noise import Stream
from undiffuse.samplers.base import Sampler
from undiffuse.samplers.loop import start, walk
from undiffuse.schedules.base import Schedule

VARIANTS = [
    *("ddim(eta=0.5)", "ddpm(variance=1)", "exponential-adams(order=4)", "dpm-solver++(order=3)"),
    *("unipc(order=3, variant=bh1)", "gradient-estimation(mu=0.5)"),
]
IN_TIME = {"deis"}  # rules that see t itself, not log-SNRs alone
RULES = [catalogue.parse("samplers", text) for text in [*catalogue.names("samplers"), *VARIANTS]]
GRIDS = [name for name in catalogue.names("grids") if name != "levels"]  # for one number of steps
POINTS = torch.tensor([[-1.0, 0.5, 0.2], [0.8, -0.3, 0.0], [0.1, 0.9, -1.0], [0.0, 0.0, 1.0]])
LABELS = torch.tensor([0, 0, 1, 1])

every_rule = pytest.mark.parametrize("rule", RULES, ids=repr)
every_grid = pytest.mark.parametrize("grid", GRIDS)


def cost(rule: Sampler) -> int:
    """How often a rule asks the denoiser in one step between two finite log-SNRs."""
    oracle = ud.exact.Gaussian(torch.zeros(2), ud.schedules.VP(), std=0.5)
    times = torch.tensor([0.6, 0.5], dtype=torch.float64)
    x, stream = torch.ones(1, 2, dtype=torch.float64), Stream(0, (0,))
    return list(walk(oracle, x, times, rule, stream))[-1].evaluations


@every_rule
def test_any_number_of_steps(rule: Sampler, schedule: Schedule) -> None:
    """n steps are n evaluations, n + 1 records and a finite result, from n = 1 on."""
    walk_through(rule, rule.grid, schedule)


@every_grid
def test_any_grid_under_any_schedule(grid: str, schedule: Schedule) -> None:
    for rule in ("heun", "exponential-adams(order=4)"):
        walk_through(catalogue.parse("samplers", rule), grid, schedule)


def walk_through(rule: Sampler, grid: str, schedule: Schedule) -> None:
    oracle = ud.exact.GaussianMixture(POINTS, None, schedule, std=0.3)
    for n in range(1, 8):
        path = ud.sample(oracle, (2, 3), rule, steps=n, grid=grid, trajectory=True)
        assert n <= path.evaluations <= n * cost(rule)
        assert path.x.shape == (n + 1, 2, 3)
        assert path.x0_hat.shape == (n, 2, 3)
        assert path.times.shape == (n + 1,)
        assert bool(torch.isfinite(path.x).all())
        falling = path.times.diff()
        if bool(schedule.sigma(0.0) == 0):
            assert float(path.times[-1]) == 0
        else:  # the last record is the denoising call, at the time that was reached
            assert float(falling[-1]) == 0
            if type(rule).last is Sampler.last:
                assert torch.equal(path.x[-1], path.x0_hat[-1])
            falling = falling[:-1]
        assert bool((falling < 0).all())


@given(st.sampled_from(RULES), st.sampled_from(GRIDS), st.integers(1, 60), st.integers(1, 5))
def test_any_number_of_steps_and_samples(rule: Sampler, grid: str, n: int, count: int) -> None:
    oracle = ud.exact.Gaussian(torch.zeros(2), ud.schedules.Cosine(), std=0.5)
    path = ud.sample(oracle, (count, 2), rule, steps=n, grid=grid, trajectory=True)
    assert n <= path.evaluations <= n * cost(rule)
    assert bool(torch.isfinite(path.x).all())


@every_rule
def test_the_single_step_is_the_mean(rule: Sampler, schedule: Schedule) -> None:
    """From pure noise one step can only answer E[x_0]."""
    oracle = ud.exact.GaussianMixture(POINTS, None, schedule, std=0.1)
    x = ud.sample(oracle, (4, 3), rule, steps=1)
    torch.testing.assert_close(x, POINTS.mean(0).expand(4, 3), rtol=0, atol=0.06)


@every_rule
def test_finite_data_is_reached(rule: Sampler, schedule: Schedule) -> None:
    """With the ideal denoiser every sample ends on a point, and on one of the asked label."""
    ends_on_a_point(rule, rule.grid, schedule)


@every_rule
@every_grid
def test_finite_data_is_reached_on_any_grid(rule: Sampler, grid: str) -> None:
    ends_on_a_point(rule, grid, ud.schedules.VP())


def ends_on_a_point(rule: Sampler, grid: str, schedule: Schedule) -> None:
    oracle = ud.exact.FiniteSet(POINTS, schedule, labels=LABELS)
    label = torch.arange(16) % 3 - 1  # -1: any of them
    x = ud.sample(oracle, (16, 3), rule, steps=40, grid=grid, label=label)
    distance = (x[:, None] - POINTS).norm(dim=-1)  # [16, 4]
    assert float(distance.amin(1).max()) < 1e-3
    found = LABELS[distance.argmin(1)]
    assert bool(((label < 0) | (found == label)).all())


@every_rule
def test_without_a_label_every_point_is_found(rule: Sampler) -> None:
    oracle = ud.exact.FiniteSet(POINTS, ud.schedules.VP())
    x = ud.sample(oracle, (64, 3), rule, steps=30)
    hits = (x[:, None] - POINTS).norm(dim=-1).argmin(1).bincount(minlength=4)
    assert int(hits.min()) >= 4  # 16 expected, standard deviation 3.5


@every_rule
def test_rules_are_values(rule: Sampler) -> None:
    again = catalogue.build(catalogue.describe(rule))
    assert again == rule
    assert hash(again) == hash(rule)


@pytest.mark.parametrize(
    "rule", [r for r in RULES if not r.stochastic and r.name not in IN_TIME], ids=repr
)
def test_the_schedule_is_only_a_change_of_variables(rule: Sampler, schedule: Schedule) -> None:
    """At equal log-SNRs, from a scaled start, every schedule leads to the same x_0."""
    mixture = ud.exact.GaussianMixture(POINTS, None, ud.schedules.VP(), std=0.2)
    log_snr = torch.linspace(-8, 8, 15, dtype=torch.float64)

    def x_0(under: Schedule) -> torch.Tensor:
        times = under.t_from_log_snr(log_snr)
        noisy_end = bool(under.sigma(0.0) > 0)
        times = times if noisy_end else torch.cat([times, torch.zeros(1)])
        x_T = start(under, times[0], Stream(0, tuple(range(8))), (3,))
        oracle = mixture.with_schedule(under)
        return ud.sample(oracle, (8, 3), rule, x_T=x_T, times=times, last_denoise=noisy_end)

    torch.testing.assert_close(x_0(schedule), x_0(ud.schedules.VP()), rtol=0, atol=1e-10)
