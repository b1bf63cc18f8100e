"""The coupling of data and noise is the optimal transport of the batch, and only a reordering."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from torch import Tensor

from undiffuse.errors import UndiffuseError
from undiffuse.objectives import couple


def batch(count: int, shape: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_0, noise = torch.randn(2, count, *shape, generator=generator)
    return x_0, noise


def cost(x_0: Tensor, noise: Tensor) -> float:
    return float((x_0 - noise).double().square().sum())


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("seed", range(5))
def test_no_permutation_is_cheaper(count: int, seed: int) -> None:
    x_0, noise = batch(count, (2, 3), seed)
    best = min(cost(x_0, noise[list(order)]) for order in permutations(range(count)))
    assert cost(x_0, couple(x_0, noise)) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("shape", [(1,), (2,), (1, 4, 4)])
def test_it_is_a_reordering_and_never_costs_more(shape: tuple[int, ...]) -> None:
    x_0, noise = batch(100, shape)
    coupled = couple(x_0, noise)
    assert coupled.dtype == noise.dtype
    assert sorted(coupled.flatten(1).tolist()) == sorted(noise.flatten(1).tolist())
    assert cost(x_0, coupled) < cost(x_0, noise)
    assert torch.equal(couple(x_0, coupled), coupled)


def test_on_a_line_it_pairs_equal_ranks() -> None:
    x_0, noise = batch(50, (1,))
    coupled = couple(x_0, noise)
    assert torch.equal(coupled[:, 0].argsort(), x_0[:, 0].argsort())


def test_every_label_keeps_its_own_noise() -> None:
    x_0, noise = batch(60, (2,))
    label = torch.arange(60) % 3 - 1
    coupled = couple(x_0 + 5 * label[:, None], noise, label)
    for value in (-1, 0, 1):
        mine = label == value
        assert sorted(coupled[mine].tolist()) == sorted(noise[mine].tolist())
        assert torch.equal(coupled[mine], couple(x_0[mine], noise[mine]))


def test_paths_on_a_line_no_longer_cross() -> None:
    """x_t of two pairs never meet, so the direction eps - x_0 is a function of (x_t, t)."""
    x_0, noise = batch(40, (1,))
    coupled = couple(x_0, noise)
    order = x_0[:, 0].argsort()
    for t in (0.25, 0.5, 0.75, 1.0):
        x_t = ((1 - t) * x_0 + t * coupled)[order, 0]
        assert bool((x_t.diff() >= 0).all())


def test_different_shapes_are_refused() -> None:
    with pytest.raises(UndiffuseError, match=r"one shape to be paired, not \(3, 2\) and \(2, 2\)"):
        couple(torch.zeros(3, 2), torch.zeros(2, 2))
