"""Stochastic rules on Gaussian data: their samples against their own law, and that against truth.

For a Gaussian the denoiser is affine, so after n steps x_0 = b + A x_T + sum_j B_j z_j with the
numbers z_j that the rule draws. b, A and B_j follow from the rule without any sampling error: run
it from zero without noise, from each unit vector, and with one unit of one z_j at a time. Its law
is then N(b, A Cov[x_T] A^T + sum_j B_j B_j^T).
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse import catalogue
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.samplers.base import Sampler
from undiffuse.schedules.base import Schedule

MEAN = torch.tensor([0.4, -0.3], dtype=torch.float64)
COV = torch.tensor([[0.3, 0.1], [0.1, 0.15]], dtype=torch.float64)
EYE = torch.eye(2, dtype=torch.float64)

RULES = [
    "ddpm",
    "ddpm(variance=1)",
    "ddim(eta=0.5)",
    "edm(s_churn=20, s_noise=1)",
    "euler-maruyama",
    "euler-maruyama(noise=0.5)",
    "sde-dpm-solver++(order=1)",
    "sde-dpm-solver++",
    "sde-dpm-solver++(eta=0.4)",
    "predictor-corrector",
    "predictor-corrector(predictor=sde-dpm-solver++, snr=0.1, inner=2)",
    "annealed-langevin(step_size=0.05, inner=2)",
]


class Pairs(Denoiser):
    """The exact denoiser of N(MEAN, COV) for each pair of numbers, x [..., 2], on its own."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        alpha, sigma = float(self.schedule.alpha(t)), float(self.schedule.sigma(t))
        gain = alpha * COV @ torch.linalg.inv(alpha**2 * COV + sigma**2 * EYE)
        return MEAN + (x_t - alpha * MEAN) @ gain.T


class Impulses:
    """noise(x) is zero but for one unit, in one call and one direction, for each row of x."""

    def __init__(self, calls: int) -> None:
        self.calls, self.call = calls, 0

    def __call__(self, like: Tensor) -> Tensor:
        z = torch.zeros_like(like)
        if self.calls:
            row = 3 + 2 * self.call  # after the run from zero and the two unit vectors
            z[row : row + 2] = EYE
        self.call += 1
        return z


def law(rule: Sampler, schedule: Schedule, times: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the rule's samples."""
    oracle, calls = Pairs(schedule), 0
    for _ in range(2):  # the first run counts the calls
        noise = Impulses(calls)
        x, memory = torch.zeros(3 + 2 * calls, 2, dtype=torch.float64), None
        x[1:3] = EYE
        for t, s in pairwise(times):
            x, memory = rule.step(oracle, x, t, s, memory, noise)
        calls = noise.call
    if bool(schedule.sigma(0.0) > 0):
        x = oracle(x, times[-1])
    responses = (x[1:] - x[0]).reshape(-1, 2, 2).mT  # [1 + calls, 2, 2]: A and B_j
    start = float(schedule.alpha(times[0]) ** 2 + schedule.sigma(times[0]) ** 2) ** 0.5
    responses[0] *= start
    return x[0], (responses @ responses.mT).sum(0)


def grid(rule: Sampler, schedule: Schedule, steps: int) -> Tensor:
    times: Tensor = catalogue.build(rule.grid, "grids").times(schedule, steps)
    return times


def error(found: tuple[Tensor, Tensor]) -> float:
    """The largest distance from MEAN and COV, relative to the size of either."""
    goal = (MEAN, COV)
    return max(float((a - b).norm() / b.norm()) for a, b in zip(found, goal, strict=True))


CASES = [*((text, "vp") for text in RULES), ("edm", "edm"), ("sde-dpm-solver++", "edm")]


@pytest.mark.parametrize(("text", "kind"), CASES)
def test_samples_have_the_mean_and_covariance_of_the_rule_at_200_steps(
    text: str, kind: str
) -> None:
    rule, schedule = catalogue.parse("samplers", text), catalogue.parse("schedules", kind)
    x = ud.sample(Pairs(schedule), (3, 1000, 2), rule, steps=200, seed=1).double().reshape(-1, 2)
    mean, cov = law(rule, schedule, grid(rule, schedule, 200))
    count, variances = len(x), cov.diagonal()
    assert bool(((x.mean(0) - mean).abs() < 4 * (variances / count).sqrt()).all())
    spread = ((variances[:, None] * variances + cov**2) / count).sqrt()
    assert bool(((x.T.cov() - cov).abs() < 4 * spread).all())


@pytest.mark.parametrize(
    ("text", "at_200", "order"),
    [
        ("ddpm", 0.08, 1),
        ("ddpm(variance=1)", 0.02, 1),
        ("edm(s_churn=5, s_noise=1)", 3e-3, 2),
        ("edm(s_churn=20, s_noise=1)", 0.01, 2),
        ("euler-maruyama", 0.01, 1),
        ("euler-maruyama(noise=0.5)", 0.01, 1),
        ("sde-dpm-solver++(order=1)", 0.06, 1),
    ],
)
def test_the_law_converges_to_the_data(text: str, at_200: float, order: int) -> None:
    """With the weak order of the rule."""
    rule, schedule = catalogue.parse("samplers", text), ud.schedules.VP()
    errors = [error(law(rule, schedule, grid(rule, schedule, n))) for n in (100, 200, 400)]
    assert errors[1] < at_200
    assert math.log(errors[0] / errors[2], 4) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("eta", [0.4, 1.0])
def test_the_second_order_sde_solver_is_far_nearer_than_the_first(eta: float) -> None:
    schedule = ud.schedules.VP()
    one, two = (
        catalogue.parse("samplers", f"sde-dpm-solver++({order=}, {eta=})") for order in (1, 2)
    )
    times = [grid(two, schedule, n) for n in (25, 50, 100)]
    first, second = ([error(law(rule, schedule, t)) for t in times] for rule in (one, two))
    assert first[1] > 10 * second[1]
    assert math.log(second[0] / second[2], 4) > 1.7


def test_a_corrector_brings_the_law_back() -> None:
    """The corrector repairs what the predictor does, and more of it does more."""
    schedule = ud.schedules.VP()
    texts = ("ddpm", "predictor-corrector", "predictor-corrector(inner=4)")
    rules = [catalogue.parse("samplers", text) for text in texts]
    errors = [error(law(rule, schedule, grid(rule, schedule, 200))) for rule in rules]
    assert errors[0] > 1.2 * errors[1] > 1.4 * errors[2]


def test_churn_does_not_change_the_law() -> None:
    """Any churn gives the data back; the paper's s_noise = 1.003 widens it a little."""
    schedule = ud.schedules.EDM()
    for churn in (0, 10, 40):
        rule = catalogue.parse("samplers", f"edm(s_churn={churn}, s_noise=1)")
        assert error(law(rule, schedule, grid(rule, schedule, 400))) < 6e-3
    wider = catalogue.parse("samplers", "edm")
    assert float(law(wider, schedule, grid(wider, schedule, 400))[1].trace() / COV.trace()) > 1.001
