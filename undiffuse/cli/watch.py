"""What a training shows while it runs: what begins, how each step does, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from undiffuse.cli.progress import Pace, Progress, clock_time

if TYPE_CHECKING:
    from undiffuse.training.loggers.base import Logger
    from undiffuse.training.session import Session

LAST = 100  # steps whose mean loss is the final one
NAMED = 5  # faults that are told one by one


class Smoothed:
    """A running mean over about the last fifty values, unbiased from the first one on."""

    def __init__(self, kept: float = 0.98) -> None:
        self.kept, self.sum, self.weight = kept, 0.0, 0.0

    def update(self, value: float) -> float:
        """Take in a value, or pass over one that is not finite; the mean, NaN without any."""
        if math.isfinite(value):
            self.sum = self.kept * self.sum + (1 - self.kept) * value
            self.weight = self.kept * self.weight + (1 - self.kept)
        return self.sum / self.weight if self.weight else math.nan


def watch(session: Session, shown: Progress, loggers: Sequence[Logger] = ()) -> None:
    """Train, showing each record and writing it to the loggers."""
    from undiffuse.training.loggers.logged import logged

    pace, loss = Pace(session.state.step), Smoothed()
    seconds, waited, faults = Smoothed(), Smoothed(), 0
    for record in logged(session.records(), session.run, loggers, session.tell):
        rate, mean = pace.update(record.step), loss.update(record.loss)
        share = waited.update(record.data_seconds) / max(seconds.update(record.seconds), 1e-9)
        if record.fault is not None:
            faults += 1
            if faults <= NAMED:
                what = "was skipped" if record.fault.skipped else "is strange"
                rest = "; more such are in metrics.jsonl" if faults == NAMED else ""
                shown.note(f"warning: step {record.step} {what}, {record.fault.reason}{rest}")
        if session.steps is None:  # the first steps of --minutes are timed
            continue
        left = clock_time((record.steps - record.step) / rate)
        images = rate * record.images / record.step
        shown.show(
            record.step,
            record.steps,
            f"loss {record.loss:.4f}, mean {mean:.4f}  {left} left  {images:.0f} images/s"
            f"  gradient {record.gradient_norm:.2g}  data {share:.0%}",
        )


def beginning(session: Session) -> str:
    """What is going to be trained, in one line."""
    facts, options = session.facts, session.recipe.training
    network = session.state.denoiser.network
    size = sum(parameter.numel() for parameter in network.parameters())
    shape = "x".join(str(edge) for edge in facts["shape"])
    labels = f" in {facts['classes']} classes" if facts["classes"] else ""
    done = f", from step {session.state.step}" if session.state.step else ""
    skipped = f" ({facts['skipped']} files were left out)" if facts["skipped"] else ""
    found = ""
    if session.pace is not None:
        gain = f"bfloat16 is {session.pace.gain:.2f} times as quick as float32 here"
        found = f"; {gain}: {options.precision}"
    return (
        f"{facts['source']}: {facts['count']} samples of {shape}{labels}{skipped};"
        f" a network of {size / 1e6:.2f} M weights, batches of {options.batch_size}{done}{found}"
    )


def figures(session: Session) -> str:
    """What came of it, in one line, over the whole run however often it was continued."""
    lines = list(session.run.metrics())
    if not lines:  # the file was deleted
        return f"{session.state.step} steps"
    loss = sum(line["loss"] for line in lines[-LAST:]) / len(lines[-LAST:])
    seconds = sum(line["seconds"] for line in lines)
    images = lines[-1]["images"]
    return (
        f"{lines[-1]['step']} steps, loss {loss:.4f}, {images / seconds:.0f} images/s,"
        f" {seconds / 60:.1f} minutes"
    )
