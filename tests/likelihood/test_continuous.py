"""The bound in continuous time: tight for the true denoiser, and the same for every schedule."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from undiffuse.errors import UndiffuseError
from undiffuse.exact import Gaussian, GaussianMixture
from undiffuse.likelihood import chain_bound, continuous_bound
from undiffuse.likelihood.continuous import noise_error
from undiffuse.schedules import EDM, VP, Cosine, Flow
from undiffuse.schedules.base import Schedule

ENDS = (-8.0, 9.0)
MEAN, STD = 0.5, 0.6
NLL = math.log(2 * math.pi * math.e * STD**2) / 2
FAMILIES = [VP(), Cosine(), Flow(), EDM()]


def prior(schedule: Schedule) -> dict[str, Any]:
    t = schedule.t_from_log_snr(ENDS[0])
    spread = torch.sqrt(schedule.alpha(t) ** 2 * STD**2 + schedule.sigma(t) ** 2)
    return {"prior_mean": schedule.alpha(t) * MEAN, "prior_std": spread}


@pytest.mark.parametrize("schedule", FAMILIES)
def test_for_a_gaussian_the_integral_is_known_and_the_bound_is_tight(
    exact: Any, schedule: Schedule
) -> None:
    """E |eps - eps_hat|^2 = sigmoid(log_snr + log c), the slope of softplus."""
    oracle = Gaussian(torch.tensor([MEAN]), schedule, std=STD)
    bound = continuous_bound(
        oracle, exact.x_0, ENDS, noise=exact.noise, variance="own", **prior(schedule)
    )
    low, high = torch.tensor(ENDS, dtype=torch.float64) + 2 * math.log(STD)
    softplus = torch.nn.functional.softplus
    expected = float(softplus(high) - softplus(low)) / 2
    assert exact.mean(bound.diffusion) == pytest.approx(expected, abs=1e-10)
    assert exact.mean(bound.total) == pytest.approx(NLL, abs=1e-10)


def test_it_is_the_same_for_every_schedule_between_the_same_ends() -> None:
    """Integrated over each schedule's own time, with its own speed: VDM's invariance."""
    mixture = GaussianMixture(torch.tensor([[-1.0, 0.2], [1.0, 0.0]]), None, VP(), std=0.3)
    x_0 = mixture.draw(5)
    noise = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def integral(schedule: Schedule, variable: str, points: int) -> torch.Tensor:
        oracle = mixture.with_schedule(schedule)
        options: Any = {"noise": noise, "variable": variable, "points": points}
        return continuous_bound(oracle, x_0, (-6.0, 5.0), **options).diffusion.sum((0, 1))

    reference = integral(VP(), "log-snr", 80)
    for schedule in FAMILIES:
        torch.testing.assert_close(
            integral(schedule, "log-snr", 80), reference, rtol=1e-8, atol=1e-8
        )
        over_t = integral(schedule, "t", 160)
        torch.testing.assert_close(over_t, reference, rtol=1e-7, atol=1e-7)
        assert float((integral(schedule, "t", 3) - reference).abs().max()) > 1e-3


def test_it_is_the_limit_of_many_steps(exact: Any) -> None:
    schedule = VP()
    oracle = Gaussian(torch.tensor([MEAN]), schedule, std=STD)
    whole = continuous_bound(oracle, exact.x_0, ENDS, noise=exact.noise)
    limit, errors = exact.mean(whole.total), []
    for steps in (50, 100, 200):
        log_snrs = torch.linspace(*ENDS, steps + 1, dtype=torch.float64)
        times = schedule.t_from_log_snr(log_snrs)
        bound = chain_bound(oracle, exact.x_0, times, noise=exact.noise, variance=0.0)
        assert exact.mean(bound.reconstruction) == pytest.approx(exact.mean(whole.reconstruction))
        errors.append(exact.mean(bound.total) - limit)
    assert errors[0] > 1.9 * errors[1] > 3.6 * errors[2] > 0  # from above, like 1 / T


def test_the_stratified_estimate_agrees_within_its_error() -> None:
    oracle = Gaussian(torch.full((4,), MEAN), Flow(), std=STD)
    x_0 = oracle.draw(400, seed=2)
    options: Any = {"variance": "own", **prior(Flow())}
    for rule in ("stratified", "quadrature"):
        bound = continuous_bound(oracle, x_0, ENDS, points=32, rule=rule, draws=2, **options)
        assert abs(bound.nats - 4 * NLL) < 4 * bound.standard_error
        assert bound.diffusion.shape == (32, 2, 400)
        assert float(bound.diffusion.min()) >= 0


def test_the_integrand_is_the_error_of_the_noise() -> None:
    oracle = GaussianMixture(torch.tensor([[-1.0], [1.0]]), None, VP(), std=0.2)
    x_0, noise = torch.randn(2, 6, 1, dtype=torch.float64, generator=torch.Generator())
    t = torch.linspace(0.1, 1, 6, dtype=torch.float64)
    x_t = VP().alpha(t)[:, None] * x_0 + VP().sigma(t)[:, None] * noise
    expected = (oracle.noise(x_t, t) - noise).square().sum(1)
    torch.testing.assert_close(noise_error(oracle, x_0, t, noise), expected)


def test_mistakes() -> None:
    oracle = Gaussian(torch.zeros(1), VP(), std=1.0)
    x_0 = oracle.draw(2)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"log_snr_range": (-20.0, 5.0)}, "must rise within"),
        ({"log_snr_range": (5.0, -5.0)}, "must rise within"),
        ({"rule": "quadratur"}, "did you mean 'quadrature'"),
        ({"variable": "s"}, "no variable"),
        ({"decoder": "x"}, "no decoder"),
        ({"points": 0}, "points must be at least 1"),
    ]
    for options, message in wrong:
        with pytest.raises(UndiffuseError, match=message):
            continuous_bound(oracle, x_0, **options)
    assert continuous_bound(oracle, x_0, points=2).nats > 0
