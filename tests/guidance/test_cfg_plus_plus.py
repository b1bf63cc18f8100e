"""CFG++ as a weight that depends on the step, against the paper's algorithm."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.errors import UndiffuseError
from undiffuse.grids import LogSNR, Uniform
from undiffuse.guidance import ClassifierFree, ClassifierFreePlusPlus
from undiffuse.schedules.base import Schedule

LABEL = torch.tensor([0, 1, 2, 0, 1, 2])


def algorithm_2(denoiser: Any, x: Tensor, times: Tensor, w: float) -> Tensor:
    """x_s = alpha_s x0_w + sigma_s eps(null), as it is printed."""
    schedule = denoiser.schedule
    for t, s in itertools.pairwise(times):
        null = denoiser(x, t)
        x0_w = null + w * (denoiser(x, t, label=LABEL) - null)
        eps_null = (x - schedule.alpha(t) * null) / schedule.sigma(t)
        x = schedule.alpha(s) * x0_w + schedule.sigma(s) * eps_null
    return x


@pytest.mark.parametrize("w", [0.0, 0.6, 1.0])
@pytest.mark.parametrize(
    "schedule", [ud.schedules.VP(), ud.schedules.Cosine(), ud.schedules.Flow()]
)
@pytest.mark.parametrize("grid", [LogSNR(), Uniform()])
def test_ddim_with_it_is_the_paper_s_algorithm(
    w: float, schedule: Schedule, grid: Any, labelled: Any, x: Tensor
) -> None:
    times = grid.times(schedule, 15)
    guide = ClassifierFreePlusPlus(labelled(schedule), w, times)
    found = ud.sample(guide, (6, 2), "ddim", x_T=x, times=times, label=LABEL)
    expected = algorithm_2(labelled(schedule), x, times, w)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_where_the_schedule_ends_in_noise(labelled: Any, x: Tensor) -> None:
    """The denoising call at the end is guided by w itself."""
    edm = ud.schedules.EDM()
    times = LogSNR().times(edm, 10)
    guide = ClassifierFreePlusPlus(labelled(edm), 0.6, times)
    assert float(guide.weight_at(times[-1])) == pytest.approx(0.6)
    found = ud.sample(guide, (6, 2), "ddim", x_T=x, times=times, last_denoise=True, label=LABEL)
    before = algorithm_2(labelled(edm), x, times, 0.6)
    expected = ClassifierFree(labelled(edm), 0.6)(before, times[-1], label=LABEL)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_the_weight_is_a_constant_in_log_snr_and_grows_with_the_steps(labelled: Any) -> None:
    """0.5 / (1 - e^-h) for steps of h in log(alpha / sigma), so as h falls about 0.5 / h."""
    for steps in (10, 20, 40, 80):
        log_snr = torch.linspace(-8, 8, steps + 1, dtype=torch.float64)
        times = ud.schedules.VP().t_from_log_snr(log_snr)
        weights = ClassifierFreePlusPlus(labelled(), 0.5, times).weight_at(times)
        expected = torch.full((steps + 1,), 0.5 / (1 - math.exp(-8 / steps))).double()
        expected[-1] = 0.5
        torch.testing.assert_close(weights, expected, rtol=1e-6, atol=0)


def test_a_time_for_each_sample_and_times_between(labelled: Any, x: Tensor) -> None:
    """Between two of its times the next one below counts."""
    guide = ClassifierFreePlusPlus(labelled(), 0.5, [0.9, 0.5, 0.2])
    t = torch.tensor([1.0, 0.9, 0.7, 0.5, 0.3, 0.1], dtype=torch.float64)
    together = guide.weight_at(t)
    torch.testing.assert_close(together, torch.stack([guide.weight_at(u) for u in t]))
    low = guide.schedule.log_snr
    expected = 0.5 / (1 - ((low(0.7) - low(0.5)) / 2).exp())
    assert float(together[2]) == pytest.approx(float(expected))
    assert float(together[5]) == 0.5


@pytest.mark.parametrize("times", [[], [0.1, 0.5], [1.5, 0.5], [[0.5]], [0.5, 0.5], [float("nan")]])
def test_impossible_times_are_refused(times: Any, labelled: Any) -> None:
    with pytest.raises(UndiffuseError, match="times must be the falling times of the sampler"):
        ClassifierFreePlusPlus(labelled(), 0.5, times)


def test_other_mistakes(labelled: Any, x: Tensor) -> None:
    with pytest.raises(UndiffuseError, match="weight must be a finite number >= 0"):
        ClassifierFreePlusPlus(labelled(), -0.5, [1.0, 0.0])
    with pytest.raises(UndiffuseError, match="needs a label"):
        ClassifierFreePlusPlus(labelled(), 0.5, [1.0, 0.0])(x, 0.5)
