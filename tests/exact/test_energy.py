"""An energy is a density without its constant: a score, and with a time a denoiser."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import undiffuse as ud
from undiffuse.derivatives import jacobian
from undiffuse.errors import UndiffuseError
from undiffuse.exact import Energy, EnergyDenoiser, FiniteSet, GaussianMixture
from undiffuse.schedules import VP, Cosine
from undiffuse.schedules.base import Schedule

MEANS = torch.tensor([[-1.0, 0.3], [0.8, -0.5], [0.2, 1.0]], dtype=torch.float64)


def mixture(schedule: Schedule) -> GaussianMixture:
    return GaussianMixture(MEANS, torch.tensor([0.2, 0.5, 0.3]), schedule, std=0.3)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def unnormalised(oracle: GaussianMixture) -> EnergyDenoiser:
    """-log p_t with a constant that changes with t, which must not matter."""
    return EnergyDenoiser(lambda x, t: 7 * t - oracle.log_prob(x, t), oracle.schedule)


def test_the_score_is_minus_the_gradient() -> None:
    oracle, x = mixture(VP()), normal(20, 2)
    energy = Energy.of(oracle, 0.4)
    torch.testing.assert_close(energy(x), -oracle.log_prob(x, 0.4))
    torch.testing.assert_close(energy.score(x).detach(), oracle.score(x, 0.4))
    torch.testing.assert_close(energy.log_prob(x, 0.0), oracle.log_prob(x, 0.4))


def test_the_score_can_be_trained_through_and_used_without_gradients() -> None:
    linear = nn.Linear(2, 1)
    energy, x = Energy(lambda x: torch.tanh(linear(x))[:, 0]), torch.randn(5, 2)
    energy.score(x).square().sum().backward()
    assert float(linear.weight.grad.abs().sum()) > 0
    with torch.no_grad():
        score = energy.score(x)
    assert not score.requires_grad
    torch.testing.assert_close(score, energy.score(x).detach())


def test_an_energy_for_every_time_is_the_denoiser(schedule: Schedule) -> None:
    """Tweedie: x0_hat = (x - sigma^2 grad E) / alpha, whatever the constant."""
    oracle, x = mixture(schedule), normal(20, 2)
    made = unnormalised(oracle)
    for t in (0.1, 0.6, torch.linspace(0.05, 0.95, 20, dtype=torch.float64)):
        torch.testing.assert_close(made(x, t).detach(), oracle(x, t), rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(made.score(x, t).detach(), oracle.score(x, t))


@pytest.mark.parametrize("sampler", ud.catalogue.names("samplers"))
def test_every_sampler_works_with_an_energy(sampler: str) -> None:
    oracle = mixture(VP())
    one, other = (ud.sample(d, (6, 2), sampler, steps=8) for d in (unnormalised(oracle), oracle))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_the_second_derivatives_of_an_energy_exist() -> None:
    """Implicit score matching needs them, for points too."""
    oracle, x = FiniteSet(MEANS, VP()), normal(5, 2)
    hessian = jacobian(Energy.of(oracle, 0.5).score, x).detach()
    torch.testing.assert_close(hessian, jacobian(lambda x: oracle.score(x, 0.5), x).detach())
    torch.testing.assert_close(hessian, hessian.mT)


def test_log_prob_of_a_gaussian_energy() -> None:
    """E = |x|^2 / 2 has Z = (2 pi)^(D/2)."""
    energy, x = Energy(lambda x: x.square().sum(1) / 2), normal(6, 3)
    expected = torch.distributions.Normal(0, 1).log_prob(x).sum(1)
    torch.testing.assert_close(energy.log_prob(x, 1.5 * math.log(2 * math.pi)), expected)


def test_parameters_of_the_module_are_those_of_the_energy() -> None:
    assert len(list(Energy(nn.Linear(2, 1)).parameters())) == 2
    assert len(list(EnergyDenoiser(nn.Linear(2, 1), VP()).parameters())) == 2


def test_mistakes_are_one_sentence() -> None:
    with pytest.raises(UndiffuseError, match=r"one number for each of the 4 samples, \[4\]"):
        Energy(nn.Linear(2, 1))(torch.zeros(4, 2))
    with pytest.raises(UndiffuseError, match="alpha = 0: start below t = 1"):
        unnormalised(mixture(Cosine()))(torch.zeros(4, 2).double(), 1.0)
