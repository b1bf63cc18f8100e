r"""Gradient estimation: the lecture's loop, and what gamma and mu make of it."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

import undiffuse as ud
from undiffuse.errors import UndiffuseError
from undiffuse.noise import Stream
from undiffuse.samplers import DDIM, GradientEstimation
from undiffuse.samplers.loop import noise_of, walk
from undiffuse.schedules.base import Schedule

MEANS = torch.tensor([[-1.0, 0.2], [0.9, 0.4], [0.0, -1.0]])
X_T = torch.tensor([[1.0, -0.5], [-0.2, 0.8], [0.3, 1.1]], dtype=torch.float64)


def test_mu_one_half_is_ancestral_sampling(schedule: Schedule) -> None:
    r"""gamma = 1, mu = 1/2: the posterior's mean and \tilde\beta, under any schedule."""
    oracle = ud.exact.GaussianMixture(MEANS, None, schedule, std=0.3)
    one, two, three = (
        ud.sample(oracle, (3, 2), rule, steps=10, grid="uniform", x_T=X_T, seed=3)
        for rule in ("gradient-estimation(gamma=1, mu=0.5)", "ddpm(variance=0)", "ddim(eta=1)")
    )
    torch.testing.assert_close(one, two, rtol=0, atol=1e-12)
    torch.testing.assert_close(one, three, rtol=0, atol=1e-12)


def test_without_either_it_is_ddim(schedule: Schedule) -> None:
    oracle = ud.exact.GaussianMixture(MEANS, None, schedule, std=0.3)
    one, two = (
        ud.sample(oracle, (3, 2), rule, steps=10, grid="uniform", x_T=X_T)
        for rule in (GradientEstimation(gamma=1.0, mu=0.0), DDIM())
    )
    torch.testing.assert_close(one, two, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("gamma", "mu"), [(2.0, 0.0), (1.5, 0.3), (1.0, 0.8)])
def test_the_lectures_loop(gamma: float, mu: float) -> None:
    """Lecture 003, with sigma for sigma / alpha: sig_prev == sig**mu * sig_p**(1 - mu)."""
    schedule = ud.schedules.VE(sigma_max=20.0)
    oracle = ud.exact.GaussianMixture(MEANS, None, schedule, std=0.3)
    times = torch.linspace(0.9, 0.3, 8, dtype=torch.float64)
    stream = Stream(5, (0, 1, 2))
    x, eps = 10 * X_T, None
    for n, (t, s) in enumerate(pairwise(times)):
        sig, sig_prev = schedule.sigma(t), schedule.sigma(s)
        eps, eps_prev = oracle.noise(x, t), eps
        eps_av = eps * gamma + eps_prev * (1 - gamma) if eps_prev is not None else eps
        sig_p = (sig_prev / sig**mu) ** (1 / (1 - mu))
        eta = (sig_prev**2 - sig_p**2).clamp(min=0).sqrt()
        x = x - (sig - sig_p) * eps_av + eta * noise_of(stream, n + 1)(x)
    rule = GradientEstimation(gamma, mu)
    *_, last = walk(oracle, 10 * X_T, times, rule, stream)
    rounding = 1e-6 if mu == 0 else 1e-9  # the root of sig_prev**2 - sig_p**2, which is 0 there
    torch.testing.assert_close(last.x, x, rtol=0, atol=rounding)


@pytest.mark.parametrize("mu", [0.0, 0.5, 0.9])
def test_no_noise_is_left_at_zero(mu: float) -> None:
    """At sigma = 0 sigma_p is 0: the sample is the denoised estimate itself."""
    oracle = ud.exact.GaussianMixture(MEANS, None, ud.schedules.Flow(), std=0.3)
    path = ud.sample(oracle, (8, 2), GradientEstimation(2.0, mu), steps=6, trajectory=True)
    assert torch.equal(path.x[-1], path.x0_hat[-1])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"gamma": 0.5}, "gamma must be at least 1"),
        ({"gamma": float("nan")}, "gamma must be"),
        ({"mu": 1.0}, r"mu must be in \[0, 1\)"),
        ({"mu": -0.1}, r"mu must be in \[0, 1\)"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, float], sentence: str) -> None:
    with pytest.raises(UndiffuseError, match=sentence):
        GradientEstimation(**options)
