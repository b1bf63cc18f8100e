"""Stochastic differential equations and Euler-Maruyama, against exact moments.

On Gaussian data every equation here is linear, so one step of the scheme is x -> A x + b + noise,
and mean and covariance of the scheme after n steps follow exactly, by recursion over its own drift
and diffusion, without any sampling error. `simulate` is then compared with those moments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from undiffuse import process
from undiffuse.errors import UndiffuseError
from undiffuse.exact import Gaussian, GaussianMixture
from undiffuse.schedules import EDM, VE, VP, Cosine, Discrete, Flow
from undiffuse.schedules.base import Schedule, Time, as_time
from undiffuse.sde import SDE, Forward, Reverse, Wiener, simulate

MEAN = torch.tensor([0.5, -1.0], dtype=torch.float64)
COV = torch.tensor([[0.5, 0.2], [0.2, 0.3]], dtype=torch.float64)
EYE = torch.eye(2, dtype=torch.float64)
Moments = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Linear(SDE):
    """dx = rate (level - x) dt + width dW: a linear equation with known mean and variance."""

    rate: float
    level: float
    width: float

    def drift(self, x: Tensor, t: Time) -> Tensor:
        return self.rate * (self.level - x)

    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        return torch.full_like(as_time(t), self.width)

    def moments(self, mean: float, variance: float, t: float) -> tuple[float, float]:
        decay, rest = math.exp(-self.rate * t), self.width**2 / (2 * self.rate)
        return (
            self.level + (mean - self.level) * decay,
            rest + (variance - rest) * decay**2,
        )


def affine(sde: SDE, times: Tensor, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a linear drift J x + c at all times: J [n, D, D] and c [n, D]; and g [n]."""
    n = len(times)
    points = torch.cat([torch.zeros(1, size), torch.eye(size)]).double()  # [1 + D, D]
    values = sde.drift(points.repeat(n, 1), times.repeat_interleave(1 + size))
    values = values.reshape(n, 1 + size, size)
    jacobian = (values[:, 1:] - values[:, :1]).mT
    width = sde.diffusion(torch.zeros(n, size).double(), times).expand(n)
    return jacobian.numpy(), values[:, 0].numpy(), width.numpy()


def scheme(sde: SDE, start: Moments, times: Tensor, power: float = 1.0) -> Moments:
    """Mean and covariance after the steps; the variance of an increment is |dt|^power."""
    mean, cov = (moment.double().numpy() for moment in start)
    eye, gaps = np.eye(len(mean)), times.diff().numpy()
    for dt, J, c, g in zip(gaps, *affine(sde, times[:-1], len(mean)), strict=True):
        A = eye + J * dt
        mean, cov = A @ mean + c * dt, A @ cov @ A.T + (g**2 * abs(dt) ** power) * eye
    return torch.from_numpy(mean), torch.from_numpy(cov)


def extrapolated(moments: list[Moments]) -> Moments:
    """From n, 2 n and 4 n steps: free of the errors of order dt and dt^2."""
    mean, cov = ((8 * f - 6 * m + c) / 3 for c, m, f in zip(*moments, strict=True))
    return mean, cov


def exact(schedule: Schedule, t: float) -> Moments:
    """Mean and covariance of p_t for data N(MEAN, COV)."""
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    return alpha * MEAN, alpha**2 * COV + sigma**2 * EYE


def distance(one: Moments, other: Moments) -> float:
    """The largest difference, relative to the size of the moment."""
    return max(float((a - b).norm() / b.norm()) for a, b in zip(one, other, strict=True))


def between(schedule: Schedule, t: float, s: float, n: int) -> Tensor:
    """n steps from t to s at equal distances in log-SNR."""
    ends = [float(schedule.log_snr(u)) for u in (t, s)]
    times = schedule.t_from_log_snr(torch.linspace(*ends, n + 1, dtype=torch.float64))
    times[0], times[-1] = t, s
    return times


def point(x_0: float = 1.0) -> Moments:
    return torch.full((1,), x_0).double(), torch.zeros(1, 1).double()


def line(n: int, end: float = 1.0) -> Tensor:
    return torch.linspace(0, end, n + 1, dtype=torch.float64)


def orders(errors: list[float]) -> np.ndarray:
    """The order between each number of steps and twice that number."""
    return np.log2(np.array(errors[:-1]) / np.array(errors[1:]))


# ------------------------------------------------------------------ the scheme


def test_the_scheme_has_weak_order_1() -> None:
    sde, start = Linear(2.0, 0.5, 1.5), point(3.0)
    mean, variance = sde.moments(3.0, 0.0, 1.0)
    wrong: dict[str, list[float]] = {"mean": [], "variance": [], "fourth": []}
    for n in (50, 100, 200, 400):
        m, v = (float(u) for u in scheme(sde, start, line(n)))
        wrong["mean"].append(abs(m - mean))
        wrong["variance"].append(abs(v - variance))
        wrong["fourth"].append(abs(fourth(m, v) - fourth(mean, variance)))
    for errors in wrong.values():
        np.testing.assert_allclose(orders(errors), 1, atol=0.1)


def fourth(mean: float, variance: float) -> float:
    """E[x^4] of a Gaussian: a test function that is no moment of the recursion itself."""
    return mean**4 + 6 * mean**2 * variance + 3 * variance**2


def test_errata_001_increments_have_variance_dt_not_standard_deviation_dt() -> None:
    """Printed: "the std is equal to the time step". Then the noise is gone as the steps shrink."""
    sde, start = Linear(2.0, 0.5, 1.5), point(3.0)
    _, variance = sde.moments(3.0, 0.0, 1.0)
    printed = [float(scheme(sde, start, line(n), power=2)[1]) for n in (50, 100, 200, 400)]
    np.testing.assert_allclose(orders(printed), 1, atol=0.1)  # to zero
    errors = [abs(v - variance) for v in printed]
    assert orders(errors).max() < 0.05  # and nowhere near the solution
    assert errors[-1] > 0.9 * variance

    n, count = 100, 20_000  # what `simulate` does, with its sampling error
    paths = simulate(sde, torch.full((1, count), 3.0), line(n), seed=1)[:, 0].double()
    mean, right = (float(u) for u in scheme(sde, start, line(n)))
    assert float(paths[-1].mean()) == pytest.approx(mean, abs=4 * (right / count) ** 0.5)
    assert float(paths[-1].var()) == pytest.approx(right, rel=4 * (2 / count) ** 0.5)
    assert float(paths[-1].var()) > 20 * printed[1]
    steps = paths.diff(dim=0) - sde.drift(paths[:-1], 0.0) / n  # the increments themselves
    assert float(steps.var()) == pytest.approx(sde.width**2 / n, rel=4 * (2 / steps.numel()) ** 0.5)


def test_a_wiener_process_has_independent_increments_of_variance_dt() -> None:
    times = torch.tensor([0.0, 0.1, 0.4, 1.0], dtype=torch.float64)
    paths = simulate(Wiener(), torch.zeros(1, 40_000, dtype=torch.float64), times)[:, 0]
    assert bool((paths[0] == 0).all())
    covariance = paths[1:].cov()  # Cov(W_s, W_t) = min(s, t)
    torch.testing.assert_close(
        covariance, torch.minimum(times[1:, None], times[None, 1:]), rtol=0, atol=0.03
    )
    increments = paths.diff(dim=0).corrcoef()
    torch.testing.assert_close(increments, torch.eye(3, dtype=torch.float64), rtol=0, atol=0.02)


def test_paths_depend_on_seed_and_index_alone() -> None:
    x = torch.arange(5.0)
    many = simulate(Wiener(), x, line(7), seed=3)
    assert many.shape == (8, 5)
    assert many.dtype == torch.float32
    assert bool((many[0] == x).all())
    torch.testing.assert_close(simulate(Wiener(), x[:2], line(7), seed=3), many[:, :2])
    assert not bool((simulate(Wiener(), x, line(7), seed=4)[1:] == many[1:]).any())


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 2), (3, 2, 4, 5)])
def test_any_rank_of_data(shape: tuple[int, ...]) -> None:
    paths = simulate(Forward(VP()), torch.ones(shape), line(10))
    assert paths.shape == (11, *shape)
    assert bool(paths.isfinite().all())


# ------------------------------------------------------------------ forward


def one_shot(schedule: Schedule, t: float) -> Moments:
    """Of x_t given x_0 = 1."""
    return schedule.alpha(t).reshape(1), schedule.sigma(t).reshape(1, 1) ** 2


def test_forward_reaches_the_marginals(schedule: Schedule) -> None:
    """The scheme's moments, extrapolated in dt, are alpha_t x_0 and sigma_t^2."""
    start, goal = one_shot(schedule, 0.02), one_shot(schedule, 0.9)
    moments = [
        scheme(Forward(schedule), start, between(schedule, 0.02, 0.9, n)) for n in (400, 800, 1600)
    ]
    assert distance(moments[-1], goal) < 0.02
    assert distance(extrapolated(moments), goal) < 5e-3


@pytest.mark.parametrize("schedule", [VP(), Cosine(), Flow(), Discrete.linear(100), EDM()])
def test_forward_starts_at_the_data(schedule: Schedule) -> None:
    """At t = 0 itself, where dlogSNR/dt may be infinite, g is its limit."""
    moments = [
        scheme(Forward(schedule), one_shot(schedule, 0.0), line(n, 0.8)) for n in (400, 800, 1600)
    ]
    assert distance(extrapolated(moments), one_shot(schedule, 0.8)) < 1e-3


@pytest.mark.parametrize("schedule", [VP(), Flow(), VE()])
def test_simulated_forward_paths_have_the_moments_of_the_scheme(schedule: Schedule) -> None:
    count, times = 10_000, line(50, 0.9)
    paths = simulate(Forward(schedule), torch.ones(1, count).double(), times, seed=2)[:, 0]
    for k in (10, 50):
        mean, variance = (float(u) for u in scheme(Forward(schedule), point(), times[: k + 1]))
        assert float(paths[k].mean()) == pytest.approx(mean, abs=4 * (variance / count) ** 0.5)
        assert float(paths[k].var()) == pytest.approx(variance, rel=4 * (2 / count) ** 0.5)


def test_errata_000_the_forward_drift_is_half_of_beta() -> None:
    """(F) prints -beta x with sqrt(beta): the stationary variance would be 1/2."""
    schedule, x = VP(20.0, 20.0), torch.ones(1, 1, dtype=torch.float64)
    sde, printed = Forward(schedule), Linear(20.0, 0.0, 20.0**0.5)
    torch.testing.assert_close(sde.drift(x, 0.3), -10 * x)
    torch.testing.assert_close(sde.diffusion(x, 0.3) ** 2, torch.tensor(20.0).double())
    start = point()
    mean, variance = scheme(sde, start, line(4000))
    assert float(variance) == pytest.approx(1, abs=0.01)
    assert float(scheme(printed, start, line(4000))[1]) == pytest.approx(0.5, abs=0.01)
    # over 0.1 the factor is sqrt(alpha_k) = exp(-int beta / 2) and the exact step belongs to it
    k = 0.1
    mean, variance = scheme(sde, start, line(4000, k))
    shot, std = process.transition(schedule, x, 0.0, k)
    assert float(mean) == pytest.approx(math.exp(-20 * k / 2), rel=1e-2)
    assert float(mean) == pytest.approx(float(shot), rel=1e-2)
    assert float(variance) == pytest.approx(float(std) ** 2, rel=1e-2)
    assert float(scheme(printed, start, line(4000, k))[0]) == pytest.approx(math.exp(-2), rel=1e-2)


def test_errata_001_the_toy_chain_is_the_sde_seen_at_its_steps() -> None:
    """X_t given X_0 has mean (1 - p)^{t/2} X_0, variance 1 - (1 - p)^t; not N(0, I) after one."""
    p, steps, chain = 0.01, 100, Discrete.constant(100, beta=0.01)
    start = point()
    for k in (1, 10, 100):
        mean, variance = scheme(Forward(chain), start, line(50 * k, k / steps))
        assert float(mean) == pytest.approx((1 - p) ** (k / 2), rel=1e-3)
        assert float(variance) == pytest.approx(1 - (1 - p) ** k, rel=1e-3)
    assert float(variance) == pytest.approx(0.634, abs=1e-3)  # after 100 steps still not 1


# ------------------------------------------------------------------ reverse

DELTA = 0.02


@pytest.mark.parametrize("noise", [0.5, 1.0, 1.5])
def test_reverse_sdes_extrapolated_in_dt_reach_the_data(schedule: Schedule, noise: float) -> None:
    """From exact p_{1-delta} to p_delta's mean and covariance, for any share of noise."""
    sde = Reverse(Gaussian(MEAN, schedule, cov=COV), noise)
    start, goal = exact(schedule, 1 - DELTA), exact(schedule, DELTA)
    moments = [scheme(sde, start, between(schedule, 1 - DELTA, DELTA, n)) for n in (200, 400, 800)]
    assert distance(moments[-1], goal) < 0.1
    assert distance(extrapolated(moments), goal) < 5e-3


def flow_moments(schedule: Schedule, n: int) -> Moments:
    """p_{1-delta} taken along the reverse ODE by n steps of Runge-Kutta 4 in the log-SNR.

    As a function of log-SNR the equation is smooth under every schedule.
    """
    sde = Reverse(Gaussian(MEAN, schedule, cov=COV), noise=0)
    times = between(schedule, 1 - DELTA, DELTA, 2 * n)
    J, c, g = affine(sde, times, 2)
    assert not g.any()
    rates = (
        np.concatenate([J, c[:, :, None]], 2) / schedule.log_snr_rate(times).numpy()[:, None, None]
    )
    h = float(schedule.log_snr(times[-1]) - schedule.log_snr(times[0])) / n
    M = np.eye(2, 3)  # x -> M [x, 1]

    def rate(k: int, M: np.ndarray) -> np.ndarray:
        return rates[k, :, :2] @ M + np.pad(rates[k, :, 2:], ((0, 0), (2, 0)))

    for k in range(0, 2 * n, 2):
        k_1 = rate(k, M)
        k_2 = rate(k + 1, M + h / 2 * k_1)
        k_3 = rate(k + 1, M + h / 2 * k_2)
        M = M + h / 6 * (k_1 + 2 * k_2 + 2 * k_3 + rate(k + 2, M + h * k_3))
    A, b = torch.from_numpy(M[:, :2]), torch.from_numpy(M[:, 2])
    mean, cov = exact(schedule, 1 - DELTA)
    return A @ mean + b, A @ cov @ A.T


def test_the_reverse_ode_reaches_the_data_to_solver_tolerance(schedule: Schedule) -> None:
    goal = exact(schedule, DELTA)
    errors = [distance(flow_moments(schedule, n), goal) for n in (50, 100, 200)]
    assert errors[-1] < 1e-6
    if errors[1] > 1e-9:
        assert errors[0] / errors[1] > 10  # the solver's order is 4


@pytest.mark.parametrize("noise", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("schedule", [VP(), VE(sigma_max=20)])
def test_simulated_reverse_paths_have_the_moments_of_the_scheme(
    schedule: Schedule, noise: float
) -> None:
    oracle, count = Gaussian(MEAN, schedule, cov=COV), 800
    times = between(schedule, 1 - DELTA, DELTA, 40)
    paths = simulate(Reverse(oracle, noise), oracle.draw(count, 1 - DELTA, seed=5), times, seed=1)
    mean, cov = scheme(Reverse(oracle, noise), exact(schedule, 1 - DELTA), times)
    std = cov.diagonal().sqrt()
    assert bool(((paths[-1].mean(0) - mean).abs() < 4 * std / count**0.5).all())
    tolerance = 4 * (2 / count) ** 0.5 * std[:, None] * std
    assert bool(((paths[-1].T.cov() - cov).abs() < tolerance).all())


def test_a_mixture_comes_back_with_its_weights() -> None:
    means = torch.tensor([[-2.0], [2.0]])
    oracle = GaussianMixture(means, torch.tensor([0.3, 0.7]), VP(), std=0.2)
    times = between(VP(), 1.0, 1e-3, 100)
    x = simulate(Reverse(oracle), oracle.draw(400, 1.0), times)[-1, :, 0]
    assert float((x > 0).double().mean()) == pytest.approx(0.7, abs=4 * (0.21 / 400) ** 0.5)
    assert float(x[x > 0].std()) == pytest.approx(0.2, abs=0.05)
    assert bool((x.abs() - 2 < 1).all())


@dataclass(frozen=True)
class Clock(SDE):
    """The reverse SDE in the time u = 1 - t, which runs forward: sign (f - g^2 score) du + g dW."""

    reverse: Reverse
    sign: float

    def drift(self, x: Tensor, t: Time) -> Tensor:
        return self.sign * self.reverse.drift(x, 1 - as_time(t))

    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        return self.reverse.diffusion(x, 1 - as_time(t))


def test_errata_001_in_forward_running_time_the_drift_changes_its_sign() -> None:
    """Printed: [a - sigma^2 score] dt for X_{T-t}; that is Anderson's form, whose dt is < 0."""
    schedule = VP()
    reverse = Reverse(Gaussian(MEAN, schedule, cov=COV))
    times = between(schedule, 1 - DELTA, DELTA, 1500)
    start, goal = exact(schedule, 1 - DELTA), exact(schedule, DELTA)
    backward = scheme(reverse, start, times)
    assert distance(scheme(Clock(reverse, -1), start, 1 - times), backward) < 1e-9
    assert distance(backward, goal) < 0.02
    assert distance(scheme(Clock(reverse, 1), start, 1 - times), goal) > 10  # as printed


def test_errata_000_the_reverse_drift_has_half_of_beta_and_the_time_of_the_density() -> None:
    """(R) prints beta(t) (x + score at T - t); right is beta(T - t) (x/2 + score at T - t)."""
    schedule, x = VP(), torch.tensor([[0.4, -1.2]], dtype=torch.float64)
    oracle = Gaussian(MEAN, schedule, cov=COV)
    drift = Clock(Reverse(oracle), -1).drift
    for u in (0.1, 0.8):
        score, beta = oracle.score(x, 1 - u), schedule.beta(1 - u)
        torch.testing.assert_close(drift(x, u), beta * (x / 2 + score))
        for printed in (beta * (x + score), schedule.beta(u) * (x + score)):
            assert float((printed - drift(x, u)).norm() / drift(x, u).norm()) > 0.1


def test_probability_flow_is_the_velocity_of_the_denoiser(schedule: Schedule) -> None:
    oracle, t = Gaussian(MEAN, schedule, cov=COV), torch.linspace(0.05, 0.95, 7).double() + 0.00037
    x = torch.randn(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drift = Reverse(oracle, noise=0).drift(x, t)
    torch.testing.assert_close(drift, oracle.velocity(x, t), rtol=1e-8, atol=1e-8)
    anderson = process.reverse_drift(schedule, x, t, oracle.score(x, t))
    torch.testing.assert_close(Reverse(oracle).drift(x, t), anderson)


# ------------------------------------------------------------------ mistakes


def test_time_runs_as_the_equation_says() -> None:
    oracle, x = Gaussian(MEAN, VP(), cov=COV), torch.zeros(2, 2)
    up, down = [0.2, 0.5], [0.5, 0.2]
    simulate(Reverse(oracle, noise=0), x, up)
    simulate(Reverse(oracle, noise=0), x, down)
    simulate(Reverse(oracle), x, down)
    with pytest.raises(UndiffuseError, match="Reverse: times must be two or more that fall"):
        simulate(Reverse(oracle), x, up)
    with pytest.raises(UndiffuseError, match="Forward: times must be two or more that rise"):
        simulate(Forward(VP()), x, down)
    for times in ([0.5], [], [[0.1, 0.2]], [0.1, 0.1], [0.1, math.nan]):
        with pytest.raises(UndiffuseError, match="two or more that rise"):
            simulate(Wiener(), x, torch.tensor(times))


def test_mistakes() -> None:
    oracle, x = Gaussian(MEAN, Cosine(), cov=COV), torch.zeros(2, 2)
    for noise in (-0.1, math.nan, "a"):
        with pytest.raises(UndiffuseError, match="Reverse: noise must be a number >= 0"):
            Reverse(oracle, noise)  # type: ignore[arg-type]
    for sde in (Reverse(oracle), Forward(Cosine())):
        with pytest.raises(UndiffuseError, match="the drift is infinite"):
            sde.drift(x, 1.0)
