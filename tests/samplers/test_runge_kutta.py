"""The tableaux are consistent, and Heun's rule is that of EDM."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

import undiffuse as ud
from undiffuse.samplers.runge_kutta import RK4, Euler, Heun, Midpoint, RungeKutta

ORACLE = ud.exact.GaussianMixture(
    torch.tensor([[-1.0, 0.2], [0.9, 0.4], [0.0, -1.0]]), None, ud.schedules.EDM(), std=0.3
)


@pytest.mark.parametrize("rule", [Euler(), Heun(), Midpoint(), RK4()], ids=repr)
def test_rows_sum_to_their_nodes_and_weights_to_one(rule: RungeKutta) -> None:
    nodes, rows, weights = rule.tableau
    assert [sum(row) for row in rows] == pytest.approx(nodes)
    assert [len(row) for row in rows] == list(range(len(nodes)))
    assert sum(weights) == pytest.approx(1)


def test_heun_is_edms() -> None:
    """Karras et al. 2022, algorithm 1: d = (x - D(x; sigma)) / sigma, its mean over both ends."""
    sigmas = torch.tensor([10.0, 5.0, 2.0, 1.1, 0.4, 0.1], dtype=torch.float64)
    schedule = ORACLE.schedule
    times = schedule.t_from_log_snr(-2 * sigmas.log())
    x_T = 10 * torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x_T
    for t, s in pairwise(times):
        here, there = schedule.sigma(t), schedule.sigma(s)
        d = (x - ORACLE(x, t)) / here
        x_next = x + (there - here) * d
        d_next = (x_next - ORACLE(x_next, s)) / there
        x = x + (there - here) * (d + d_next) / 2
    path = ud.sample(
        ORACLE, (3, 2), "heun", x_T=x_T, times=times, last_denoise=False, trajectory=True
    )
    torch.testing.assert_close(path.x[-1], x, rtol=0, atol=1e-12)
    assert path.evaluations == 10


@pytest.mark.parametrize(
    ("rule", "stages"), [("euler", 1), ("heun", 2), ("midpoint", 2), ("rk4", 4)]
)
def test_the_ends_cost_one_evaluation(rule: str, stages: int) -> None:
    oracle = ORACLE.with_schedule(ud.schedules.Flow())
    path = ud.sample(oracle, (3, 2), rule, grid="uniform", steps=5, trajectory=True)
    assert path.evaluations == 2 + 3 * stages  # from alpha = 0, and to sigma = 0


def test_there_and_back_again() -> None:
    """Times that rise: the noise that leads to a sample, to 1e-6 in 100 steps of RK4."""
    oracle = ORACLE.with_schedule(ud.schedules.VP())
    x_0 = oracle.draw(5, 0.05)
    up = torch.linspace(0.05, 0.9, 101, dtype=torch.float64)
    x_T = ud.sample(oracle, x_0.shape, "rk4", x_T=x_0, times=up)
    back = ud.sample(oracle, x_0.shape, "rk4", x_T=x_T, times=up.flip(0))
    torch.testing.assert_close(back, x_0, rtol=0, atol=1e-6)
