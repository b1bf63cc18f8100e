"""What was asked for as objects: the rule that a text names, the times of a number of steps."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from undiffuse import calls, catalogue
from undiffuse.errors import UndiffuseError
from undiffuse.grids.base import Grid
from undiffuse.samplers.adaptive import Adaptive
from undiffuse.samplers.base import Sampler
from undiffuse.schedules.base import Schedule, as_time

DEFAULT_STEPS = 20


def rule_of(sampler: Sampler | str) -> Sampler:
    """The rule that a text such as "ddim(eta=1)" names: of the catalogue, or the adaptive pair.

    Raises:
        UndiffuseError: no such rule, an unknown option, or one out of range.

    >>> rule_of("adaptive(rtol=1e-4)")
    Adaptive(rtol=0.0001, atol=1e-05)
    """
    if not isinstance(sampler, str):
        return sampler
    name, options = calls.read(sampler)
    if name == Adaptive.name:
        pair: Sampler = catalogue.made(Adaptive, Adaptive, options, f"sampler '{name}'")
        return pair
    rule: Sampler = catalogue.build({"name": name, **options}, "samplers")
    return rule


@functools.lru_cache(maxsize=256)
def grid_times(grid: Grid, schedule: Schedule, steps: int) -> Tensor:
    """The times of a grid, kept: on small data to work them out costs as much as many steps."""
    return grid.times(schedule, steps)


def times_of(
    schedule: Schedule,
    rule: Sampler,
    steps: int | None = None,
    grid: Grid | str | None = None,
    times: Tensor | Sequence[float] | None = None,
) -> Tensor:
    """The times at which `sample` stops, [n + 1], float64; the arguments are those of `sample`.

    Raises:
        UndiffuseError: impossible steps or times.
    """
    if rule.adaptive and steps is not None:
        raise UndiffuseError(
            f"the sampler {rule.name} takes as many steps as its tolerance asks for: leave the"
            f" number of steps ({steps}) out, or choose another sampler"
        )
    if times is None:
        chosen: Grid = (
            grid if isinstance(grid, Grid) else catalogue.build(grid or rule.grid, "grids")
        )
        count = 2 if rule.adaptive else DEFAULT_STEPS  # to the least noise, and to the data
        return grid_times(chosen, schedule, count if steps is None else steps).clone()
    if steps is not None or grid is not None:
        raise UndiffuseError("give times, or steps and a grid, not both")
    moments = as_time(torch.as_tensor(times, dtype=torch.float64))
    if moments.ndim != 1 or len(moments) < 2:
        raise UndiffuseError("times must be a list of at least two times")
    if not bool(((moments >= 0) & (moments <= 1)).all()):
        raise UndiffuseError("times must lie in [0, 1], where 0 is data and 1 is noise")
    gaps = moments.diff()
    if not bool((gaps < 0).all()) and (rule.stochastic or not bool((gaps > 0).all())):
        raise UndiffuseError(
            "times must fall from noise to data"
            + (f", and {rule.name} cannot go back to noise" if rule.stochastic else " (or rise)")
        )
    if bool(gaps[0] > 0) and bool(schedule.sigma(moments[0]) == 0):
        raise UndiffuseError(
            "times that rise must start above 0: at sigma = 0 the noise to follow is not defined"
        )
    return moments
