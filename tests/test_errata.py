"""Formulas that lectures print wrongly: the right one holds here, and the printed one fails.

Each test is named after the lecture and the place, computes both formulas, and compares them with
what the package does.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from undiffuse import process
from undiffuse.broadcast import over
from undiffuse.exact import FiniteSet, Gaussian, GaussianMixture
from undiffuse.guidance import ClassifierFree
from undiffuse.predictions import Data, Noise
from undiffuse.samplers import DDIM, DDPM
from undiffuse.schedules import EDM, VP, Cosine, Discrete, Flow
from undiffuse.schedules.base import Schedule

CHAIN = Discrete.linear(200)
K = 100  # a step in the middle of the chain, where alpha_bar is 0.08
T, S = K / 200, (K - 1) / 200
BETA = torch.tensor(CHAIN.betas, dtype=torch.float64)[K - 1]
ALPHA = 1 - BETA
ALPHA_BAR = torch.prod(1 - torch.tensor(CHAIN.betas[:K], dtype=torch.float64))
ALPHA_BAR_BEFORE = ALPHA_BAR / ALPHA


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def same(actual: Tensor, right: Tensor, rtol: float = 1e-9) -> None:
    torch.testing.assert_close(actual, right, rtol=rtol, atol=1e-12)


def different(actual: Tensor, printed: Tensor, by: float = 0.05) -> None:
    """Far apart compared with the size of what is right."""
    assert float((actual - printed).norm() / actual.norm()) > by


def integrate(rate: Callable[[float, float], float], start: float, a: float, b: float) -> float:
    """y(b) for dy/dt = rate(t, y), y(a) = start."""
    solved = solve_ivp(lambda t, y: [rate(t, y[0])], (a, b), [start], rtol=1e-6, atol=1e-8)
    return float(solved.y[0, -1])


# ------------------------------------------------------------------ lecture 000


def test_000_forward_drift_is_half_of_beta() -> None:
    """(F) with drift -beta x has stationary variance 1/2 and the factor alpha, not its root."""
    schedule, one = VP(), torch.ones(1, dtype=torch.float64)

    def beta(t: float) -> float:
        return float(schedule.beta(t))

    for t in (0.1, 0.5, 1.0):
        same(process.drift(schedule, one, t), -schedule.beta(t) / 2 * one)
        different(process.drift(schedule, one, t), -schedule.beta(t) * one)
        same(process.diffusion(schedule, t) ** 2, schedule.beta(t))

    alpha_k = math.exp(-float(schedule.integral(0.4)))
    mean = integrate(lambda t, m: -beta(t) * m / 2, 1.0, 0, 0.4)
    printed_mean = integrate(lambda t, m: -beta(t) * m, 1.0, 0, 0.4)
    assert float(schedule.alpha(0.4)) == pytest.approx(mean, rel=1e-4)
    assert mean == pytest.approx(math.sqrt(alpha_k), rel=1e-4)
    assert printed_mean == pytest.approx(alpha_k, rel=1e-4)

    variance = integrate(lambda t, v: -beta(t) * v + beta(t), 0.0, 0, 1)
    printed_variance = integrate(lambda t, v: -2 * beta(t) * v + beta(t), 0.0, 0, 1)
    assert float(schedule.sigma(1.0)) ** 2 == pytest.approx(variance, rel=1e-4)
    assert variance == pytest.approx(1, abs=1e-4)
    assert printed_variance == pytest.approx(0.5, abs=1e-4)


def test_000_reverse_drift_has_the_other_sign_and_half_of_beta() -> None:
    """(R): beta (x / 2 + score) in forward-running reversed time, not beta (x + score)."""
    schedule, x = VP(), normal(5)
    score, beta = -x / 0.7, schedule.beta(0.3)
    drift = -process.reverse_drift(schedule, x, 0.3, score)
    same(drift, beta * (x / 2 + score))
    different(drift, beta * (x + score))
    different(drift, -beta * (x / 2 + score))


def variance_of_reverse_sde(
    drift: Callable[[float, float], float], c: float, end: float = 1.0
) -> float:
    """Var(x) if the reverse SDE of VP starts in p_1 and runs for u = 0 ... end.

    `drift(u, V)` is the factor of x in its drift, V the variance of p at time 1 - u.
    """
    schedule = VP()

    def V(t: float) -> float:
        return float((schedule.alpha(t) * c) ** 2 + schedule.sigma(t) ** 2)

    def rate(u: float, v: float) -> float:
        return 2 * drift(u, V(1 - u)) * v + float(schedule.beta(1 - u))

    return integrate(rate, V(1.0), 0.0, end)


def test_000_reverse_time_stands_in_all_places() -> None:
    """(R) prints beta(t); the reversed process needs beta(T - t) throughout."""
    schedule, c = VP(), 0.5

    def right(u: float, V: float) -> float:
        return float(schedule.beta(1 - u)) * (0.5 - 1 / V)

    def printed(u: float, V: float) -> float:
        return float(schedule.beta(u)) * (0.5 - 1 / V)

    assert variance_of_reverse_sde(right, c) == pytest.approx(c**2, rel=1e-4)
    assert variance_of_reverse_sde(printed, c) != pytest.approx(c**2, rel=0.2)
    one = torch.ones(1, dtype=torch.float64)
    here = -process.reverse_drift(schedule, one, 0.3, -one / 0.7)
    assert float(here) == pytest.approx(right(0.7, 0.7), rel=1e-9)


def test_000_the_discretisation_is_exact_only_with_x_0_drawn_from_its_posterior() -> None:
    """With the point estimate x0_hat the variance of x_s lacks (coefficient)^2 Var(x_0 | x_t)."""
    c, t, s = 0.8, 0.6, 0.3
    schedule = VP()
    alpha_t, sigma_t = schedule.alpha(t), schedule.sigma(t)
    V_t = (alpha_t * c) ** 2 + sigma_t**2
    V_s = (schedule.alpha(s) * c) ** 2 + schedule.sigma(s) ** 2
    zero, one = torch.zeros(1, 1).double(), torch.ones(1, 1).double()
    on_x_t, std = process.posterior(schedule, one, zero, t, s)
    on_x_0, _ = process.posterior(schedule, zero, one, t, s)
    gain = alpha_t * c**2 / V_t  # x0_hat = gain x_t
    spread = c**2 - gain * alpha_t * c**2  # Var(x_0 | x_t)
    point = (on_x_t + on_x_0 * gain) ** 2 * V_t + std**2
    drawn = point + on_x_0**2 * spread
    same(drawn, V_s.expand(1, 1))
    different(drawn, point)
    x = normal(20_000, 1) * V_t.sqrt()  # the sampler uses the point estimate, and says so
    oracle = Gaussian(torch.zeros(1), schedule, std=c)
    moved, _ = DDPM().step(
        oracle, x, torch.tensor(t), torch.tensor(s), None, lambda like: normal(*like.shape, seed=1)
    )
    assert float(moved.var()) == pytest.approx(float(point), rel=0.03)


# ------------------------------------------------------------------ lecture 001


@pytest.mark.parametrize("schedule", [EDM(), VP(), Flow()])
def test_001_the_variance_of_an_increment_is_sigma_squared_dt(schedule: Schedule) -> None:
    """W(t + dt) - W(t) has variance dt, std sqrt(dt); the text says std dt, variance sigma dt."""
    for dt in (1e-5, 1e-7):
        g = process.diffusion(schedule, 0.6)
        variance = process.transition_std(schedule, 0.6, 0.6 + dt) ** 2
        same(variance, g**2 * dt, rtol=1e-3)
        different(variance, g * dt)
        different(variance.sqrt(), g * dt)


def test_001_the_reversed_process_runs_forward_with_minus_a_plus_g_squared_score() -> None:
    """For Xbar_t = X_{T - t}: -a + sigma^2 score. As printed, a - sigma^2 score needs dt < 0."""
    schedule, c = VP(), 0.5

    def anderson(u: float, V: float) -> float:  # a - sigma^2 score, as a factor of x
        one = torch.ones(1, dtype=torch.float64)
        return float(process.reverse_drift(schedule, one, max(1 - u, 1e-12), -one / V))

    right = variance_of_reverse_sde(lambda u, V: -anderson(u, V), c)
    assert right == pytest.approx(c**2, rel=1e-4)
    assert variance_of_reverse_sde(anderson, c, end=0.2) > 50  # it runs away from about 1


def test_001_x_t_is_standard_normal_only_as_t_grows() -> None:
    """The mean is (1 - p)^(t/2) x_0 and the variance 1 - (1 - p)^t; not N(0, I) after a step."""
    p, x_0 = 0.1, torch.tensor([[3.0]], dtype=torch.float64)
    for steps in (1, 5, 300):
        mean, std = process.marginal(Discrete((p,) * steps), x_0, 1.0)
        assert float(mean) == pytest.approx((1 - p) ** (steps / 2) * 3, rel=1e-9)
        assert float(std) ** 2 == pytest.approx(1 - (1 - p) ** steps, rel=1e-9)
        standard = (float(mean), float(std)) == pytest.approx((0, 1), abs=1e-5)
        assert standard == (steps == 300)


def test_001_algorithm_2_mean_has_alpha_without_a_bar_in_front() -> None:
    """Line 6: mu = (x_t - beta / sqrt(1 - alpha_bar) eps) / sqrt(alpha), not / sqrt(alpha_bar)."""
    x_t, eps = normal(6, 2), normal(6, 2, seed=1)
    x0_hat = (x_t - torch.sqrt(1 - ALPHA_BAR) * eps) / torch.sqrt(ALPHA_BAR)
    mean, _ = process.posterior(CHAIN, x_t, x0_hat, T, S)
    bracket = x_t - BETA / torch.sqrt(1 - ALPHA_BAR) * eps
    same(mean, bracket / torch.sqrt(ALPHA))
    different(mean, bracket / torch.sqrt(ALPHA_BAR))


# ------------------------------------------------------------------ lecture 002


def test_002_posterior_mean_has_root_alpha_without_a_bar_on_x_t() -> None:
    x_t, x_0 = normal(6, 2), normal(6, 2, seed=1)
    mean, std = process.posterior(CHAIN, x_t, x_0, T, S)
    on_x_0 = torch.sqrt(ALPHA_BAR_BEFORE) * BETA / (1 - ALPHA_BAR) * x_0
    right = torch.sqrt(ALPHA) * (1 - ALPHA_BAR_BEFORE) / (1 - ALPHA_BAR) * x_t + on_x_0
    printed = torch.sqrt(ALPHA_BAR) * (1 - ALPHA_BAR_BEFORE) / (1 - ALPHA_BAR) * x_t + on_x_0
    same(mean, right)
    different(mean, printed)
    beta_tilde = (1 - ALPHA_BAR_BEFORE) / (1 - ALPHA_BAR) * BETA
    same(std**2, beta_tilde.expand_as(std))


def test_002_mean_from_the_noise_has_a_bar_under_beta() -> None:
    """mu_theta = (x_t - beta / sqrt(1 - alpha_bar) eps) / sqrt(alpha), not sqrt(1 - alpha)."""
    x_t, eps = normal(6, 2), normal(6, 2, seed=1)
    x0_hat = (x_t - CHAIN.sigma(T) * eps) / CHAIN.alpha(T)
    mean, _ = process.posterior(CHAIN, x_t, x0_hat, T, S)
    same(mean, (x_t - BETA / torch.sqrt(1 - ALPHA_BAR) * eps) / torch.sqrt(ALPHA))
    different(mean, (x_t - BETA / torch.sqrt(1 - ALPHA) * eps) / torch.sqrt(ALPHA))


def test_002_simple_loss_noises_with_alpha_bar() -> None:
    """x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps in L_simple and algorithm 1."""
    x_0, eps = normal(6, 2), normal(6, 2, seed=1)
    x_t = process.noised(CHAIN, x_0, T, eps)
    same(x_t, torch.sqrt(ALPHA_BAR) * x_0 + torch.sqrt(1 - ALPHA_BAR) * eps)
    different(x_t, torch.sqrt(ALPHA) * x_0 + torch.sqrt(1 - ALPHA) * eps)


def step_std(sampler: DDPM | DDIM) -> float:
    """The std of the noise that a sampler adds from step K to K - 1."""
    oracle, x = Gaussian(torch.zeros(1), CHAIN, std=1.0), torch.zeros(1, 1).double()
    t, s = torch.tensor([T, S], dtype=torch.float64)
    with_noise, _ = sampler.step(oracle, x, t, s, None, torch.ones_like)
    without, _ = sampler.step(oracle, x, t, s, None, torch.zeros_like)
    return float(with_noise - without)


def test_002_algorithm_2_variance_beta_or_beta_tilde() -> None:
    """Both are options: beta is the truth for x_0 ~ N(0, I), beta~ for a single x_0."""
    beta, beta_tilde = float(BETA), float(BETA * (1 - ALPHA_BAR_BEFORE) / (1 - ALPHA_BAR))
    assert step_std(DDPM(variance=1)) ** 2 == pytest.approx(beta, rel=1e-9)
    assert step_std(DDPM(variance=0)) ** 2 == pytest.approx(beta_tilde, rel=1e-9)
    between = step_std(DDPM(variance=0.5)) ** 2  # interpolated in the logarithm
    assert between == pytest.approx(math.sqrt(beta * beta_tilde), rel=1e-9)
    assert beta != pytest.approx(beta_tilde, rel=1e-3)
    for c, truth in ((1.0, beta), (0.0, beta_tilde)):  # Var(x_s | x_t) for x_0 ~ N(0, c^2)
        V_t = float(ALPHA_BAR) * c**2 + 1 - float(ALPHA_BAR)
        V_s = float(ALPHA_BAR_BEFORE) * c**2 + 1 - float(ALPHA_BAR_BEFORE)
        assert V_s - float(ALPHA) * V_s**2 / V_t == pytest.approx(truth, rel=1e-9)


def test_002_tweedie_needs_the_conditional_expectation_of_the_noise() -> None:
    """grad log p_t(x_t) = -E[eps | x_t] / sigma; -eps / sigma is that of q(x_t | x_0) alone."""
    oracle = GaussianMixture(torch.tensor([[-1.0], [1.0]]), None, CHAIN, std=0.3)
    x_0, eps = oracle.draw(200, seed=1), normal(200, 1)
    x_t = process.noised(CHAIN, x_0, T, eps).requires_grad_()
    (gradient,) = torch.autograd.grad(oracle.log_prob(x_t, T).sum(), x_t)
    sigma = CHAIN.sigma(T)
    same(gradient, -oracle.noise(x_t, T).detach() / sigma, rtol=1e-7)
    different(gradient, -eps / sigma)
    x_t = x_t.detach()
    same(process.tweedie(CHAIN, x_t, T, gradient), oracle(x_t, T), rtol=1e-7)
    different(oracle(x_t, T), process.tweedie(CHAIN, x_t, T, -eps / sigma))  # which is x_0 itself


# ------------------------------------------------------------------ lecture 003


def gradient_estimation(
    y: Tensor, eps: Tensor, z: Tensor, sig: Tensor, sig_prev: Tensor, mu: float
) -> Tensor:
    """The lecture's step with sigma_{t-1} = sigma_t^mu sigma_{t'}^(1 - mu), in y = x / alpha."""
    sig_p = (sig_prev / sig**mu) ** (1 / (1 - mu))
    eta = (sig_prev**2 - sig_p**2).sqrt()
    return y - (sig - sig_p) * eps + eta * z


@pytest.mark.parametrize("schedule", [EDM(), VP(), Cosine(), Flow(), CHAIN])
@pytest.mark.parametrize(("t", "s"), [(0.7, 0.5), (0.3, 0.01), (0.4, 0.0)])
def test_003_sampler_with_mu_one_half_is_ancestral_and_mu_zero_is_ddim(
    schedule: Schedule, t: float, s: float
) -> None:
    """mu = 1/2 is the step with variance beta~, for VE and VP alike; sigma' = 0 at s = 0."""
    oracle, x, z = (
        GaussianMixture(normal(3, 2), None, schedule, std=0.4),
        normal(5, 2),
        normal(5, 2),
    )
    now, then = torch.tensor([t, s], dtype=torch.float64)
    sig = schedule.sigma(now) / schedule.alpha(now)
    sig_prev = schedule.sigma(then) / schedule.alpha(then)
    y, eps = x / over(schedule.alpha(now), x), oracle.noise(x, now)
    alpha_s = schedule.alpha(then)
    for sampler, mu in ((DDPM(), 0.5), (DDIM(eta=1.0), 0.5), (DDIM(), 0.0)):
        moved, _ = sampler.step(oracle, x, now, then, None, lambda like: z)
        same(moved / alpha_s, gradient_estimation(y, eps, z, sig, sig_prev, mu), rtol=1e-11)
    if s > 0:
        ancestral, _ = DDPM().step(oracle, x, now, then, None, lambda like: z)
        different(ancestral / alpha_s, gradient_estimation(y, eps, z, sig, sig_prev, 0.25), by=1e-4)


# ------------------------------------------------------------------ lecture 004


def test_004_three_equivalent_predictions_have_alpha_bar() -> None:
    """x_t = sqrt(alpha_bar) x0_hat + sqrt(1 - alpha_bar) eps_hat."""
    oracle, x_t = FiniteSet(normal(5, 2), CHAIN), normal(6, 2, seed=1)
    x0_hat, eps_hat = oracle(x_t, T), oracle.noise(x_t, T)
    same(torch.sqrt(ALPHA_BAR) * x0_hat + torch.sqrt(1 - ALPHA_BAR) * eps_hat, x_t)
    different(x_t, torch.sqrt(ALPHA) * x0_hat + torch.sqrt(1 - ALPHA) * eps_hat)
    alpha, sigma = CHAIN.alpha(T), CHAIN.sigma(T)
    F = Noise().target(x0_hat, eps_hat, alpha, sigma)
    same(Noise().skip(alpha, sigma) * x_t + Noise().out(alpha, sigma) * F, x0_hat)


def test_004_exercise_2_the_factor_is_the_signal_to_noise_ratio() -> None:
    """|eps_hat - eps|^2 = c(t) |x0_hat - x_0|^2 with c(t) = alpha_bar / (1 - alpha_bar)."""
    x_0, eps, x0_hat = normal(6), normal(6, seed=1), normal(6, seed=2)
    for t in (0.05, T, 0.9):
        alpha, sigma = CHAIN.alpha(t), CHAIN.sigma(t)
        x_t = process.noised(CHAIN, x_0, t, eps)
        eps_hat = (x_t - alpha * x0_hat) / sigma
        c = (eps_hat - eps).square().sum() / (x0_hat - x_0).square().sum()
        alpha_bar = alpha**2
        same(c, alpha_bar / (1 - alpha_bar), rtol=1e-7)
        same(c, CHAIN.log_snr(t).exp(), rtol=1e-7)
        same(c, torch.exp(2 * Data().log_gain(CHAIN.log_snr(t), sigma)), rtol=1e-7)
        different(c, (1 - alpha_bar) / alpha_bar)
        different(c, torch.ones_like(c))


def test_004_guidance_weight_1_is_conditional_and_0_unconditional() -> None:
    """eps(null) + w (eps(c) - eps(null)); Ho & Salimans' own scale is w - 1."""
    labels = torch.tensor([0, 0, 1, 1])
    oracle, x = GaussianMixture(normal(4, 2), None, CHAIN, std=0.3, labels=labels), normal(6, 2)
    label = torch.tensor([0, 1, 0, 1, 0, 1])
    given, null = oracle.noise(x, T, label=label), oracle.noise(x, T)
    for w in (0.0, 0.5, 1.0, 3.0):
        guided = ClassifierFree(oracle, w).noise(x, T, label=label)
        same(guided, null + w * (given - null), rtol=1e-7)
        ho_salimans = (1 + (w - 1)) * given - (w - 1) * null  # their w is ours less 1
        same(guided, ho_salimans, rtol=1e-7)
        different(guided, (1 + w) * given - w * null, by=1e-3)
    same(ClassifierFree(oracle, 1.0)(x, T, label=label), oracle(x, T, label=label))
    same(ClassifierFree(oracle, 0.0)(x, T, label=label), oracle(x, T))
    different(oracle(x, T, label=label), oracle(x, T), by=1e-3)
