"""Euler-Maruyama is the scheme of `sde.simulate`, along one Brownian path per sample."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.errors import UndiffuseError
from undiffuse.noise import Stream
from undiffuse.samplers import EulerMaruyama
from undiffuse.schedules.base import Schedule
from undiffuse.sde import Reverse, simulate

POINTS = torch.tensor([[-1.0, 0.5], [0.8, -0.3], [0.1, 0.9]])


def mixture(schedule: Schedule) -> ud.exact.GaussianMixture:
    return ud.exact.GaussianMixture(POINTS, None, schedule, std=0.3)


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0])
def test_it_is_the_scheme_of_the_reverse_sde(schedule: Schedule, noise: float) -> None:
    """Between finite log-SNRs, with the same numbers."""
    oracle, times = mixture(schedule), torch.linspace(0.9, 0.1, 9, dtype=torch.float64)
    x = torch.tensor([[0.3, -1.0], [1.2, 0.1]], dtype=torch.float64)
    expected = simulate(Reverse(oracle, noise), x, times, seed=6)
    stream, rule = Stream(6, (0, 1)), EulerMaruyama(noise)
    for k, (t, s) in enumerate(pairwise(times)):
        x, _ = rule.step(
            oracle, x, t, s, None, lambda like, k=k: stream.draw((2,), k + 1, "path").double()
        )
        torch.testing.assert_close(x, expected[k + 1], rtol=1e-11, atol=1e-11)


def test_the_ends_are_first_order_steps() -> None:
    """From alpha = 0 and to sigma = 0 the drift is infinite; DDIM's step is not."""
    oracle = mixture(ud.schedules.Flow())
    for steps in (1, 2):
        one, two = (
            ud.sample(oracle, (4, 2), rule, steps=steps, grid="uniform", trajectory=True)
            for rule in ("euler-maruyama", "ddim")
        )
        torch.testing.assert_close(one.x[:steps], two.x[:steps], rtol=0, atol=1e-6)
        torch.testing.assert_close(one.x[1], two.x[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("sampler", ["euler-maruyama", "sde-dpm-solver++"])
def test_more_steps_refine_the_same_samples(sampler: str) -> None:
    """The same seed at 50 and 100 steps is nearly the same sample; another seed is not."""
    oracle = mixture(ud.schedules.VP())
    fifty, hundred, other = (
        ud.sample(oracle, (64, 2), sampler, steps=steps, seed=seed)
        for steps, seed in ((50, 0), (100, 0), (100, 1))
    )
    near, far = ((x - hundred).norm(dim=1).median() for x in (fifty, other))
    assert float(near) < 0.1
    assert float(far) > 0.8


def test_strong_order_1() -> None:
    """Paths of n steps approach the path of many steps like 1 / n."""
    schedule = ud.schedules.VP()
    oracle = ud.exact.Gaussian(torch.tensor([0.3]), schedule, std=0.5)
    start = 0.9 * torch.linspace(-2, 2, 16, dtype=torch.float64)[:, None]

    def end(n: int) -> Tensor:
        times = torch.linspace(0.9, 0.1, n + 1, dtype=torch.float64)
        return ud.sample(oracle, (16, 1), "euler-maruyama", x_T=start, times=times, seed=3)

    counts, best = (25, 50, 100), end(1000)
    errors = [float((end(n) - best).square().mean().sqrt()) for n in counts]
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(1, abs=0.15)


def test_without_noise_time_may_run_either_way() -> None:
    schedule = ud.schedules.VP()
    oracle = ud.exact.Gaussian(torch.zeros(2), schedule, std=0.5)
    x_0, up = torch.tensor([[0.5, -0.4]], dtype=torch.float64), torch.linspace(0.1, 0.9, 400)
    x = ud.sample(oracle, (1, 2), EulerMaruyama(noise=0), x_T=x_0, times=up)
    torch.testing.assert_close(x, oracle.flow(x_0, up[0], up[-1]), rtol=0, atol=5e-3)
    with pytest.raises(UndiffuseError, match="cannot go back to noise"):
        ud.sample(oracle, (1, 2), "euler-maruyama", x_T=x_0, times=up)


def test_impossible_noise_is_refused() -> None:
    for noise in (-0.1, math.inf, True, "a"):
        with pytest.raises(UndiffuseError, match="EulerMaruyama: noise must be a number >= 0"):
            EulerMaruyama(noise)  # type: ignore[arg-type]
