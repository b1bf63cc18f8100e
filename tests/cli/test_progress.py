"""Progress: how many plain lines, and at what rate."""

from __future__ import annotations

import pytest

from undiffuse.cli.progress import Bar, Lines, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def lines(total: int, seconds: float, capsys: pytest.CaptureFixture[str]) -> list[str]:
    clock = Clock()
    shown = Lines("step", clock)
    for done in range(1, total + 1):
        clock.now += seconds
        shown.show(done, total, f"loss {done}")
    return capsys.readouterr().err.splitlines()


def test_a_line_for_each_twentieth(capsys: pytest.CaptureFixture[str]) -> None:
    told = lines(1000, 0.01, capsys)
    assert told == [f"step {50 * i}/1000  loss {50 * i}" for i in range(1, 21)]


def test_a_line_at_least_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(lines(1000, 1.0, capsys)) >= 100


def test_few_steps_have_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(lines(3, 0.01, capsys)) == 3


def test_the_rate_forgets_a_slow_start() -> None:
    clock = Clock()
    pace = Pace(done=10, clock=clock)
    clock.now = 100.0
    assert pace.update(20) == pytest.approx(0.1)
    for done in range(21, 200):
        clock.now += 0.5
        rate = pace.update(done)
    assert rate == pytest.approx(2.0)


def test_a_bar_writes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("step") as bar:
        bar.show(3, 4, "loss 1 [bold]")
        bar.note("a note [/x]")
    out, err = capsys.readouterr()
    assert not out
    assert "a note [/x]" in err
    assert "3/4" in err
    assert "loss 1 [bold]" in err
