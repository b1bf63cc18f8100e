r"""The noise levels and weights of the default rule, for each number of steps.

They were optimised once (`benchmarks/universal.py`) over a family of closed-form denoisers: random
mixtures in 2 to 64 dimensions, Gaussians with variances over three decades, smoothed pictures and
guided mixtures, all of about unit scale. The table holds some numbers of steps; between them levels
and weights are interpolated (`samplers/universal.py`). Beyond its longest row the levels are
refined, and the weights are those of exponential Adams-Bashforth.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.grids.base import Grid, intervals
from undiffuse.grids.levels import Levels
from undiffuse.grids.log_snr import LogSNR
from undiffuse.schedules.base import Schedule

START, LOW = 80.0, 0.1
TABLE = Path(__file__).with_name("universal.json")


class Row(NamedTuple):
    """The levels after the start, and for each of them the weights (`NonStationary`)."""

    noise_levels: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]


@functools.cache
def table() -> dict[int, Row]:
    """The optimised rules by their number of steps."""
    stored = json.loads(TABLE.read_text(encoding="utf-8"))
    return {
        int(steps): Row(tuple(row["noise_levels"]), tuple(map(tuple, row["weights"])))
        for steps, row in stored.items()
    }


def neighbours(steps: int) -> tuple[int, int, float]:
    """The rows of the table on either side, and how far `steps` is from the first, in [0, 1].

    Beyond the table's end both are its longest row.
    """
    known = sorted(table())
    shorter = max(n for n in known if n <= steps)
    longer = min((n for n in known if n >= steps), default=shorter)
    return shorter, longer, (steps - shorter) / (longer - shorter) if longer > shorter else 0.0


@functools.cache
def noise_levels(steps: int) -> tuple[float, ...]:
    """The steps - 1 levels after the start at 80: those of the table, or between them.

    The logarithms of the levels of both neighbours are interpolated. Beyond the table those of its
    longest row are, and the levels below 0.1 are drawn down, so that the lowest falls as 1 / steps.
    """
    shorter, longer, share = neighbours(steps)
    made = [refined(table()[n].noise_levels, steps) for n in (shorter, longer)]
    levels = (1 - share) * made[0] + share * made[1]
    if steps > longer:
        low = (math.log(LOW) - levels).clip(0) / (math.log(LOW) - levels[-1])
        levels = levels - low * math.log(steps / longer)
    return tuple(float(f"{level:.6g}") for level in np.exp(levels[1:]))


def refined(levels: Sequence[float], steps: int) -> NDArray[np.float64]:
    """The logarithms of the start and the levels, interpolated to as many as `steps`."""
    known = np.log([START, *levels])
    places = np.linspace(0, len(known) - 1, steps)
    return np.interp(places, np.arange(len(known)), known)


@dataclass(frozen=True)
class Universal(Grid):
    """The noise levels that belong to the sampler "universal", then one step to t = 0.

    They begin at sigma/alpha = 80, or where the schedule does; where the schedule lacks some of
    the levels, the steps are equal in log-SNR. They are made for data of about unit scale, such as
    images in [-1, 1].

    >>> from undiffuse.schedules.flow import Flow
    >>> len(Universal().times(Flow(), 10))
    11
    """

    name: ClassVar[str] = "universal"
    noise_max: float = START

    def __post_init__(self) -> None:
        check(finite(self.noise_max) and self.noise_max > 0, self, "noise_max", "positive")

    def times(self, schedule: Schedule, steps: int) -> Tensor:
        intervals(schedule, steps)  # refuses what is no number of steps
        levels = noise_levels(int(steps))
        if self.noise_max > max(levels, default=0):
            exact = Levels(levels, self.noise_max)
            if exact.fits(schedule):
                return exact.times(schedule, steps)
        return LogSNR(noise_max=self.noise_max).times(schedule, steps)
