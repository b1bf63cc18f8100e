"""Discrete against the chain that it stands for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from undiffuse import catalogue
from undiffuse.errors import UndiffuseError
from undiffuse.schedules import Discrete

BETAS = st.lists(st.floats(1e-6, 0.999), min_size=1, max_size=30)


@given(betas=BETAS)
@settings(max_examples=100)
def test_at_k_over_t_it_is_the_cumulative_product(betas: list[float]) -> None:
    schedule, steps = Discrete(tuple(betas)), len(betas)
    alpha_bar = torch.tensor(np.cumprod(1 - np.array(betas)))
    t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    torch.testing.assert_close(schedule.alpha(t) ** 2, alpha_bar, rtol=1e-11, atol=0)
    torch.testing.assert_close(schedule.sigma(t) ** 2, 1 - alpha_bar, rtol=1e-9, atol=0)
    assert schedule.alpha(0.0) == 1
    assert schedule.sigma(0.0) == 0


@given(betas=BETAS, t=st.floats(0, 1))
@settings(max_examples=100)
def test_between_the_steps_minus_log_alpha_bar_is_linear(betas: list[float], t: float) -> None:
    schedule = Discrete(tuple(betas))
    knots = np.concatenate([[0], np.cumsum(-np.log1p(-np.array(betas)))])
    expected = np.interp(t * len(betas), np.arange(len(knots)), knots)
    assert float(schedule.integral(t)) == pytest.approx(expected, rel=1e-12, abs=1e-15)
    assert -2 * math.log(float(schedule.alpha(t))) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_linear_1000_is_the_list_of_ddpm() -> None:
    betas = np.linspace(1e-4, 0.02, 1000)
    schedule = Discrete.linear()
    assert schedule.steps == 1000
    np.testing.assert_allclose(schedule.betas, betas, rtol=1e-14)
    assert float(schedule.alpha(1.0)) ** 2 == pytest.approx(np.prod(1 - betas), rel=1e-11)


@pytest.mark.parametrize("steps", [100, 200, 500])
def test_shorter_linear_lists_end_in_noise_too(steps: int) -> None:
    schedule = Discrete.linear(steps)
    assert schedule.steps == steps
    assert schedule.betas[0] == pytest.approx(0.1 / steps)
    assert schedule.betas[-1] == pytest.approx(20 / steps)
    assert sum(schedule.betas) == pytest.approx(10.05)
    assert 0 < float(schedule.alpha(1.0)) ** 2 < 5e-5
    unscaled = Discrete(tuple(torch.linspace(1e-4, 0.02, 200, dtype=torch.float64).tolist()))
    assert float(unscaled.alpha(1.0)) ** 2 == pytest.approx(0.1322, abs=1e-4)  # an image still


def test_a_beta_of_1_points_to_zero_terminal_snr() -> None:
    with pytest.raises(UndiffuseError, match=r"beta_2 = 1\.0; .*ZeroTerminalSNR"):
        Discrete((0.1, 1.0))


@pytest.mark.parametrize("betas", [(), (0.0,), (0.1, -0.1), (math.nan,), (1.5,), ("a",)])
def test_impossible_lists_are_refused(betas: tuple[float, ...]) -> None:
    with pytest.raises(UndiffuseError, match="Discrete: beta"):
        Discrete(betas)


@pytest.mark.parametrize("steps", [20, 5, 0, -3])
def test_too_few_linear_steps_are_refused(steps: int) -> None:
    with pytest.raises(UndiffuseError, match=r"Discrete\.linear: .* use more than 20 steps"):
        Discrete.linear(steps)
    assert Discrete.linear(21).steps == 21


def test_a_list_in_text_and_in_json() -> None:
    assert catalogue.parse("schedules", "discrete(betas=[0.1, 0.2])") == Discrete((0.1, 0.2))
    assert catalogue.parse("schedules", "discrete.linear(steps=40)") == Discrete.linear(40)
    made = Discrete([0.1, 0.2])  # type: ignore[arg-type]
    assert made.betas == (0.1, 0.2)
    assert hash(made) == hash(Discrete((0.1, 0.2)))


@given(beta=st.floats(1e-4, 0.5), k=st.integers(1, 40))
def test_constant_is_the_toy_chain_of_lecture_001(beta: float, k: int) -> None:
    schedule, mean, variance = Discrete.constant(40, beta), 1.0, 0.0
    for _ in range(k):  # X = sqrt(1 - p) X + sqrt(p) u
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
    assert float(schedule.alpha(k / 40)) == pytest.approx(mean, rel=1e-12)
    assert float(schedule.alpha(k / 40)) == pytest.approx((1 - beta) ** (k / 2), rel=1e-12)
    assert float(schedule.sigma(k / 40)) ** 2 == pytest.approx(variance, rel=1e-10)
    assert float(schedule.sigma(k / 40)) ** 2 == pytest.approx(1 - (1 - beta) ** k, rel=1e-10)


def test_errata_001_one_step_of_the_toy_chain_is_no_standard_normal() -> None:
    """Printed: X_1 = sqrt(1 - p) X_0 + sqrt(p) u ~ N(0, I); that is the limit of many steps."""
    schedule = Discrete.constant(2000, beta=0.01)
    assert float(schedule.alpha(1 / 2000)) == pytest.approx(0.995, abs=1e-4)  # X_0 is still there
    assert float(schedule.sigma(1 / 2000)) ** 2 == pytest.approx(0.01)
    assert float(schedule.alpha(1.0)) < 5e-5
    assert float(schedule.sigma(1.0)) ** 2 == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize(("steps", "beta"), [(0, 0.01), (-1, 0.01), (2.5, 0.01), (3, 0.0), (3, 1)])
def test_impossible_toy_chains_are_refused(steps: int, beta: float) -> None:
    with pytest.raises(UndiffuseError, match="Discrete"):
        Discrete.constant(steps, beta)
