"""Brownian paths: one path for each seed and sample, however finely it is read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from undiffuse.noise import FINEST, Brownian, StepNoise, Stream

TIMES = st.floats(0, 1)
PATH = Brownian(3, (0, 7))


@given(TIMES, TIMES, TIMES)
def test_increments_add_up(s: float, t: float, u: float) -> None:
    """W(s, t) + W(t, u) = W(s, u), in any order of the times."""
    parts = PATH.increment((2,), s, t) + PATH.increment((2,), t, u)
    torch.testing.assert_close(parts, PATH.increment((2,), s, u), rtol=0, atol=1e-12)


@given(TIMES)
def test_a_value_does_not_depend_on_what_was_read_before(t: float) -> None:
    again = Brownian(3, (0, 7))
    again.at((2,), 0.123)
    assert torch.equal(again.at((2,), t), PATH.at((2,), t))
    assert torch.equal(again.at((2,), torch.tensor(t, dtype=torch.float64)), PATH.at((2,), t))


def test_it_does_not_depend_on_the_batch() -> None:
    whole = Brownian(11, tuple(range(16))).increment((3, 2), 0.3, 0.7)
    parts = [Brownian(11, (i,)).increment((3, 2), 0.3, 0.7) for i in range(16)]
    assert torch.equal(torch.cat(parts), whole)
    assert whole.shape == (16, 3, 2)
    assert whole.dtype == torch.float64


def test_seeds_samples_and_dimensions_have_paths_of_their_own() -> None:
    rows = torch.cat([Brownian(seed, (0, 1, 2)).at((400,), 0.4) for seed in (0, 1)])
    correlation = torch.corrcoef(rows) - torch.eye(6)
    assert float(correlation.abs().max()) < 5 / 400**0.5
    assert len(rows.unique()) == rows.numel()


def test_the_ends() -> None:
    assert bool((PATH.at((4,), 0.0) == 0).all())
    assert torch.equal(PATH.increment((4,), 0, 1), PATH.at((4,), 1))
    assert bool((PATH.increment((4,), 0.3, 0.3) == 0).all())


@pytest.mark.parametrize("gap", [1.0, 0.5, 0.37, 1e-2, 1e-4, 1e-7, 1e-10])
def test_the_variance_of_an_increment_is_its_length(gap: float) -> None:
    start = (1 - gap) / 3
    moved = Brownian(0, tuple(range(20))).increment((500,), start, start + gap).flatten().numpy()
    assert moved.var() / gap == pytest.approx(1, abs=4 * np.sqrt(2 / moved.size) + 2 / FINEST / gap)
    assert abs(moved.mean()) < 4 * np.sqrt(gap / moved.size)
    assert stats.kstest(moved / moved.std(), "norm").pvalue > 1e-3


def test_increments_are_independent_and_values_have_the_smaller_time_as_covariance() -> None:
    times = [0.07, 0.2, 0.5, 0.61, 0.93]
    path = Brownian(5, tuple(range(20)))
    values = torch.stack([path.at((1000,), t).flatten() for t in times])
    grid = torch.tensor(times, dtype=torch.float64)
    expected = torch.minimum(grid[:, None], grid[None])
    torch.testing.assert_close(values.cov(), expected, rtol=0, atol=4 * (2 / 20_000) ** 0.5)
    steps = values.diff(dim=0).corrcoef() - torch.eye(4)
    assert float(steps.abs().max()) < 4 / 20_000**0.5


def test_a_path_stays_what_it_is() -> None:
    """A seed means the same samples in later versions too, and no draw is shared with others."""
    assert Brownian(0, (0,)).at((2,), 0.3).flatten().tolist() == pytest.approx(
        [-0.616215, 0.465600], abs=1e-6
    )
    other = Stream(0, (0,)).draw((2,), 0, "brownian")
    assert torch.equal(other.double(), Brownian(0, (0,)).at((2,), 1.0))  # W(1) is the first draw


def test_the_noise_of_a_step_knows_its_path() -> None:
    stream, like = Stream(2, (4, 5)), torch.zeros(2, 3)
    noise = StepNoise(stream, Brownian(2, (4, 5)), step=6)
    assert torch.equal(noise(like), stream.draw((3,), 6))
    assert torch.equal(noise(like), stream.draw((3,), 6, call=1))
    t, s = torch.tensor([0.8, 0.3], dtype=torch.float64)
    moved = noise.increment(like, t, s)
    assert moved.dtype == torch.float32
    assert torch.equal(moved, -Brownian(2, (4, 5)).increment((3,), 0.3, 0.8).float())
