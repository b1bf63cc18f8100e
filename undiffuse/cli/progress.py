r"""How far the work is: a bar on a terminal, plain lines elsewhere, both on standard error."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

LINES = 20  # plain lines for a whole task ...
SILENCE = 10.0  # ... but one at least every so many seconds
WINDOW = 30.0  # seconds over which a rate is taken


class Progress(ABC):
    """Shows how much of a task is done. Used as a context; `note` writes a line in between.

    Where nothing can be shown any more (a closed pipe, a terminal that is gone, a full disk) the
    work goes on in silence.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        return None

    @abstractmethod
    def show(self, done: int, total: int, text: str) -> None:
        """Say that `done` of `total` are done, with figures in words."""

    def note(self, text: str) -> None:
        """Write a line of its own."""
        with suppress(OSError):
            print(text, file=sys.stderr, flush=True)


class Lines(Progress):
    """One plain line about every twentieth of the task, and at least every ten seconds."""

    def __init__(self, word: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.word, self.clock = word, clock
        self.part, self.last = 0, clock()

    def show(self, done: int, total: int, text: str) -> None:
        part, now = done * LINES // total, self.clock()
        if part != self.part or now - self.last >= SILENCE:
            self.part, self.last = part, now
            self.note(f"{self.word} {done}/{total}  {text}")


class Bar(Progress):
    """rich's bar, redrawn in place."""

    def __init__(self, word: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Rich
        from rich.table import Column

        line = Column(no_wrap=True, overflow="ellipsis")
        text = TextColumn("{task.fields[text]}", markup=False, table_column=line)
        columns = TextColumn(word), BarColumn(bar_width=20), MofNCompleteColumn(), text
        self.rich = Rich(*columns, console=Console(stderr=True))
        self.task = self.rich.add_task(word, total=None, text="")

    def __enter__(self) -> Self:
        self.rich.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        with suppress(OSError, SystemExit):
            self.rich.stop()

    def show(self, done: int, total: int, text: str) -> None:
        self.rich.update(self.task, completed=done, total=total, text=text)

    def note(self, text: str) -> None:
        with suppress(OSError, SystemExit):  # rich ends the process where a pipe is closed
            self.rich.console.print(text, markup=False, highlight=False)


def progress(word: str) -> Progress:
    """A bar where standard error is a terminal, plain lines where it is not."""
    return Bar(word) if sys.stderr.isatty() else Lines(word)


class Pace:
    """The rate of something that is counted, over the last half minute."""

    def __init__(self, done: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.marks = deque([(clock(), done)])

    def update(self, done: int) -> float:
        """Take note of what is done by now; the rate in units per second."""
        now = self.clock()
        self.marks.append((now, done))
        while len(self.marks) > 2 and now - self.marks[0][0] > WINDOW:
            self.marks.popleft()
        begun, first = self.marks[0]
        return (done - first) / max(now - begun, 1e-9)


def clock_time(seconds: float) -> str:
    """Seconds as minutes and seconds, or hours, minutes and seconds.

    >>> clock_time(83.4), clock_time(3683)
    ('1:23', '1:01:23')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
