r"""How a run has gone so far: its smoothed loss, its usual gradient, the steps it had to skip.

A part of the state of a run, so a resumed run judges a step as the uninterrupted one would have.

    loss      mean over about the last 50 steps, sum_i 0.98^(n-i) l_i / sum_i 0.98^(n-i)
    usual     the median of the last 50 gradient norms

A gradient *explodes* where it is clipped and its norm is more than 100 times the usual one. Such a
step is taken, since clipping bounds it, and is told: a single one does no harm, several in a row
mean that the learning rate is too high.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace

KEPT = 0.98  # of the smoothed loss at each step
WINDOW = 50  # gradient norms that are remembered
ENOUGH = 20  # of them, before one can be unusual
EXPLOSION = 100.0  # times the usual norm


@dataclass(frozen=True)
class Course:
    """What the steps so far were like; a value, which each step replaces."""

    skipped: int = 0  # steps without a finite loss or gradient, in all
    in_a_row: int = 0  # of them, since the last step that was taken
    total: float = 0.0  # of the smoothed loss, with its weight below
    weight: float = 0.0
    norms: tuple[float, ...] = ()  # the last gradient norms, before clipping

    def __post_init__(self) -> None:
        object.__setattr__(self, "norms", tuple(self.norms))

    @property
    def loss(self) -> float | None:
        """The smoothed loss; None before the first step."""
        return self.total / self.weight if self.weight else None

    @property
    def settled(self) -> bool:
        """Whether enough steps were taken for the smoothed loss to say something."""
        return self.weight > 1 - KEPT**WINDOW - 1e-9

    def taken(self, loss: float, norm: float) -> Course:
        """After a step with this loss and gradient norm."""
        return replace(
            self,
            in_a_row=0,
            total=KEPT * self.total + (1 - KEPT) * loss,
            weight=KEPT * self.weight + (1 - KEPT),
            norms=(*self.norms, norm)[-WINDOW:],
        )

    def missed(self) -> Course:
        """After a step that was skipped."""
        return replace(self, skipped=self.skipped + 1, in_a_row=self.in_a_row + 1)

    def explosion(self, norm: float, clip: float) -> float | None:
        """How many times the usual norm this one is, if that is an explosion; None if not.

        >>> Course(norms=(0.1,) * 20).explosion(50.0, clip=1.0)
        500.0
        """
        if len(self.norms) < ENOUGH or norm <= clip:
            return None
        usual = statistics.median(self.norms)
        return norm / usual if norm > EXPLOSION * usual > 0 else None
