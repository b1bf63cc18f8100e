"""An object of the user's own, such as a W&B run that is open already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from undiffuse.catalogue import check
from undiffuse.training.loggers.base import Logger, Write

if TYPE_CHECKING:
    from undiffuse.training.run import Run


@dataclass(frozen=True)
class Given(Logger):
    """Whatever has a method `log(figures, step=...)`; it is neither opened nor closed here.

    Raises:
        UndiffuseError: there is no such method.
    """

    place: Any

    def __post_init__(self) -> None:
        fine = callable(getattr(self.place, "log", None))
        check(fine, self, "place", "an object with a method log(figures, step=...)")

    @contextmanager
    def writing(self, run: Run, first: int) -> Iterator[Write]:
        yield lambda figures, step: self.place.log(dict(figures), step=step)
