r"""Ctrl-C, SIGTERM and a lost terminal: as exceptions, or as a request to stop after this step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


class Interrupted(BaseException):
    """A signal ended the work; `code` is the exit code that tells so, 128 + its number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number


def interrupt(number: int) -> None:
    """End the work at once.

    Raises:
        Interrupted: always.
    """
    raise Interrupted(number)


@contextmanager
def handling(act: Callable[[int], None], *numbers: signal.Signals) -> Iterator[None]:
    """Call `act` with the number of each of these signals that arrives, until the block ends.

    A signal that the process was told to ignore stays ignored, and threads other than the main
    one, which get no signals, change nothing.
    """
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in numbers if main}
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    try:
        for number in before:
            signal.signal(number, lambda number, _frame: act(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
