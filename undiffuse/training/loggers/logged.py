r"""The records of a training, written to loggers on their way to whoever else wants them.

for record in logged(session.records(), session.run, chosen("tensorboard"), session.tell):
    ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from undiffuse.catalogue import parse
from undiffuse.errors import one_line
from undiffuse.training.loggers.base import Logger, Write
from undiffuse.training.loggers.given import Given
from undiffuse.training.loop import Record
from undiffuse.training.run import Run

FAMILY = "training.loggers"
Tell = Callable[[str], object]


def chosen(log: Any) -> list[Logger]:
    """The loggers asked for: a name, an object with `log(figures, step=...)`, a list of such, None.

    Raises:
        UndiffuseError: an unknown name, a missing library, an object without that method.
    """
    wanted = [] if log is None else log if isinstance(log, list | tuple) else [log]
    loggers: list[Logger] = [_one(each) for each in wanted]
    for logger in loggers:
        logger.check()
    return loggers


def _one(log: Any) -> Logger:
    if isinstance(log, Logger):
        return log
    made: Logger = parse(FAMILY, log) if isinstance(log, str) else Given(log)
    return made


def logged(
    records: Iterable[Record], run: Run, loggers: Sequence[Logger], tell: Tell
) -> Iterator[Record]:
    """The records, each written to every logger; opened at the first one, closed after the last.

    A logger that fails is left out from then on, which `tell` is told: figures elsewhere are never
    worth a run.
    """
    places = [_Place(logger, run, tell) for logger in loggers]
    try:
        for record in records:
            figures = {
                name: value
                for name, value in record._asdict().items()
                if name not in {"step", "steps"} and isinstance(value, int | float)
            }
            for place in places:
                place.write(figures, record.step)
            yield record
    finally:
        for place in places:
            place.close()


class _Place:
    """A logger in use, until it fails."""

    def __init__(self, logger: Logger, run: Run, tell: Tell) -> None:
        self.logger, self.run, self.tell = logger, run, tell
        self.stack = ExitStack()
        self.writer: Write | None = None
        self.failed = False

    def write(self, figures: dict[str, float], step: int) -> None:
        if self.failed:
            return
        try:
            if self.writer is None:
                self.writer = self.stack.enter_context(self.logger.writing(self.run, step))
            self.writer(figures, step)
        except Exception as error:  # of a library, a disk, a network: anything
            self._fail(error)

    def close(self) -> None:
        try:
            self.stack.close()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self.failed:
            self.failed = True
            reason = one_line(f"{type(error).__name__}: {error}")
            self.tell(f"{self.logger} is left out from here on ({reason}); the run goes on")
