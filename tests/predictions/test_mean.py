"""The mean of the next step: lectures 000, 002, 004, with the bars where they belong."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from undiffuse import catalogue, process
from undiffuse.errors import UndiffuseError
from undiffuse.exact import GaussianMixture
from undiffuse.predictions import Data, Mean, Noise
from undiffuse.schedules import EDM, VP, Discrete, Flow

CHAIN = Discrete.linear(100)
BETA = torch.tensor(CHAIN.betas, dtype=torch.float64)  # of steps 1 ... T
BAR = (1 - BETA).cumprod(0)
BAR_BEFORE = torch.cat([torch.ones(1, dtype=torch.float64), BAR[:-1]])
K = torch.arange(1, 101, dtype=torch.float64)


def steps(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """alpha, sigma, x_0, noise and x_t at every step of the chain, [100]."""
    generator = torch.Generator().manual_seed(seed)
    x_0, noise = torch.randn(2, 100, dtype=torch.float64, generator=generator)
    alpha, sigma = CHAIN.alpha(K / 100), CHAIN.sigma(K / 100)
    return alpha, sigma, x_0, noise, alpha * x_0 + sigma * noise


def far(actual: Tensor, printed: Tensor) -> None:
    assert float((actual - printed).norm() / actual.norm()) > 0.05


def test_the_target_is_the_mean_printed_in_the_lectures() -> None:
    """sqrt(alpha_k) without a bar multiplies x_t; lecture 002 prints one."""
    alpha, sigma, x_0, noise, x_t = steps()
    mu = Mean(schedule=CHAIN).target(x_0, noise, alpha, sigma)
    on_x_0 = BAR_BEFORE.sqrt() * BETA / (1 - BAR)
    on_x_t = (1 - BETA).sqrt() * (1 - BAR_BEFORE) / (1 - BAR)
    torch.testing.assert_close(mu, on_x_0 * x_0 + on_x_t * x_t, rtol=1e-9, atol=1e-9)
    with_bar = BAR.sqrt() * (1 - BAR_BEFORE) / (1 - BAR)
    far(mu, on_x_0 * x_0 + with_bar * x_t)


def test_it_is_noise_prediction_in_other_words() -> None:
    """mu = (x_k - beta_k / sqrt(1 - bar) eps) / sqrt(alpha_k); the printed bars are misplaced."""
    alpha, sigma, x_0, noise, x_t = steps()
    mu = Mean(schedule=CHAIN).target(x_0, noise, alpha, sigma)
    right = (x_t - BETA / (1 - BAR).sqrt() * noise) / (1 - BETA).sqrt()
    torch.testing.assert_close(mu, right, rtol=1e-9, atol=1e-9)
    far(mu, (x_t - BETA / (1 - BAR).sqrt() * noise) / BAR.sqrt())  # 001, algorithm 2
    far(mu, (x_t - BETA / BETA.sqrt() * noise) / (1 - BETA).sqrt())  # 002: sqrt(1 - alpha_k)


def test_three_predictions_of_one_network_are_one_denoiser() -> None:
    """mean <=> noise <=> data, lecture 004: any F of one is an F of the others."""
    alpha, sigma, _, F, x_t = steps()
    kinds = Mean(schedule=CHAIN), Noise(), Data()
    x0_hat = [k.skip(alpha, sigma) * x_t + k.out(alpha, sigma) * F for k in kinds]
    for kind in kinds:
        for other, x_0 in zip(kinds, x0_hat, strict=True):
            noise = (x_t - alpha * x_0) / sigma
            F_of_kind = kind.target(x_0, noise, alpha, sigma)
            back = kind.skip(alpha, sigma) * x_t + kind.out(alpha, sigma) * F_of_kind
            torch.testing.assert_close(back, x_0, rtol=1e-8, atol=1e-8)
            if kind is other:
                torch.testing.assert_close(F_of_kind, F, rtol=1e-8, atol=1e-8)


def test_the_target_is_the_mean_of_the_process() -> None:
    alpha, sigma, x_0, noise, x_t = steps(1)
    mu, _ = process.posterior(CHAIN, x_t, x_0, K / 100, (K - 1) / 100)
    torch.testing.assert_close(Mean(schedule=CHAIN).target(x_0, noise, alpha, sigma), mu)


def test_the_first_step_predicts_the_data() -> None:
    mean = Mean(schedule=CHAIN)
    for t in (0.0, 0.001, 0.01):
        alpha, sigma = CHAIN.alpha(t), CHAIN.sigma(t)
        assert mean.skip(alpha, sigma).item() == pytest.approx(0, abs=1e-12)
        assert mean.out(alpha, sigma).item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("other", [VP(), Flow(), EDM()])
def test_under_another_schedule_x_t_is_brought_to_the_chain(other: VP | Flow | EDM) -> None:
    """The network's task depends on the log-SNR alone, so F is the same for every scale of x_t."""
    mean = Mean(schedule=CHAIN)
    generator = torch.Generator().manual_seed(2)
    x_0, noise = torch.randn(2, 9, dtype=torch.float64, generator=generator)
    log_snr = torch.linspace(-4, 4, 9, dtype=torch.float64)
    targets = [
        mean.target(x_0, noise, s.alpha(t), s.sigma(t))
        for s, t in ((s, s.t_from_log_snr(log_snr)) for s in (CHAIN, other))
    ]
    torch.testing.assert_close(*targets, rtol=1e-9, atol=1e-9)


def test_the_exact_denoiser_in_its_terms() -> None:
    """E[mu | x_t] is the mean of p(x_s | x_t): the posterior of x_0 enters linearly."""
    oracle = GaussianMixture(torch.tensor([[-1.0], [2.0]]), None, CHAIN, std=0.2)
    x = torch.linspace(-2, 2, 7, dtype=torch.float64)[:, None]
    alpha, sigma = CHAIN.alpha(0.5), CHAIN.sigma(0.5)
    mu = Mean(schedule=CHAIN).target(oracle(x, 0.5), oracle.noise(x, 0.5), alpha, sigma)
    expected, _ = process.posterior(CHAIN, x, oracle(x, 0.5), 0.5, 0.49)
    torch.testing.assert_close(mu, expected)


def test_as_a_table_of_a_recipe() -> None:
    table = {"name": "mean", "schedule": {"kind": "schedules.discrete", "betas": [0.1, 0.2]}}
    assert catalogue.build(table, "predictions") == Mean(schedule=Discrete((0.1, 0.2)))
    with pytest.raises(UndiffuseError, match="schedule must be a discrete schedule"):
        Mean(schedule=VP())  # type: ignore[arg-type]
