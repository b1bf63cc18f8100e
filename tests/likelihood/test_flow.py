"""The density carried by the probability-flow ODE is the exact one, under every schedule."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from scipy.stats import t as student
from torch import Tensor

from undiffuse.denoiser import Denoiser, Learned
from undiffuse.errors import RunFailed, UndiffuseError
from undiffuse.exact import Gaussian, GaussianMixture
from undiffuse.likelihood import decode, encode, log_likelihood
from undiffuse.networks import MLP
from undiffuse.predictions import EDMNetwork
from undiffuse.samplers import adaptive
from undiffuse.samplers.loop import sample
from undiffuse.schedules import EDM, VP, Cosine, Flow
from undiffuse.schedules.base import Schedule

DELTA = 1e-3
MEANS = torch.tensor([[-1.0, 0.0], [1.0, 0.5], [0.2, -1.0]], dtype=torch.float64)
COV = torch.tensor([[0.5, 0.3], [0.3, 0.4]], dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gaussian(schedule: Schedule) -> Gaussian:
    return Gaussian(torch.tensor([0.5, -1.0]), schedule, cov=COV)


def mixture(schedule: Schedule) -> GaussianMixture:
    labels = torch.tensor([0, 1, 1])
    return GaussianMixture(MEANS, torch.tensor([0.2, 0.5, 0.3]), schedule, std=0.25, labels=labels)


@pytest.mark.parametrize("make", [gaussian, mixture])
def test_log_p_is_exact(schedule: Schedule, make: type[Gaussian]) -> None:
    """With the exact p_{1 - delta} at the end, to 1e-5; by as many calls under any schedule."""
    oracle = make(schedule)
    x = oracle.draw(4, DELTA)
    found = log_likelihood(oracle, x, start=DELTA, end=1 - DELTA, terminal=oracle.log_prob)
    torch.testing.assert_close(found.log_p, oracle.log_prob(x, DELTA), rtol=0, atol=1e-5)
    assert found.evaluations < 200
    assert found.standard_error.tolist() == [0] * 4


def test_the_standard_prior_costs_its_own_difference() -> None:
    """log p with the prior - log p = log prior - log p_1, at the point where the flow ends."""
    for schedule in (VP(), EDM()):
        oracle = mixture(schedule)
        x = oracle.draw(6, DELTA)
        found = log_likelihood(oracle, x, start=DELTA, end=1.0)
        width = float(torch.hypot(schedule.alpha(1.0), schedule.sigma(1.0)))
        prior = torch.distributions.Normal(0, width).log_prob(found.x_end).sum(1)
        gap = prior - oracle.log_prob(found.x_end, 1.0)
        assert float(gap.abs().max()) > 1e-4
        torch.testing.assert_close(found.log_p - oracle.log_prob(x, DELTA), gap, rtol=0, atol=1e-5)


@pytest.mark.parametrize("schedule", [Flow(), Cosine()])
def test_up_to_pure_noise(schedule: Schedule) -> None:
    """At alpha = 0 the standard prior is p_1 itself."""
    oracle = mixture(schedule)
    x = oracle.draw(6, DELTA)
    found = log_likelihood(oracle, x, start=DELTA, end=1.0)
    torch.testing.assert_close(found.log_p, oracle.log_prob(x, DELTA), rtol=0, atol=1e-5)


def test_by_default_the_times_are_those_of_the_noise_levels() -> None:
    """From sigma/alpha = 0.002 to 160: a whole density, which integrates to 1."""
    oracle = Gaussian(torch.tensor([0.3]), Flow(), std=0.5)
    x = torch.linspace(-4, 5, 181, dtype=torch.float64)[:, None]
    density = log_likelihood(oracle, x).log_p.exp()
    assert float(torch.trapezoid(density, x[:, 0])) == pytest.approx(1, abs=1e-4)
    exact = torch.distributions.Normal(0.3, 0.5).log_prob(x[:, 0]).exp()
    torch.testing.assert_close(density, exact, rtol=0, atol=1e-2)  # p_start, not p_0


def test_labels_and_ranks() -> None:
    oracle, x = mixture(VP()), normal(4, 2)
    label = torch.tensor([0, 1, -1, 1])
    found = log_likelihood(
        oracle,
        x,
        start=0.05,
        end=0.95,
        terminal=lambda x, t: oracle.log_prob(x, t, label=label),
        label=label,
    )
    torch.testing.assert_close(
        found.log_p, oracle.log_prob(x, 0.05, label=label), rtol=0, atol=1e-5
    )
    pictures = Gaussian(normal(1, 2, 2), Flow(), std=0.5)
    x = pictures.draw(3, 0.1)
    found = log_likelihood(pictures, x, start=0.1, end=1.0)
    torch.testing.assert_close(found.log_p, pictures.log_prob(x, 0.1), rtol=0, atol=1e-5)
    assert found.x_end.shape == x.shape


# ------------------------------------------------------------------ Hutchinson's estimate


def test_orthogonal_probes_average_to_the_exact_trace() -> None:
    """sum_i q_i^T J q_i = tr J for orthonormal q_i: the estimate has no bias."""
    oracle = GaussianMixture(normal(4, 3), None, VP(), std=0.4)
    x = oracle.draw(5, 0.02)
    probes = math.sqrt(3) * torch.linalg.qr(normal(5, 3, 3, seed=1))[0].transpose(0, 1)
    times = {"start": 0.02, "end": 0.98, "terminal": oracle.log_prob}
    estimated = log_likelihood(oracle, x, probes=probes, **times)
    torch.testing.assert_close(estimated.log_p, oracle.log_prob(x, 0.02), rtol=0, atol=1e-5)
    assert bool((estimated.standard_error > 1e-3).all())


def test_intervals_cover() -> None:
    """95 % intervals hold the exact log p in 90 to 99 % of 200 trials."""
    trials, probes, size = 200, 10, 4
    oracle = Gaussian(
        torch.zeros(size), VP(), cov=torch.diag(torch.tensor([0.02, 0.1, 0.5, 2.0])).double()
    )
    x = oracle.draw(1, 0.02).expand(trials, size)
    found = log_likelihood(
        oracle,
        x,
        start=0.02,
        end=0.98,
        terminal=oracle.log_prob,
        probes=normal(probes, trials, size, seed=3),
        rtol=1e-4,
        atol=1e-4,
    )
    error = found.log_p - oracle.log_prob(x, 0.02)
    assert float(error.mean().abs() / (error.std() / math.sqrt(trials))) < 3
    inside = error.abs() <= student.ppf(0.975, probes - 1) * found.standard_error
    assert 0.9 <= float(inside.double().mean()) <= 0.99


def test_a_single_probe_has_no_known_error() -> None:
    oracle, x = gaussian(VP()), normal(3, 2)
    found = log_likelihood(oracle, x, start=0.1, end=0.9, probes=normal(1, 3, 2))
    assert bool(found.standard_error.isnan().all())
    assert bool(found.log_p.isfinite().all())


# ------------------------------------------------------------------ there and back


@pytest.mark.parametrize("schedule", [VP(), EDM(), Flow()])
def test_encoding_and_decoding(schedule: Schedule) -> None:
    """On a Gaussian the exact map; on a mixture, back where it started."""
    one, many = gaussian(schedule), mixture(schedule)
    x, times = one.draw(5, DELTA), {"start": DELTA, "end": 0.99}
    noise = encode(one, x, **times, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(noise, one.flow(x, DELTA, 0.99), rtol=1e-6, atol=1e-6)
    y = many.draw(5, DELTA)
    there = encode(many, y, **times, rtol=1e-8, atol=1e-8)
    back = decode(many, there, **times, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(back, y, rtol=0, atol=1e-5)
    assert float((there - y).abs().max()) > 0.1


def test_decoding_is_what_samplers_converge_to() -> None:
    oracle = mixture(VP())
    noise = oracle.draw(6, 0.9)
    exact = decode(oracle, noise, start=0.01, end=0.9)
    t = torch.linspace(0.9, 0.01, 200, dtype=torch.float64)
    steps = sample(oracle, (6, 2), "exponential-adams", x_T=noise, times=t, last_denoise=False)
    assert isinstance(steps, Tensor)
    torch.testing.assert_close(steps, exact, rtol=0, atol=1e-3)


def learned() -> Learned:
    torch.manual_seed(0)
    network = MLP(size=2, width=16, depth=1)
    torch.nn.init.normal_(network.head.weight, std=0.1)
    return Learned(network, EDMNetwork(sigma_data=0.5), VP())


def test_a_learned_denoiser() -> None:
    """float32 within, float64 without, no graph; there and back again."""
    x = 0.5 * normal(3, 2).float()
    found = log_likelihood(learned(), x, rtol=1e-5, atol=1e-5)
    assert found.log_p.dtype == found.x_end.dtype == torch.float64
    assert not found.log_p.requires_grad
    noise = encode(learned(), x, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(noise, found.x_end, rtol=0, atol=2e-3)
    back = decode(learned(), noise, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(back, x.double(), rtol=0, atol=2e-3)


def test_log_p_is_that_of_the_map() -> None:
    """log p(x) = log p_end(x_end) + log |det d x_end / d x|, whatever the denoiser believes."""
    denoiser, step = learned().double(), 1e-5
    x, tight = 0.5 * normal(1, 2), {"rtol": 1e-10, "atol": 1e-10}
    around = x + step * torch.cat([torch.eye(2), -torch.eye(2)]).double()
    ends = encode(denoiser, around, **tight)
    slopes = (ends[:2] - ends[2:]) / (2 * step)
    found = log_likelihood(denoiser, x, **tight)
    width = torch.hypot(*(f(torch.tensor(1.0)) for f in (VP().alpha, VP().sigma)))
    prior = torch.distributions.Normal(0, width).log_prob(found.x_end).sum()
    expected = prior + torch.linalg.slogdet(slopes).logabsdet
    assert found.log_p.item() == pytest.approx(expected.item(), abs=1e-4)


# ------------------------------------------------------------------ mistakes


class Broken(Denoiser):
    """Gives NaN below sigma/alpha = 1."""

    schedule = VP()

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Tensor | None) -> Tensor:
        return x_t * math.nan if float(self.schedule.log_snr(t)) > 0 else x_t


class Rough(Denoiser):
    """Jumps without end."""

    schedule = VP()

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Tensor | None) -> Tensor:
        return (x_t * 1e12).sin() * 1e3


def test_a_failing_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunFailed, match="gave NaN or infinity at sigma/alpha"):
        log_likelihood(Broken(), normal(2, 2))
    monkeypatch.setattr(adaptive, "MAX_STEPS", 30)
    with pytest.raises(RunFailed, match="cannot keep rtol = 1e-06, atol = 1e-06 within 30 steps"):
        encode(Rough(), normal(2, 2))


def test_mistakes_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    oracle, x = gaussian(VP()), normal(3, 2)
    for start, end in ((0.5, 0.5), (0.9, 0.1), (-0.1, 0.5), (0.1, 1.1), (torch.ones(3), 1.0)):
        with pytest.raises(UndiffuseError, match="0 <= start < end <= 1"):
            log_likelihood(oracle, x, start=start, end=end)
    with pytest.raises(UndiffuseError, match=r"no noise \(sigma = 0\).*use a later start"):
        encode(oracle, x, start=0.0)
    for wrong in (0.0, -1.0, math.nan, 2.0):
        with pytest.raises(UndiffuseError, match="rtol must be between 0 and 1"):
            decode(oracle, x, rtol=wrong)
    with pytest.raises(UndiffuseError, match=r"probes must be \[M, 3, 2\]"):
        log_likelihood(oracle, x, probes=normal(3, 2))
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    with pytest.raises(UndiffuseError, match=r"needs torchdiffeq: install undiffuse\[ode\]"):
        log_likelihood(oracle, x)
