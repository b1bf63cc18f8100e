"""Leading, trailing and linspace: the step numbers that the diffusers library publishes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from undiffuse.errors import UndiffuseError
from undiffuse.grids import Leading, Linspace, Trailing, Uniform
from undiffuse.grids.base import Grid
from undiffuse.schedules import EDM, VP, Discrete, Shifted, ZeroTerminalSNR


def published(spacing: str, length: int, steps: int) -> NDArray[np.int64]:
    """Timesteps from 0 as in diffusers' DDIM scheduler with steps_offset 0."""
    if spacing == "linspace":
        found = np.linspace(0, length - 1, steps).round()[::-1]
    elif spacing == "leading":
        found = (np.arange(steps) * (length // steps)).round()[::-1]
    else:
        found = np.round(np.arange(length, 0, -length / steps))[:steps] - 1
    return found.astype(np.int64)


GRIDS = [Leading(), Trailing(), Linspace()]


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.name)
@pytest.mark.parametrize("length", [1000, 100, 7])
def test_every_number_of_steps_is_as_published(grid: Grid, length: int) -> None:
    chain = Discrete.constant(length)
    for steps in [*range(2, min(length, 60) + 1), length]:
        times = grid.times(chain, steps)
        expected = [(j + 1) / length for j in published(grid.name, length, steps)]
        assert times.tolist() == [*expected, 0.0]  # exactly k / T
        assert bool((times.diff() < 0).all())


@pytest.mark.parametrize(
    ("grid", "first", "last"),
    [(Leading(), [901, 801], [101, 1]), (Trailing(), [1000, 900], [200, 100])],
)
def test_table_2_of_lin_2023(grid: Grid, first: list[int], last: list[int]) -> None:
    k = (grid.times(Discrete.linear(1000), 10) * 1000).round().int().tolist()
    assert k[:2] == first
    assert k[-3:-1] == last
    assert Linspace().times(Discrete.linear(1000), 10)[:3].tolist() == [1.0, 0.889, 0.778]


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.name)
def test_all_steps_are_the_chain_itself(grid: Grid) -> None:
    chain = Discrete.linear(100)
    assert torch.equal(grid.times(chain, 100), Uniform().times(chain, 100))


def test_one_step() -> None:
    """From the end of the chain, but for leading, which starts at its first step."""
    chain = Discrete.linear(100)
    assert Trailing().times(chain, 1).tolist() == [1.0, 0.0]
    assert Linspace().times(chain, 1).tolist() == [1.0, 0.0]
    assert Leading().times(chain, 1).tolist() == [0.01, 0.0]


def test_views_of_a_chain_keep_its_steps() -> None:
    chain = Discrete.linear(100)
    for view in (ZeroTerminalSNR(chain), Shifted(chain, -1.0)):
        assert torch.equal(Trailing().times(view, 8), Trailing().times(chain, 8))


def test_a_continuous_schedule_is_read_at_the_times_of_a_chain() -> None:
    as_chain = Trailing().times(Discrete.linear(1000), 13)
    assert torch.equal(Trailing().times(VP(), 13), as_chain)
    assert torch.equal(Trailing().times(EDM(), 13), as_chain[:-1])  # then a denoising call
    assert torch.equal(
        Trailing(chain=100).times(VP(), 13)[1:2] * 100, torch.tensor([92.0]).double()
    )


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.name)
def test_mistakes(grid: Grid) -> None:
    with pytest.raises(UndiffuseError, match="cannot choose 101 of the 100 steps of the chain"):
        grid.times(Discrete.linear(100), 101)
    with pytest.raises(UndiffuseError, match="cannot choose 1001 of the 1000 steps"):
        grid.times(VP(), 1001)
    for chain in (0, 2.5, math.nan, True):
        with pytest.raises(UndiffuseError, match="chain must be a whole number, at least 1"):
            type(grid)(chain=chain)  # type: ignore[call-arg]
