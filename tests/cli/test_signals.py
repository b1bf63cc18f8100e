"""Signals: handled in a block, and as before after it."""

from __future__ import annotations

import signal
import threading

import pytest

from undiffuse.cli import signals


def test_signals_are_handed_over_and_handlers_put_back() -> None:
    before, got = signal.getsignal(signals.INT), []
    with signals.handling(got.append, signals.INT):
        signal.raise_signal(signals.INT)
    assert got == [signals.INT]
    assert signal.getsignal(signals.INT) == before


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signals.INT, signal.SIG_IGN)
    try:
        with signals.handling(signals.interrupt, signals.INT):
            signal.raise_signal(signals.INT)
    finally:
        signal.signal(signals.INT, before)


def test_other_threads_change_nothing() -> None:
    before, seen = signal.getsignal(signals.INT), []

    def work() -> None:
        with signals.handling(signals.interrupt, signals.INT):
            seen.append(signal.getsignal(signals.INT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_codes() -> None:
    with pytest.raises(signals.Interrupted) as caught:
        signals.interrupt(signals.TERM)
    assert caught.value.code == 143
    assert signals.Interrupted(signals.INT).code == 130
