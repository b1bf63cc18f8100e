"""EDM's stochastic sampler is the paper's algorithm 2, and Heun's rule where nothing is churned."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.errors import UndiffuseError
from undiffuse.noise import Stream
from undiffuse.samplers import EDM, Heun
from undiffuse.schedules.base import Schedule

POINTS = torch.tensor([[-1.0, 0.5], [0.8, -0.3], [0.1, 0.9]])
X = torch.tensor([[40.0, -70.0], [90.0, 10.0], [-5.0, 30.0]], dtype=torch.float64)


def draws(n: int) -> Tensor:
    return Stream(4, (0, 1, 2)).draw((n, 2), step=0).double().transpose(0, 1)


def algorithm_2(
    oracle: ud.exact.GaussianMixture, levels: list[float], gammas: list[float], rule: EDM, z: Tensor
) -> Tensor:
    """Karras et al. 2022 word for word, in x with alpha = 1; levels end in 0."""

    def D(x: Tensor, sigma: float) -> Tensor:
        return oracle(x, oracle.schedule.t_from_log_snr(-2 * math.log(sigma)))

    x = X
    for (t, s), gamma, eps in zip(pairwise(levels), gammas, z, strict=True):
        gamma = gamma if rule.s_tmin <= t <= rule.s_tmax else 0.0
        t_hat = t + gamma * t
        x_hat = x + math.sqrt(t_hat**2 - t**2) * rule.s_noise * eps
        d = (x_hat - D(x_hat, t_hat)) / t_hat
        x = x_hat + (s - t_hat) * d
        if s != 0:
            x = x_hat + (s - t_hat) * (d + (x - D(x, s)) / s) / 2
    return x


@pytest.mark.parametrize("s_churn", [3.0, 40.0])
def test_it_is_algorithm_2(s_churn: float) -> None:
    """On the uniform grid of the EDM schedule, where t - s is one over the number of steps."""
    n, schedule = 17, ud.schedules.EDM()
    oracle = ud.exact.GaussianMixture(POINTS, None, schedule, std=0.2)
    rule, z = EDM(s_churn, s_tmin=0.02, s_tmax=50.0, s_noise=1.007), draws(n + 1)
    times = ud.grids.Uniform().times(schedule, n + 1)
    levels = [*schedule.sigma(times).tolist(), 0.0]
    gammas = [min(s_churn / n, math.sqrt(2) - 1)] * (n + 1)
    x = X
    for k, (t, s) in enumerate(pairwise(times)):
        x, memory = rule.step(oracle, x, t, s, None, lambda like, k=k: z[k])
        assert memory is None
    found = oracle(x, times[-1])
    expected = algorithm_2(oracle, levels, gammas, rule, z)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("options", ["s_churn=0", "s_tmin=1000, s_tmax=2000"])
def test_without_churn_it_is_heun_bit_for_bit(schedule: Schedule, options: str) -> None:
    oracle = ud.exact.GaussianMixture(POINTS, None, schedule, std=0.2)
    for grid in ("karras", "uniform"):
        one, two = (
            ud.sample(oracle, (8, 2), rule, steps=9, grid=grid, seed=1, trajectory=True)
            for rule in (f"edm({options})", Heun())
        )
        assert torch.equal(one.x, two.x)
        assert one.evaluations == two.evaluations


def test_churn_is_only_between_s_tmin_and_s_tmax() -> None:
    schedule = ud.schedules.VP()
    oracle = ud.exact.GaussianMixture(POINTS, None, schedule, std=0.2)
    times = schedule.t_from_log_snr(-2 * torch.tensor([90.0, 20.0, 1.0, 0.1, 0.03]).double().log())
    drawn = []
    for t, s in pairwise(times):
        asked: list[Tensor] = []

        def noise(like: Tensor, asked: list[Tensor] = asked) -> Tensor:
            asked.append(like)
            return torch.zeros_like(like)

        EDM(s_tmin=0.5, s_tmax=50.0).step(oracle, X, t, s, None, noise)
        drawn.append(len(asked))
    assert drawn == [0, 1, 1, 0]  # at sigma/alpha = 90, 20, 1, 0.1


def test_the_churn_stays_within_the_schedule() -> None:
    """At the noisy end there is no higher level to go to."""
    schedule = ud.schedules.EDM(sigma_max=40.0)
    oracle = ud.exact.GaussianMixture(POINTS, None, schedule, std=0.2)
    t, s = torch.tensor([1.0, 0.9], dtype=torch.float64)
    one, two = (rule.step(oracle, X, t, s, None, torch.ones_like)[0] for rule in (EDM(), Heun()))
    assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"s_churn": -1.0}, "s_churn must be a number >= 0"),
        ({"s_noise": math.nan}, "s_noise must be a number >= 0"),
        ({"s_tmin": -0.1}, "s_tmin must be a number >= 0"),
        ({"s_tmin": 2.0, "s_tmax": 1.0}, "s_tmax must be a number, at least s_tmin"),
        ({"s_tmax": math.inf}, "s_tmax must be a number, at least s_tmin"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UndiffuseError, match=f"EDM: {message}"):
        EDM(**options)
