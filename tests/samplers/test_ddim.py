"""DDIM is the first-order rule of the probability-flow ODE, in both directions of time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import undiffuse as ud
from undiffuse.errors import UndiffuseError
from undiffuse.noise import Stream
from undiffuse.samplers import DDIM
from undiffuse.samplers.loop import start
from undiffuse.schedules.base import Schedule

MEAN = torch.tensor([0.3, -0.2, 0.1])
STDS = torch.tensor([0.5, 0.7, 1.0], dtype=torch.float64)  # one per dimension


def slopes(counts: tuple[int, ...], errors: list[np.ndarray]) -> np.ndarray:
    """The least-squares slope of -log error over log steps, one for each column."""
    slope: np.ndarray = -np.polyfit(np.log(counts), np.log(np.stack(errors)), 1)[0]
    return slope


def flow_errors(schedule: Schedule, grid: str, counts: tuple[int, ...]) -> list[np.ndarray]:
    """The distance of DDIM from the exact flow map in each dimension, for each count of steps."""
    oracle = ud.exact.Gaussian(MEAN, schedule, cov=torch.diag(STDS**2))
    errors = []
    for n in counts:
        times = ud.catalogue.build(grid, "grids").times(schedule, n)
        x_T = start(schedule, times[0], Stream(0, (0, 1, 2, 3)), (3,))
        x = ud.sample(oracle, (4, 3), "ddim", x_T=x_T, times=times, last_denoise=False)
        errors.append((x - oracle.flow(x_T, times[0], times[-1])).norm(dim=0).numpy())
    return errors


def test_converges_to_the_flow_map_with_order_one(schedule: Schedule) -> None:
    counts = (40, 80, 160, 320, 640)
    order = slopes(counts, flow_errors(schedule, "uniform", counts))
    assert ((order > 0.9) & (order < 1.1)).all(), order


def test_the_order_does_not_depend_on_the_grid() -> None:
    counts = (40, 80, 160, 320, 640)
    order = slopes(counts, flow_errors(ud.schedules.VP(), "log-snr", counts))
    assert ((order > 0.9) & (order < 1.1)).all(), order


def test_a_point_is_reached_in_one_step(schedule: Schedule) -> None:
    """With one point as data the flow is a line, which DDIM follows exactly."""
    oracle = ud.exact.Gaussian(MEAN, schedule, std=0.0)
    x = ud.sample(oracle, (5, 3), "ddim", steps=1)
    torch.testing.assert_close(x, MEAN.expand(5, 3), rtol=0, atol=1e-6)


def test_there_and_back_again() -> None:
    """Inversion, times that rise: what returns nears what left, with order one."""
    schedule = ud.schedules.VP()
    oracle = ud.exact.Gaussian(MEAN, schedule, cov=torch.diag(STDS**2))
    x_0 = torch.tensor([[0.5, -0.5, 1.0], [0.0, 0.3, -1.0]], dtype=torch.float64)
    counts, errors = (20, 40, 80, 160), []
    for n in counts:
        up = schedule.t_from_log_snr(torch.linspace(6, -6, n + 1, dtype=torch.float64))
        x_T = ud.sample(oracle, x_0.shape, "ddim", x_T=x_0, times=up)
        back = ud.sample(oracle, x_0.shape, "ddim", x_T=x_T, times=up.flip(0))
        errors.append((back - x_0).norm(dim=0).numpy())
    assert (np.diff(np.stack(errors), axis=0) < 0).all()
    assert (slopes(counts, errors) > 0.8).all()


@pytest.mark.parametrize("sampler", ["ddim", "exponential-adams"])
def test_inversion_reaches_pure_noise(sampler: str) -> None:
    """Up to t = 1, where alpha = 0, the rules that can go back end at the noise itself."""
    schedule = ud.schedules.Flow()
    oracle = ud.exact.Gaussian(MEAN, schedule, cov=torch.diag(STDS**2))
    x_0 = oracle.draw(64, 0.01)
    x_T = ud.sample(oracle, x_0.shape, sampler, x_T=x_0, times=torch.linspace(0.01, 1, 400))
    torch.testing.assert_close(x_T, oracle.flow(x_0, 0.01, 1.0), rtol=0, atol=0.02)


def test_stochastic_rules_cannot_be_inverted() -> None:
    oracle = ud.exact.Gaussian(MEAN, ud.schedules.VP(), std=0.5)
    with pytest.raises(UndiffuseError, match="cannot go back to noise"):
        ud.sample(oracle, (2, 3), DDIM(eta=0.1), times=[0.1, 0.5, 0.9])


@pytest.mark.parametrize("eta", [-0.1, 1.5, float("nan"), True])
def test_eta_out_of_range_is_refused(eta: float) -> None:
    with pytest.raises(UndiffuseError, match="eta must be in"):
        DDIM(eta=eta)
