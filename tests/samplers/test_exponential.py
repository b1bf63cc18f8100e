"""The multistep kernel: exact weights, and the order that its start allows."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from torch import Tensor

import undiffuse as ud
from undiffuse.errors import UndiffuseError
from undiffuse.samplers import ExponentialAdams
from undiffuse.samplers.multistep import multistep_weights
from undiffuse.schedules.base import Schedule

MEAN = torch.tensor([0.3, -0.2, 0.1])
COV = torch.diag(torch.tensor([0.25, 0.49, 1.0]))
COUNTS = (40, 80, 160, 320)


# ------------------------------------------------------------------ the weights


@given(
    gaps=st.lists(st.floats(0.05, 3.0), min_size=1, max_size=4),
    length=st.floats(-4.0, 4.0).filter(lambda h: abs(h) > 1e-3),
    start=st.floats(-6.0, 6.0),
    data=st.data(),
)
def test_weights_are_exact_for_polynomials(
    gaps: list[float], length: float, start: float, data: st.DataObject
) -> None:
    """sum_j w_j p(u_j) = int p(u) exp(u - start) du for every p of degree < number of knots."""
    knots = start - math.copysign(1, length) * np.cumsum([0.0, *gaps[1:]])  # behind the step
    coefficients = [data.draw(st.floats(-1, 1)) for _ in knots]

    def p(u: float) -> float:
        return float(np.polyval(coefficients, u - start))

    weights = multistep_weights(knots.tolist(), start, start + length)
    exact, _ = quad(lambda u: p(u) * math.exp(u - start), start, start + length, epsabs=1e-13)
    found = sum(w * p(knot) for w, knot in zip(weights, knots, strict=True))
    scale = sum(abs(w * p(knot)) for w, knot in zip(weights, knots, strict=True))
    assert found == pytest.approx(exact, rel=1e-10, abs=1e-10 * (1 + scale))


@given(start=st.floats(-10, 10), length=st.floats(-18, 18))
def test_one_knot_is_ddims_factor(start: float, length: float) -> None:
    (weight,) = multistep_weights([start], start, start + length)
    assert weight == pytest.approx(math.expm1(start + length - start), rel=1e-9, abs=1e-12)


# ------------------------------------------------------------------ the rule


def test_order_one_is_ddim(schedule: Schedule) -> None:
    oracle = ud.exact.GaussianMixture(
        torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), None, schedule, std=0.3
    )
    x_T = torch.randn(8, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one, two = (
        ud.sample(oracle, (8, 2), rule, steps=12, x_T=x_T)
        for rule in ("exponential-adams(order=1)", "ddim")
    )
    torch.testing.assert_close(one, two, rtol=0, atol=1e-12)


def smooth_problem(n: int) -> tuple[ud.exact.Gaussian, Tensor, Tensor]:
    """A Gaussian, n steps that are equal in log-SNR and keep off both ends, and a start."""
    schedule = ud.schedules.VP()
    oracle = ud.exact.Gaussian(MEAN, schedule, cov=COV)
    times = schedule.t_from_log_snr(torch.linspace(-4, 6, n + 1, dtype=torch.float64))
    x_T = torch.tensor([[1.0, -0.5, 0.3], [-0.2, 0.8, 1.1]], dtype=torch.float64)
    return oracle, times, x_T


def fitted_order(errors: list[float]) -> float:
    return float(-np.polyfit(np.log(COUNTS), np.log(errors), 1)[0])


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_cold_start_gives_second_order(order: int) -> None:
    """The first step is DDIM's, whose local error h^2 stays: min(order, 2), however smooth."""
    errors = []
    for n in COUNTS:
        oracle, times, x_T = smooth_problem(n)
        x = ud.sample(oracle, x_T.shape, ExponentialAdams(order), x_T=x_T, times=times)
        errors.append(float((x - oracle.flow(x_T, times[0], times[-1])).norm()))
    assert fitted_order(errors) == pytest.approx(min(order, 2), abs=0.1)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_warm_start_gives_the_full_order(order: int) -> None:
    """With exact values to remember, the error falls like h^order."""
    errors, rule = [], ExponentialAdams(order)
    for n in COUNTS:
        oracle, times, x_T = smooth_problem(n)
        x, memory = x_T, None
        for i, (t, s) in enumerate(pairwise(times)):
            if i < order:
                x = oracle.flow(x_T, times[0], t)  # what a step remembers of it is exact
            x, memory = rule.step(oracle, x, t, s, memory, torch.zeros_like)
        errors.append(float((x - oracle.flow(x_T, times[0], times[-1])).norm()))
    assert fitted_order(errors) == pytest.approx(order, abs=0.15)


def test_memory_is_a_value() -> None:
    """A step can be taken again from the same memory, which holds at most `order` values."""
    oracle, times, x = smooth_problem(10)
    rule, memory = ExponentialAdams(3), None
    for t, s in pairwise(times[:7]):
        x, memory = rule.step(oracle, x, t, s, memory, torch.zeros_like)
    once, _ = rule.step(oracle, x, times[6], times[7], memory, torch.zeros_like)
    again, _ = rule.step(oracle, x, times[6], times[7], memory, torch.zeros_like)
    assert torch.equal(once, again)
    assert len(memory) == 3


@pytest.mark.parametrize("kind", ["edm", "vp"])
def test_the_default_beats_ddim_on_a_mixture(kind: str) -> None:
    """From sigma/alpha = 80 at 20 steps: at least 4 times nearer to the true end than DDIM."""
    schedule = ud.catalogue.parse("schedules", kind)
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.3], [0.0, 1.0]])
    oracle = ud.exact.GaussianMixture(means, None, schedule, std=0.25)
    x_T = ud.sample(oracle, (64, 2), steps=1, trajectory=True).x[0].double()
    true = ud.sample(oracle, (64, 2), steps=320, x_T=x_T)
    default, first = (
        (ud.sample(oracle, (64, 2), rule, steps=20, x_T=x_T) - true).norm()
        for rule in (ud.samplers.loop.DEFAULT, "ddim")
    )
    assert float(first / default) > 4


@pytest.mark.parametrize("order", [0, 5, 2.5])
def test_an_order_out_of_range_is_refused(order: int) -> None:
    with pytest.raises(UndiffuseError, match="order must be 1, 2, 3 or 4"):
        ExponentialAdams(order)
