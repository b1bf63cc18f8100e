"""Predictor-corrector: a rule, and Langevin dynamics at the level that it reached."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse import catalogue
from undiffuse.errors import UndiffuseError
from undiffuse.noise import Stream
from undiffuse.samplers import DDIM, DDPM, EulerMaruyama, ExponentialAdams, PredictorCorrector

POINTS = torch.tensor([[-1.0, 0.5], [0.8, -0.3], [0.1, 0.9]])


class Drawn:
    """noise(x) from a list."""

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = list(numbers)

    def __call__(self, like: Tensor) -> Tensor:
        return self.numbers.pop(0)


def test_a_step_is_the_predictor_s_and_the_langevin_steps_of_the_paper() -> None:
    """Song et al. 2021, algorithm 5, with the norms of pure noise in the step size."""
    schedule = ud.schedules.VP()
    oracle = ud.exact.GaussianMixture(POINTS, None, schedule, std=0.3)
    z = Stream(0, (0, 1, 2)).draw((3, 2), step=0).double().transpose(0, 1)
    t, s = torch.tensor([0.6, 0.5], dtype=torch.float64)
    x, _ = DDPM().step(oracle, z[2], t, s, None, Drawn(z))
    sigma, snr = float(schedule.sigma(s)), 0.2
    z_norm, score_norm = math.sqrt(2), math.sqrt(2) / sigma  # of N(0, I) and of its score
    step = 2 * (snr * z_norm / score_norm) ** 2
    for k in (1, 2):
        x = x + step * oracle.score(x, s) + math.sqrt(2 * step) * z[k]
    rule = PredictorCorrector(DDPM(), snr=snr, inner=2)
    found, _ = rule.step(oracle, z[2], t, s, None, Drawn(z))
    torch.testing.assert_close(found, x, rtol=0, atol=1e-14)


def test_the_memory_of_the_predictor_is_kept() -> None:
    """The multistep rule takes its second step with two values, and costs are counted."""
    oracle = ud.exact.GaussianMixture(POINTS, None, ud.schedules.VP(), std=0.3)
    rule = PredictorCorrector(ExponentialAdams(order=3), snr=1e-9)
    path = ud.sample(oracle, (6, 2), rule, steps=10, grid="log-snr", trajectory=True)
    plain = ud.sample(oracle, (6, 2), ExponentialAdams(order=3), steps=10, grid="log-snr")
    torch.testing.assert_close(path.x[-1], plain, rtol=0, atol=1e-5)
    assert path.evaluations == 10 + 9  # no corrector after the step to sigma = 0


@pytest.mark.parametrize("snr", [0.16, 0.5, 0.99])
def test_the_corrector_is_stable_at_every_level(snr: float) -> None:
    """On data of no width at all, where the score is steepest."""
    oracle = ud.exact.Gaussian(torch.zeros(500), ud.schedules.VP(), std=0.0)
    rule = PredictorCorrector(DDIM(), snr, inner=20)
    path = ud.sample(oracle, (4, 500), rule, steps=20, trajectory=True)
    sigma = ud.schedules.VP().sigma(path.times).float()
    stationary = 1 / (1 - snr**2) ** 0.5  # x <- (1 - 2 r^2) x + 2 r sigma z
    assert float((path.x.flatten(1).std(1) / sigma)[:-1].max()) < 1.3 * stationary
    assert float(path.x[-1].abs().max()) < 1e-6


def test_it_is_written_and_read_with_its_predictor() -> None:
    rule = PredictorCorrector(EulerMaruyama(0.5), snr=0.1, inner=3)
    text = json.dumps(catalogue.describe(rule))
    again = catalogue.build(json.loads(text))
    assert again == rule
    assert hash(again) == hash(rule)
    words = "predictor-corrector(predictor=euler-maruyama(noise=0.5), snr=0.1, inner=3)"
    assert catalogue.parse("samplers", words) == rule
    assert PredictorCorrector().predictor == DDPM()


def test_mistakes() -> None:
    for snr in (0.0, 1.0, -0.1, math.nan, True):
        with pytest.raises(UndiffuseError, match=r"PredictorCorrector: snr must be in \(0, 1\)"):
            PredictorCorrector(snr=snr)
    for inner in (0, 1.5, math.inf):
        with pytest.raises(UndiffuseError, match="inner must be a whole number, at least 1"):
            PredictorCorrector(inner=inner)  # type: ignore[arg-type]
    with pytest.raises(UndiffuseError, match="predictor must be a sampler"):
        PredictorCorrector(predictor=3)  # type: ignore[arg-type]
    with pytest.raises(UndiffuseError, match="there is no sampler 'dpdm'"):
        PredictorCorrector(predictor="dpdm")  # type: ignore[arg-type]
