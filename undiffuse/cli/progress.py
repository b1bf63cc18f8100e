r"""How far the work is: a bar on a terminal, plain lines elsewhere, both on standard error."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Self

LINES = 20  # plain lines for a whole task ...
SILENCE = 10.0  # ... but one at least every so many seconds


class Progress(ABC):
    """Shows how much of a task is done. Used as a context; `note` writes a line in between."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        return None

    @abstractmethod
    def show(self, done: int, total: int, text: str) -> None:
        """Say that `done` of `total` are done, with figures in words."""

    def note(self, text: str) -> None:
        """Write a line of its own."""
        print(text, file=sys.stderr, flush=True)


class Lines(Progress):
    """One plain line about every twentieth of the task, and at least every ten seconds."""

    def __init__(self, word: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.word, self.clock = word, clock
        self.part, self.last = -1, clock()

    def show(self, done: int, total: int, text: str) -> None:
        part, now = done * LINES // total, self.clock()
        if part != self.part or done == total or now - self.last >= SILENCE:
            if self.part >= 0 or part > 0 or now - self.last >= SILENCE or total <= LINES:
                self.note(f"{self.word} {done}/{total}  {text}")
                self.last = now
            self.part = part


class Bar(Progress):
    """rich's bar, redrawn in place."""

    def __init__(self, word: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Rich

        columns = TextColumn(word), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}")
        self.rich = Rich(*columns, console=Console(stderr=True))
        self.task = self.rich.add_task(word, total=None, text="")

    def __enter__(self) -> Self:
        self.rich.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.rich.stop()

    def show(self, done: int, total: int, text: str) -> None:
        self.rich.update(self.task, completed=done, total=total, text=text)

    def note(self, text: str) -> None:
        self.rich.console.print(text, markup=False, highlight=False)


def progress(word: str) -> Progress:
    """A bar where standard error is a terminal, plain lines where it is not."""
    return Bar(word) if sys.stderr.isatty() else Lines(word)


class Pace:
    """The rate of something that is counted, and the time left at that rate.

    The rate is an average over about the last fifth of what was done, so a slow start is forgotten
    and a pause shows.
    """

    def __init__(self, done: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.marks = [(clock(), done)]

    def update(self, done: int) -> float:
        """Take note of what is done by now; the rate in units per second."""
        self.marks.append((self.clock(), done))
        kept = max(0, self.marks[-1][1] - (self.marks[-1][1] - self.marks[0][1]) // 5 - 1)
        del kept
        return self.rate

    @property
    def rate(self) -> float:
        """Units per second."""
        (begun, first), (now, last) = self.marks[0], self.marks[-1]
        return (last - first) / max(now - begun, 1e-9)
