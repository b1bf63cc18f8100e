"""Bits per dimension: eight for a uniform density, and never less than the levels cost."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from undiffuse.errors import UndiffuseError
from undiffuse.likelihood import bits_per_dimension, dequantised, quantised
from undiffuse.likelihood.decoders import discretised_log_prob

LEVELS = torch.arange(256)
SCALES = [127.5, 128.0]
BIN = torch.linspace(0, 1, 1002, dtype=torch.float64)[1:-1]  # u inside its bin


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dims", [1, 3, 3072])
def test_a_uniform_density_over_the_cube_costs_eight_bits(scale: float, dims: int) -> None:
    edges = dequantised(torch.tensor([0, 255]), torch.tensor([0.0, 1.0]), scale)
    log_p = -dims * (edges[1] - edges[0]).log()
    assert float(bits_per_dimension(log_p, dims, scale)) == pytest.approx(8, abs=1e-12)


def test_the_constants() -> None:
    """Nats to bits, and the width of a bin: log2(127.5) for images n / 127.5 - 1."""
    zero = torch.zeros(1, dtype=torch.float64)
    assert bits_per_dimension(zero, 5).item() == pytest.approx(math.log2(127.5))
    assert bits_per_dimension(zero, 5, 128.0).item() == 7
    one = bits_per_dimension(zero - 10 * math.log(2), 5) - bits_per_dimension(zero, 5)
    assert one.item() == pytest.approx(2)  # ten bits over five dimensions


def test_the_images_of_this_package_stand_at_the_middles_of_their_bins() -> None:
    pixels = LEVELS.to(torch.uint8).reshape(1, 16, 16, 1)
    images = LEVELS.double().reshape(1, 1, 16, 16) / 127.5 - 1
    middles = dequantised(LEVELS, torch.full((256,), 0.5))
    torch.testing.assert_close(middles, images.flatten())
    assert torch.equal(quantised(images), pixels.permute(0, 3, 1, 2))
    width = dequantised(LEVELS, torch.ones(256)) - dequantised(LEVELS, torch.zeros(256))
    torch.testing.assert_close(width, torch.full((256,), 2 / 255, dtype=torch.float64))


def test_the_other_scale_fills_minus_one_to_one() -> None:
    """(n + u) / 256 in [0, 1), scaled to [-1, 1)."""
    u = torch.rand(256, generator=torch.Generator().manual_seed(0))
    expected = 2 * (LEVELS + u.double()) / 256 - 1
    torch.testing.assert_close(dequantised(LEVELS, u, 128.0), expected)


@given(n=st.integers(0, 255), u=st.floats(0.001, 0.999), scale=st.sampled_from(SCALES))
def test_back_to_the_level(n: int, u: float, scale: float) -> None:
    x = dequantised(torch.tensor([n]), torch.tensor([u]), scale)
    assert quantised(x, scale).tolist() == [n]


@pytest.mark.parametrize("std", [0.003, 0.02, 0.3])
def test_it_bounds_the_cost_of_the_levels(std: float) -> None:
    """E_u[bits of the density] >= bits of the mass in the bin, and nearly equal if p is smooth."""
    mean, levels = 0.1, torch.arange(100, 181)
    density = torch.distributions.Normal(torch.tensor(mean, dtype=torch.float64), std)

    def bits(u: Tensor) -> Tensor:
        return bits_per_dimension(density.log_prob(dequantised(levels, u.expand(81))), 1)

    bound = torch.stack([bits(u) for u in BIN]).mean(0)
    middles = dequantised(levels, torch.full((81,), 0.5))[:, None]
    mass = discretised_log_prob(middles, torch.full_like(middles, mean), torch.tensor(std) ** 2)
    cost = -mass / math.log(2)
    assert bool((bound >= cost - 1e-6).all())
    if std == 0.3:
        torch.testing.assert_close(bound, cost, rtol=0, atol=1e-4)
    else:
        assert float((bound - cost).max()) > 1e-3


def test_mistakes_are_one_sentence() -> None:
    u = torch.zeros(1)
    for wrong in (-1.0, 256.0, 0.5, math.nan):
        with pytest.raises(UndiffuseError, match="whole numbers from 0 to 255"):
            dequantised(torch.tensor([wrong]), u)
    with pytest.raises(UndiffuseError, match="scale must be positive"):
        dequantised(LEVELS[:1], u, 0.0)
    with pytest.raises(UndiffuseError, match="dims must be at least 1"):
        bits_per_dimension(u, 0)
