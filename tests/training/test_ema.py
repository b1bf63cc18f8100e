"""The average's closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from undiffuse.errors import UndiffuseError
from undiffuse.training.ema import EMA, exponent


def test_weights_of_the_steps_are_powers() -> None:
    """After n steps, step i has weight (i/n)^gamma, all normalised to a sum of 1."""
    steps = 400
    network = nn.Linear(steps, 1, bias=False).double()
    ema = EMA(network, 0.1)
    for i in range(1, steps + 1):
        with torch.no_grad():
            network.weight.zero_()[0, i - 1] = 1.0  # the average then holds the weight of step i
        ema.update(network, i)
    i = torch.arange(1, steps + 1, dtype=torch.float64)
    # beta_n = (1 - 1/n)^(gamma + 1) gives step i exactly (i^(g+1) - (i-1)^(g+1)) / n^(g+1),
    exact = ((i / steps) ** (ema.gamma + 1)).diff(prepend=torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(ema.weights["weight"][0], exact, rtol=0, atol=1e-12)
    # which is the integral over the step of the profile (i/n)^gamma.
    profile = ((i - 0.5) / steps) ** ema.gamma
    torch.testing.assert_close(exact, profile / profile.sum(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("std", [0.01, 0.05, 0.1, 0.25])
def test_the_width_of_the_profile_is_the_one_asked_for(std: float) -> None:
    """The std of tau ~ tau^gamma on [0, 1], by quadrature."""
    gamma = exponent(std)
    tau = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    p = tau**gamma
    p = p / p.sum()
    mean = float((p * tau).sum())
    assert math.sqrt(float((p * (tau - mean) ** 2).sum())) == pytest.approx(std, rel=1e-4)


def test_the_papers_values() -> None:
    assert exponent(0.10) == pytest.approx(6.94, abs=0.005)
    assert exponent(0.05) == pytest.approx(16.97, abs=0.005)


@pytest.mark.parametrize("std", [0.0, -0.1, 0.28, math.nan])
def test_impossible_widths_are_refused(std: float) -> None:
    with pytest.raises(UndiffuseError, match=r"ema must lie between 0 and 0\.28"):
        exponent(std)


def test_the_first_update_copies_and_the_network_is_left_alone() -> None:
    network = nn.Linear(3, 2)
    ema = EMA(network, 0.05)
    with torch.no_grad():
        network.weight.normal_()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    ema.update(network, 1)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(ema.weights[name], value)
        assert ema.weights[name].data_ptr() != value.data_ptr()


def test_buffers_are_taken_as_they_are() -> None:
    network = nn.BatchNorm1d(2)
    ema = EMA(network, 0.05)
    for n in range(1, 4):
        network(torch.randn(8, 2, generator=torch.Generator().manual_seed(n)))
        ema.update(network, n)
    for name, value in network.named_buffers():
        assert torch.equal(ema.weights[name], value)


def test_a_constant_stays_itself() -> None:
    network = nn.Linear(3, 2)
    ema = EMA(network, 0.2)
    for n in range(1, 50):
        ema.update(network, n)
    torch.testing.assert_close(ema.weights, dict(network.state_dict()), rtol=1e-6, atol=0)
