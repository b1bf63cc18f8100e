"""SDE-DPM-Solver++: the published formulas, and what it becomes at the ends of its options."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.errors import UndiffuseError
from undiffuse.noise import Stream
from undiffuse.samplers import DDPM, DPMSolver, SDEDPMSolver
from undiffuse.samplers.base import Sampler
from undiffuse.schedules.base import Schedule

POINTS = torch.tensor([[-1.0, 0.5], [0.8, -0.3], [0.1, 0.9]])


def mixture(schedule: Schedule) -> ud.exact.GaussianMixture:
    return ud.exact.GaussianMixture(POINTS, None, schedule, std=0.3)


def stepped(rule: Sampler, schedule: Schedule, times: Tensor, x: Tensor, z: Tensor) -> Tensor:
    oracle, memory = mixture(schedule), None
    for k, (t, s) in enumerate(pairwise(times)):
        x, memory = rule.step(oracle, x, t, s, memory, lambda like, k=k: z[k])
    return x


def numbers(n: int) -> tuple[Tensor, Tensor]:
    """A start [4, 2] and the noise of n steps [n, 4, 2]."""
    drawn = Stream(4, (0, 1, 2, 3)).draw((n + 1, 2), step=0).double().transpose(0, 1)
    return drawn[0], drawn[1:]


@pytest.mark.parametrize("eta", [0.3, 1.0, 2.0])
def test_2m_is_the_published_loop(eta: float) -> None:
    """As in k-diffusion, in x with alpha = 1: t is -log sigma, `midpoint` form, s_noise 1."""
    schedule, n = ud.schedules.EDM(), 12
    oracle, times = mixture(schedule), torch.linspace(0.95, 0.1, n + 1, dtype=torch.float64)
    x, z = numbers(n)
    x = 50 * x
    found = stepped(SDEDPMSolver(eta=eta), schedule, times, x, z)
    sigmas, old, h_last = schedule.sigma(times), torch.zeros_like(x), 0.0
    for i in range(n):
        denoised = oracle(x, times[i])
        h = float((sigmas[i] / sigmas[i + 1]).log())
        eta_h = eta * h
        x = sigmas[i + 1] / sigmas[i] * math.exp(-eta_h) * x
        x = x + -math.expm1(-h - eta_h) * denoised
        if i > 0:
            r = h_last / h
            x = x + 0.5 * -math.expm1(-h - eta_h) * (1 / r) * (denoised - old)
        x = x + z[i] * sigmas[i + 1] * math.sqrt(-math.expm1(-2 * eta_h))
        old, h_last = denoised, h
    torch.testing.assert_close(found, x, rtol=0, atol=1e-10)


def test_order_1_with_eta_1_is_ancestral_sampling(schedule: Schedule) -> None:
    r"""Lu et al. 2022: it is the posterior's mean with the variance \tilde\beta."""
    times = ud.grids.Uniform().times(schedule, 10)
    x, z = numbers(10)
    one, two = (
        stepped(rule, schedule, times, x, z) for rule in (SDEDPMSolver(order=1), DDPM(variance=0))
    )
    torch.testing.assert_close(one, two, rtol=0, atol=1e-10)


@pytest.mark.parametrize("order", [1, 2])
def test_without_noise_it_is_dpm_solver_bit_for_bit(schedule: Schedule, order: int) -> None:
    oracle = mixture(schedule)
    one, two = (
        ud.sample(oracle, (8, 2), rule, steps=9, seed=1, trajectory=True)
        for rule in (SDEDPMSolver(order, eta=0), DPMSolver(order))
    )
    assert torch.equal(one.x, two.x)
    nearly = ud.sample(oracle, (8, 2), SDEDPMSolver(order, eta=1e-9), steps=9, seed=1)
    torch.testing.assert_close(nearly, one.x[-1], rtol=0, atol=1e-3)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_a_point_is_reached_with_its_exact_noise(order: int, eta: float) -> None:
    """With one point as data x0_hat is constant, so the marginals are exact at any step size."""
    schedule = ud.schedules.VP()
    oracle = ud.exact.Gaussian(torch.zeros(4000), schedule, std=0.0)
    times = torch.tensor([1.0, 0.7, 0.3], dtype=torch.float64)
    x = ud.sample(oracle, (4, 4000), SDEDPMSolver(order, eta), times=times, last_denoise=False)
    assert float(x.var() / schedule.sigma(0.3) ** 2) == pytest.approx(1, abs=4 * (2 / 16e3) ** 0.5)


def test_a_step_can_be_taken_again_from_the_same_memory() -> None:
    schedule, rule = ud.schedules.VP(), SDEDPMSolver()
    oracle, times = mixture(schedule), torch.linspace(0.9, 0.6, 4, dtype=torch.float64)
    (x, z), memory = numbers(1), None
    for t, s in pairwise(times[:3]):
        x, memory = rule.step(oracle, x, t, s, memory, lambda like: z[0])
    one, two = (rule.step(oracle, x, times[2], times[3], memory, lambda like: z[0]) for _ in "ab")
    assert torch.equal(one[0], two[0])


def test_options_out_of_range_are_refused() -> None:
    for order in (0, 3, 1.5):
        with pytest.raises(UndiffuseError, match="SDEDPMSolver: order must be 1 or 2"):
            SDEDPMSolver(order=order)  # type: ignore[arg-type]
    for eta in (-0.1, 11, math.nan, True):
        with pytest.raises(UndiffuseError, match=r"SDEDPMSolver: eta must be in \[0, 10\]"):
            SDEDPMSolver(eta=eta)
