r"""The variance of the reverse step: optimal, learned, and between beta and \tilde\beta."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from undiffuse import process, sample
from undiffuse.denoiser import Denoiser, Learned, Rescheduled
from undiffuse.errors import UndiffuseError
from undiffuse.exact import FiniteSet, Gaussian, GaussianMixture
from undiffuse.guidance import ClassifierFree
from undiffuse.likelihood import analytic_variance
from undiffuse.networks import MLP, UNet
from undiffuse.predictions import Noise, V
from undiffuse.samplers import DDPM
from undiffuse.samplers.watched import Watched
from undiffuse.schedules import EDM, VP, Cosine, Discrete, Flow
from undiffuse.schedules.base import Schedule

FAMILIES = [VP(), Cosine(), Flow(), EDM(), Discrete.linear(100)]
T, S = 0.6, 0.45


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def oracles(schedule: Schedule) -> list[GaussianMixture | FiniteSet | Gaussian]:
    means, stds = normal(4, 3, seed=1), torch.tensor([0.1, 0.4, 0.0, 1.0])
    factors = normal(4, 3, 3, seed=2)
    return [
        GaussianMixture(means, torch.tensor([1, 2, 3, 4.0]), schedule, std=stds),
        GaussianMixture(means, None, schedule, std=0.3),
        GaussianMixture(means, None, schedule, cov=factors @ factors.mT),
        FiniteSet(means, schedule),
        Gaussian(means[0], schedule, cov=factors[0] @ factors[0].mT),
    ]


def beta(schedule: Schedule) -> Tensor:
    return process.transition_std(schedule, S, T) ** 2


def beta_tilde(schedule: Schedule) -> Tensor:
    return beta(schedule) * (schedule.sigma(S) / schedule.sigma(T)) ** 2


# ------------------------------------------------------------------ exact denoisers


@pytest.mark.parametrize("schedule", FAMILIES)
def test_the_posterior_variance_is_the_trace_of_the_covariance(schedule: Schedule) -> None:
    x, times = 2 * normal(5, 3), torch.tensor([0.01, 0.1, 0.4, 0.7, 0.99])
    for oracle in oracles(schedule):
        trace = oracle.posterior_covariance(x, times).diagonal(dim1=1, dim2=2).sum(1)
        found = oracle.posterior_variance(x, times)
        assert found.shape == (5, 1)
        torch.testing.assert_close(3 * found[:, 0], trace, rtol=1e-8, atol=1e-13)
        torch.testing.assert_close(oracle.posterior_variance(x[1:2], 0.1), found[1:2])


@pytest.mark.parametrize("schedule", FAMILIES)
def test_the_optimal_variance_of_a_gaussian_is_that_of_its_reverse_step(schedule: Schedule) -> None:
    """x_s and x_t are jointly Gaussian: Var[x_s | x_t] = V_s - (alpha_{t|s} V_s)^2 / V_t."""
    c = 0.36
    oracle = Gaussian(torch.ones(2), schedule, std=0.6)
    V_s, V_t = (schedule.alpha(u) ** 2 * c + schedule.sigma(u) ** 2 for u in (S, T))
    expected = V_s - (schedule.alpha(T) / schedule.alpha(S) * V_s) ** 2 / V_t
    found = oracle.reverse_variance(normal(3, 2), T, S)
    torch.testing.assert_close(found, expected.expand(3, 1), rtol=1e-9, atol=0)


@pytest.mark.parametrize("schedule", [VP(), Cosine(), Discrete.linear(100)])
def test_beta_is_optimal_for_standard_normal_data(schedule: Schedule) -> None:
    """Ho et al. 2020, section 3.2: one of the two choices, sqrt(beta_t) z of lecture 002."""
    found = Gaussian(torch.zeros(2), schedule, std=1.0).reverse_variance(normal(3, 2), T, S)
    torch.testing.assert_close(found, beta(schedule).expand(3, 1), rtol=1e-9, atol=0)
    assert float(found[0, 0] / beta_tilde(schedule)) > 1.05


@pytest.mark.parametrize("schedule", FAMILIES)
def test_beta_tilde_is_optimal_for_a_single_point(schedule: Schedule) -> None:
    """The other choice, that of lecture 000."""
    found = FiniteSet(torch.ones(1, 2), schedule).reverse_variance(normal(3, 2), T, S)
    torch.testing.assert_close(found, beta_tilde(schedule).expand(3, 1), rtol=1e-9, atol=0)
    assert float(beta(schedule) / found[0, 0]) > 1.05


def test_sampling_a_gaussian_with_its_own_variance_is_exact_in_any_number_of_steps() -> None:
    oracle = Gaussian(torch.full((4096,), 0.3), VP(), std=0.5)
    x_T = oracle.draw(32, t=1.0, seed=1)
    spread = {}
    for rule in ("ddpm(variance=own)", "ddpm(variance=0)", "ddpm(variance=1)"):
        x = sample(oracle, (32, 4096), rule, times=[1.0, 0.6, 0.3, 0.1], x_T=x_T)
        assert isinstance(x, Tensor)
        exact = VP().alpha(0.1) ** 2 * 0.25 + VP().sigma(0.1) ** 2
        spread[rule] = float(x.var() / exact) - 1
    error = (2 / 32 / 4096) ** 0.5
    assert abs(spread["ddpm(variance=own)"]) < 4 * error
    assert spread["ddpm(variance=0)"] < -20 * error
    assert spread["ddpm(variance=1)"] > 20 * error


@pytest.mark.parametrize("schedule", FAMILIES)
def test_the_analytic_variance_needs_only_the_size_of_the_noise(schedule: Schedule) -> None:
    """For one Gaussian it equals the optimal one; x_t of exactly p_t's moments stands for p_t."""
    oracle = Gaussian(torch.ones(1), schedule, std=0.6)
    alpha, sigma = schedule.alpha(T), schedule.sigma(T)
    x = alpha + torch.tensor([[-1.0], [1.0]]).double() * torch.sqrt(alpha**2 * 0.36 + sigma**2)
    found = analytic_variance(oracle, x, T, S)
    torch.testing.assert_close(found, oracle.reverse_variance(x, T, S)[0, 0], rtol=1e-9, atol=0)


def test_the_analytic_variance_is_the_average_of_the_conditional_one() -> None:
    oracle = GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), None, VP(), std=0.2)
    x = oracle.draw(20_000, t=0.3)
    average = oracle.reverse_variance(x, 0.3, 0.2).mean()
    assert float(analytic_variance(oracle, x, 0.3, 0.2) / average) == pytest.approx(1, abs=0.01)


# ------------------------------------------------------------------ learned denoisers


class Constant(nn.Module):
    """F = 0 and v everywhere the same."""

    def __init__(self, v: float) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.tensor(v, dtype=torch.float64))

    def forward(self, x: Tensor, c_noise: Tensor, label: Tensor | None = None) -> Tensor:
        return torch.cat([torch.zeros_like(x), self.v.expand(x.shape)], dim=1)


@pytest.mark.parametrize("schedule", FAMILIES)
def test_v_interpolates_the_logarithm_between_beta_tilde_and_beta(schedule: Schedule) -> None:
    x, low, high = normal(3, 2), beta_tilde(schedule), beta(schedule)
    for v, expected in ((-1.0, low), (1.0, high), (0.0, (low * high).sqrt())):
        learned = Learned(Constant(v), V(), schedule)
        x0_hat, found = learned.reverse(x, T, S)
        torch.testing.assert_close(found, expected.expand(3, 2), rtol=1e-9, atol=0)
        torch.testing.assert_close(x0_hat, learned(x, T))
        times = torch.tensor([[T] * 3, [S] * 3], dtype=torch.float64)
        torch.testing.assert_close(learned.reverse_variance(x, *times), found)
        fraction = (v + 1) / 2
        same = process.interpolated_variance(schedule, T, S, fraction)
        torch.testing.assert_close(found, same.expand(3, 2))


def test_networks_with_a_variance_return_two_halves() -> None:
    for network, x in (
        (MLP(size=3, width=8, depth=1, variance=True), torch.randn(2, 3)),
        (UNet(channels=2, width=8, blocks=1, patch=2, variance=True), torch.randn(2, 2, 6, 5)),
    ):
        out = network(x, torch.zeros(2))
        assert out.shape == (2, 2 * x.shape[1], *x.shape[2:])
        assert not bool(out.any())  # half-way between the two variances at the start
        learned = Learned(network, V(), VP())
        again = Learned.from_config(learned.config())
        assert again.config() == learned.config()
        assert learned(x, 0.5).shape == learned.reverse_variance(x, T, S).shape == x.shape
        assert learned.predict(x, torch.tensor(0.5)).shape == x.shape
    with pytest.raises(UndiffuseError, match="variance must be true or false"):
        MLP(size=2, variance=1)  # type: ignore[arg-type]


def test_patches_keep_the_halves_apart() -> None:
    network = UNet(channels=1, width=8, blocks=1, patch=2, variance=True)
    nn.init.zeros_(network.head.weight)
    with torch.no_grad():
        network.head.bias.copy_(torch.tensor([0.0] * 4 + [1.0] * 4))
    F, v = network(torch.randn(1, 1, 4, 4), torch.zeros(1)).chunk(2, dim=1)
    assert not bool(F.any())
    assert bool((v == 1).all())


def test_ddpm_asks_the_network_once_a_step() -> None:
    watched = Watched(Learned(Constant(0.5), Noise(), VP()), {})
    x, t, s = normal(2, 2), torch.tensor(T).double(), torch.tensor(S).double()
    for variance, calls in (("own", 1), (0.5, 2)):
        DDPM(variance).step(watched, x, t, s, None, torch.ones_like)
        assert watched.calls == calls
    own, _ = DDPM("own").step(watched, x, t, s, None, torch.ones_like)
    number, _ = DDPM(0.75).step(watched, x, t, s, None, torch.ones_like)
    torch.testing.assert_close(own, number)  # v = 0.5 is f = 0.75


def test_a_denoiser_without_a_variance_says_so() -> None:
    plain = Learned(MLP(size=2, width=8, depth=1), V(), VP())
    with pytest.raises(UndiffuseError, match=r"Learned knows no reverse variance.*variance=true"):
        sample(plain, (2, 2), DDPM("own"), steps=2)
    with pytest.raises(UndiffuseError, match=r"variance must be in \[0, 1\], or \"own\""):
        DDPM("other")


# ------------------------------------------------------------------ denoisers made from denoisers


def test_under_another_schedule_it_is_the_same_step() -> None:
    here, there = VP(), Flow()
    log_snrs = here.log_snr(torch.tensor([T, S], dtype=torch.float64))
    t, s = there.t_from_log_snr(log_snrs)
    x = normal(3, 3)
    for oracle in oracles(here):
        seen, rebuilt = Rescheduled(oracle, there), oracle.with_schedule(there)
        expected = rebuilt.reverse_variance(x, t, s)
        torch.testing.assert_close(seen.reverse_variance(x, t, s), expected, rtol=1e-9, atol=0)
        expected = rebuilt.posterior_variance(x, t)
        torch.testing.assert_close(seen.posterior_variance(x, t), expected, rtol=1e-9, atol=0)
    learned = Learned(Constant(0.3), V(), here).with_schedule(there)
    scale = torch.hypot(there.alpha(s), there.sigma(s))  # of x_s; it is 1 under VP
    expected = (scale**2 * process.interpolated_variance(here, T, S, 0.65)).expand(3, 3)
    torch.testing.assert_close(learned.reverse_variance(x, t, s), expected, rtol=1e-9, atol=0)
    with pytest.raises(UndiffuseError, match="is known for log-SNRs in"):
        learned.reverse_variance(x, 0.5, 0.0)


def test_guidance_moves_the_mean_alone() -> None:
    means, labels = normal(4, 2), torch.tensor([0, 0, 1, 1])
    oracle = GaussianMixture(means, None, VP(), std=0.2, labels=labels)
    x, label = normal(3, 2, seed=4), torch.tensor([0, 1, 1])
    guided = ClassifierFree(oracle, 3.0)
    x0_hat, found = guided.reverse(x, T, S, label=label)
    torch.testing.assert_close(found, oracle.reverse_variance(x, T, S, label=label))
    torch.testing.assert_close(x0_hat, guided(x, T, label=label))
    free = ClassifierFree(oracle, 0.0).reverse_variance(x, T, S, label=label)
    torch.testing.assert_close(free, oracle.reverse_variance(x, T, S))


def test_without_knowledge_the_posterior_variance_is_a_bound() -> None:
    """E Var[x_0 | x_t] <= sigma^2 / alpha^2, the error of x_t / alpha."""
    for oracle in oracles(VP()):
        x = oracle.draw(2000, t=0.2)
        bound = Denoiser.posterior_variance(oracle, x, 0.2)
        assert bound.shape == (2000, 1)
        assert float(oracle.posterior_variance(x, 0.2).mean()) < float(bound.mean())
