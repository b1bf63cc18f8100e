"""A schedule made from a schedule."""

from __future__ import annotations

from dataclasses import dataclass

from undiffuse.catalogue import build, check
from undiffuse.errors import UndiffuseError
from undiffuse.schedules.base import Schedule


@dataclass(frozen=True)
class View(Schedule):
    """A schedule that is a function of another one, `schedule`.

    In a recipe or a model's file the other schedule is its own description, {"kind":
    "schedules.cosine"}, or its text, "cosine" or "vp(beta_max=10)".

    Raises:
        UndiffuseError: `schedule` is no schedule.
    """

    schedule: Schedule

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "schedule", build(self.schedule, "schedules"))
        except UndiffuseError as error:
            raise UndiffuseError(f"{type(self).__name__}: schedule: {error}") from error
        check(isinstance(self.schedule, Schedule), self, "schedule", "a schedule")
