"""Random numbers are functions of what they are for, and are distributed as they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from undiffuse import noise
from undiffuse.noise import Stream


def test_a_draw_is_a_function_of_its_arguments() -> None:
    first = noise.normal(3, "sample", (4, 2), index=5, step=7)
    noise.normal(3, "sample", (100,), index=6)  # other draws in between change nothing
    np.random.default_rng(0).random(10)
    torch.manual_seed(1)
    assert torch.equal(first, noise.normal(3, "sample", (4, 2), index=5, step=7))
    assert torch.equal(noise.uniform(0, "t", 9, step=2), noise.uniform(0, "t", 9, step=2))
    assert torch.equal(noise.permutation(0, "o", 9), noise.permutation(0, "o", 9))
    assert noise.integer(0, "x", 1) == noise.integer(0, "x", 1)


def test_the_numbers_stay_what_they_are() -> None:
    """A seed means the same samples in later versions too."""
    assert noise.normal(0, "sample", (3,)).tolist() == pytest.approx(
        [0.092445, 1.268686, -0.999956], abs=1e-6
    )


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_noise_does_not_depend_on_the_batch(batch: int) -> None:
    whole = Stream(11, tuple(range(64))).draw((3, 2, 2), step=4)
    parts = [
        Stream(11, tuple(range(low, min(low + batch, 64)))).draw((3, 2, 2), step=4)
        for low in range(0, 64, batch)
    ]
    assert torch.equal(torch.cat(parts), whole)
    assert whole.shape == (64, 3, 2, 2)
    assert whole.dtype == torch.float32


def test_no_two_uses_share_numbers() -> None:
    seen = torch.stack(
        [
            noise.normal(seed, purpose, (4,), index, step)
            for seed in (0, 1, -1, 12, 2**40)
            for purpose in ("sample", "order", "t", "2/t")
            for index in range(10)
            for step in range(10)
        ]
    )
    assert len(seen.unique(dim=0)) == len(seen)
    assert len(seen.unique()) > 0.999 * seen.numel()  # float32 has few numbers; not whole runs
    long = noise.normal(0, "sample", (5000,))
    shifted = noise.normal(0, "sample", (5000,), index=1)
    assert len(np.intersect1d(long.numpy(), shifted.numpy())) < 50


def test_large_indices_and_steps_are_uses_of_their_own() -> None:
    first = noise.normal(0, "sample", (4,), index=2**40, step=2**40)
    assert not torch.equal(first, noise.normal(0, "sample", (4,)))


def test_normal_numbers_are_normal() -> None:
    z = Stream(0, tuple(range(400))).draw((50,), step=1).double().numpy()
    assert z.mean() == pytest.approx(0, abs=4 / np.sqrt(z.size))
    assert z.var() == pytest.approx(1, abs=4 * np.sqrt(2 / z.size))
    assert stats.kstest(z.flatten(), "norm").pvalue > 1e-3
    for other in (z[1:] * z[:-1], z[:, 1:] * z[:, :-1]):  # across samples, and within one
        assert other.mean() == pytest.approx(0, abs=4 / np.sqrt(other.size))
    later = Stream(0, tuple(range(400))).draw((50,), step=2).double().numpy()
    assert (z * later).mean() == pytest.approx(0, abs=4 / np.sqrt(z.size))


@pytest.mark.parametrize("count", [1, 2, 7, 64, 1000])
def test_uniform_has_one_number_in_each_stratum(count: int) -> None:
    u = noise.uniform(5, "t", count, step=3)
    assert u.dtype == torch.float64
    assert bool(((u >= 0) & (u < 1)).all())
    assert torch.equal((u * count).floor().long().sort().values, torch.arange(count))
    within = u * count % 1  # each at a place of its own in its stratum
    assert len((within * 1e9).round().unique()) == count


def test_each_uniform_number_is_uniform_on_its_own() -> None:
    first = torch.stack([noise.uniform(0, "t", 8, step) for step in range(500)])
    for column in first.T:
        assert stats.kstest(column.numpy(), "uniform").pvalue > 1e-3
    assert stats.kstest((first * 8 % 1).flatten().numpy(), "uniform").pvalue > 1e-3


def test_permutations_hold_every_number_once_and_differ() -> None:
    orders = [noise.permutation(0, "order", 100, step) for step in range(5)]
    for order in orders:
        assert torch.equal(order.sort().values, torch.arange(100))
    assert len({tuple(order.tolist()) for order in orders}) == 5


def test_integers_are_in_range() -> None:
    drawn = {noise.integer(0, "library", step) for step in range(200)}
    assert len(drawn) == 200
    assert all(0 <= n < 2**63 for n in drawn)
