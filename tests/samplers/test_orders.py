"""The order of every deterministic rule, between finite log-SNRs, from exact and from no history.

The step before the first one to be measured leaves exact values in the memory: that is the order of
the rule itself. From a cold start the first step is of order q = 1 (of order 2, corrected, for
UniPC), so that the whole is of order min(p, q + 1).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse import catalogue
from undiffuse.denoiser import Denoiser
from undiffuse.samplers.base import Sampler
from undiffuse.samplers.levels import level
from undiffuse.samplers.unipc import UniPC

SCHEDULE = ud.schedules.VP()
X_T = torch.tensor([[1.0, -0.5, 0.3], [-0.2, 0.8, 1.1]], dtype=torch.float64)
GAUSSIAN = ud.exact.Gaussian(
    torch.tensor([0.3, -0.2, 0.1]), SCHEDULE, cov=torch.diag(torch.tensor([0.25, 0.49, 1.0]))
)
MIXTURE = ud.exact.GaussianMixture(
    torch.tensor([[-1.0, 0.2, 0.0], [0.9, 0.4, -0.5]]), None, SCHEDULE, std=0.6
)
ORDERS = [  # rule, its order, and from a cold start
    *(("ddim", 1, 1), ("euler", 1, 1), ("heun", 2, 2), ("midpoint", 2, 2), ("rk4", 4, 4)),
    *((f"exponential-adams(order={p})", p, min(p, 2)) for p in (1, 2, 3, 4)),
    *((f"deis(order={p})", p, min(p, 2)) for p in (1, 2, 3, 4)),
    *((f"lms(order={p})", p, min(p, 2)) for p in (1, 2, 3, 4)),
    *((f"dpm-solver++(order={p})", p, min(p, 2)) for p in (1, 2, 3)),
    *(("dpm-solver++2s", 2, 2), ("dpm-solver++2s(r=1)", 2, 2)),
    *((f"unipc(order={p}, variant=bh1)", p + 1, min(p + 1, 3)) for p in (1, 2, 3)),
    *((f"unipc(order={p}, variant=bh2)", p + 1, min(p + 1, 3)) for p in (1, 2, 3)),
    *(("plms(order=1)", 1, 1), ("plms(order=2)", 2, 2), ("plms(order=4)", 2, 2)),
    *(("gradient-estimation", 1, 1), ("gradient-estimation(gamma=1)", 1, 1)),
    *(("universal", 4, 2), ("non-stationary", 4, 2)),  # on other times than their own
]
COUNTS = {1: (40, 80, 160), 2: (40, 80, 160), 3: (40, 80, 160), 4: (30, 60, 90)}
HIGHER = {("midpoint", "gaussian"): 3}  # the flow of a Gaussian has no h^2 term for this rule


def log_snr_times(n: int, behind: int = 0) -> Tensor:
    """From log-SNR 0 to 3 in n equal steps, and some before."""
    return SCHEDULE.t_from_log_snr(
        torch.linspace(-behind * 3 / n, 3, n + behind + 1, dtype=torch.float64)
    )


def ratio_times(n: int, behind: int = 0) -> Tensor:
    """From sigma/alpha = 1 to 0.3 in n equal steps, and some before."""
    ratios = torch.linspace(1 + behind * 0.7 / n, 0.3, n + behind + 1, dtype=torch.float64)
    return SCHEDULE.t_from_log_snr(-2 * ratios.log())


def flow(oracle: Denoiser, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The exact flow of a Gaussian; RK4 in 40 steps for each 0.1 of log-SNR otherwise."""
    if isinstance(oracle, ud.exact.Gaussian):
        return oracle.flow(x, t, s)
    ends = [float(SCHEDULE.log_snr(u)) for u in (t, s)]
    n = 2 + int(400 * abs(ends[1] - ends[0]))
    times = SCHEDULE.t_from_log_snr(torch.linspace(*ends, n, dtype=torch.float64))
    times[0], times[-1] = t, s
    rule = catalogue.parse("samplers", "rk4")
    return ud.sample(oracle, x.shape, rule, x_T=x, times=times, last_denoise=False)


def fit(counts: tuple[int, ...], errors: list[float]) -> float:
    return float(-np.polyfit(np.log(counts), np.log(errors), 1)[0])


def warm_error(rule: Sampler, oracle: Denoiser, times: Tensor, x_T: Tensor, behind: int) -> float:
    """The distance from the flow, x_T at times[behind], with exact values before it."""
    x, memory = flow(oracle, x_T, times[behind], times[0]), None
    first = x
    for i, (t, s) in enumerate(pairwise(times)):
        if 0 < i <= behind:
            x = x_T if i == behind else flow(oracle, first, times[0], t)
            if isinstance(rule, UniPC):  # what its corrector would make of the step before
                memory = memory._replace(x=flow(oracle, first, times[0], times[i - 1]))
        x, memory = rule.step(oracle, x, t, s, memory, torch.zeros_like)
    return float((x - flow(oracle, x_T, times[behind], times[-1])).norm())


@pytest.mark.parametrize(("text", "order", "cold"), ORDERS)
def test_with_exact_history(text: str, order: int, cold: int) -> None:
    rule, counts, behind = catalogue.parse("samplers", text), COUNTS[order], 3
    errors = [warm_error(rule, GAUSSIAN, log_snr_times(n, behind), X_T, behind) for n in counts]
    assert min(errors) > 1e-13
    order = HIGHER.get((text, "gaussian"), order)
    assert fit(counts, errors) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("data", ["gaussian", "mixture"])
@pytest.mark.parametrize(("text", "order", "cold"), ORDERS)
def test_from_a_cold_start(text: str, order: int, cold: int, data: str) -> None:
    oracle, exact = (GAUSSIAN if data == "gaussian" else MIXTURE), REFERENCE[data]
    cold = HIGHER.get((text, data), cold)
    counts, errors = COUNTS[cold], []
    for n in counts:
        x = ud.sample(oracle, X_T.shape, text, x_T=X_T, times=log_snr_times(n))
        errors.append(float((x - exact).norm()))
    assert fit(counts, errors) == pytest.approx(cold, abs=0.15)


REFERENCE = {
    "gaussian": flow(GAUSSIAN, X_T, *log_snr_times(1)),
    "mixture": flow(MIXTURE, X_T, *log_snr_times(1)),
}


@pytest.mark.parametrize(
    ("text", "order"),
    [
        *(("plms(order=2)", 2), ("plms(order=3)", 3), ("plms(order=4)", 4)),
        ("gradient-estimation(gamma=1.5)", 2),
    ],
)
def test_constants_are_made_for_equal_steps_in_sigma_over_alpha(text: str, order: int) -> None:
    rule, counts, behind = catalogue.parse("samplers", text), COUNTS[order], 3
    errors = [warm_error(rule, GAUSSIAN, ratio_times(n, behind), X_T, behind) for n in counts]
    assert fit(counts, errors) == pytest.approx(order, abs=0.15)


def test_every_deterministic_rule_is_here() -> None:
    named = {catalogue.parse("samplers", text).name for text, _, _ in ORDERS}
    rules = {name: catalogue.parse("samplers", name) for name in catalogue.names("samplers")}
    assert {name for name, rule in rules.items() if not rule.stochastic} <= named


def test_the_step_to_zero_is_first_order() -> None:
    """Every rule ends with the denoised estimate, and asks once."""
    t, s = torch.tensor([0.2, 0.0], dtype=torch.float64)
    assert level(SCHEDULE, 0.0).sigma == 0
    for text, _, _ in ORDERS:
        rule = catalogue.parse("samplers", text)
        x, _ = rule.step(MIXTURE, X_T, t, s, None, torch.zeros_like)
        assert torch.equal(x, MIXTURE(X_T, t)), text
