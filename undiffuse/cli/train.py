"""`undiffuse train`."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from tyro.conf import Positional, UseAppendAction, arg

from undiffuse.cli import signals
from undiffuse.cli.place import check_place
from undiffuse.cli.progress import Pace, Progress, clock_time, progress
from undiffuse.cli.verb import Machine, Number, Text, Verb, Whole, at_least, flags
from undiffuse.errors import UndiffuseError
from undiffuse.training import recipe as recipes

if TYPE_CHECKING:
    from undiffuse.training.session import Session

LAST = 100  # steps whose mean loss is the final one


@dataclass(frozen=True)
class Train(Verb):
    """Train a model on your images, and keep everything about it in one directory.

    DATA is a built-in name (digits, moons, mixture), a folder of images (sub-folders are labels)
    or an .npz file with `images` [N, H, W] or [N, H, W, C] and, if there are any, `labels`.
    Ctrl-C ends the training after the step in progress with a checkpoint; --resume continues it.
    """

    name: ClassVar[str] = "train"
    examples: ClassVar[tuple[str, str]] = (
        "undiffuse train digits --out runs/digits",
        "undiffuse train digits --out runs/small --steps 300 --set network.width=32",
    )

    data: Annotated[Positional[str], arg(metavar="DATA", help="what to learn from")]
    out: Annotated[str, arg(metavar="RUN", help="the directory of the run")]
    recipe: Annotated[
        Text,
        arg(
            metavar="NAME|FILE.toml",
            help="how to train: a shipped recipe (undiffuse doctor lists them) or a file",
            help_behavior_hint="(default: by the kind of data)",
        ),
    ] = None
    steps: Annotated[
        Whole,
        arg(metavar="N", help="optimiser steps", help_behavior_hint="(default: the recipe's)"),
    ] = None
    minutes: Annotated[
        Number,
        arg(metavar="M", help="train for so long instead", help_behavior_hint=""),
    ] = None
    seed: Annotated[int, arg(metavar="S", help="of everything random")] = 0
    batch_size: Annotated[
        Whole,
        arg(metavar="B", help="samples per step", help_behavior_hint="(default: the recipe's)"),
    ] = None
    settings: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(
            name="set",
            metavar="KEY=VALUE",
            help="any setting of the recipe, such as training.lr=1e-3",
        ),
    ] = ()
    resume: Annotated[bool, arg(help="continue the run in --out", help_behavior_hint="")] = False
    machine: Annotated[Machine, arg(name="")] = field(default_factory=Machine)

    def __post_init__(self) -> None:
        at_least("--steps", self.steps)
        at_least("--batch-size", self.batch_size)
        if self.steps is not None and self.minutes is not None:
            raise UndiffuseError("give --steps or --minutes, not both")
        base = recipes.Recipe() if self.recipe is None else recipes.read(self.recipe)
        base.changed(recipes.settings(self.settings))

    def run(self) -> int:
        check_place(Path(self.out))
        device = self.machine.ready()
        from undiffuse.training.session import Session

        session = Session(
            self.data,
            self.out,
            self.recipe,
            steps=self.steps,
            minutes=self.minutes,
            seed=self.seed,
            batch_size=self.batch_size,
            settings=recipes.settings(self.settings),
            resume=self.resume,
            device=device,
            precision=self.machine.precision,
        )
        stops: list[int] = []

        def stop(number: int) -> None:
            stops.append(number)
            if len(stops) > 1:
                signals.interrupt(number)
            session.stop = True
            os.write(2, b"stopping after this step; Ctrl-C again ends at once\n")

        with progress("step") as shown, signals.handling(stop, signals.INT, signals.TERM):
            shown.note(_beginning(session))
            for damaged in session.passed_over:
                shown.note(f"warning: {damaged.folder} is passed over, {damaged.reason}")
            _watch(session, shown)
        if stops and session.state.step != session.steps:
            steps = f" of {session.steps}" if session.steps else ""
            print(
                f"stopped after step {session.state.step}{steps}, which is kept; continue with\n"
                f"  {shlex.join(self._again())}",
                file=sys.stderr,
            )
            return 128 + stops[0]
        print(f"{self.out} is trained: {_figures(session)}")
        print(f"next: {shlex.join(['undiffuse', 'sample', self.out, '--out', 'samples.png'])}")
        return 0

    def _again(self) -> list[str]:
        """The command that continues this run."""
        settings = [word for text in self.settings for word in ("--set", text)]
        options = flags(
            out=self.out,
            recipe=self.recipe,
            steps=self.steps,
            minutes=self.minutes,
            seed=self.seed or None,
            batch_size=self.batch_size,
        )
        words = [*options, *settings, *self.machine.words(), "--resume"]
        return ["undiffuse", "train", self.data, *words]


class Smoothed:
    """A running mean over about the last fifty values, unbiased from the first one on."""

    def __init__(self, kept: float = 0.98) -> None:
        self.kept, self.sum, self.weight = kept, 0.0, 0.0

    def update(self, value: float) -> float:
        """Take in a value; the mean."""
        self.sum = self.kept * self.sum + (1 - self.kept) * value
        self.weight = self.kept * self.weight + (1 - self.kept)
        return self.sum / self.weight


def _watch(session: Session, shown: Progress) -> None:
    """Train, showing each record."""
    pace, loss = Pace(session.state.step), Smoothed()
    for record in session.records():
        rate, mean = pace.update(record.step), loss.update(record.loss)
        if session.steps is None:  # the first steps of --minutes are timed
            continue
        left = clock_time((record.steps - record.step) / rate)
        images = rate * record.images / record.step
        shown.show(
            record.step, record.steps, f"loss {mean:.4f}  {images:.0f} images/s  {left} left"
        )


def _beginning(session: Session) -> str:
    """What is going to be trained, in one line."""
    facts, options = session.facts, session.recipe.training
    network = session.state.denoiser.network
    size = sum(parameter.numel() for parameter in network.parameters())
    shape = "x".join(str(edge) for edge in facts["shape"])
    labels = f" in {facts['classes']} classes" if facts["classes"] else ""
    done = f", from step {session.state.step}" if session.state.step else ""
    skipped = f" ({facts['skipped']} files were left out)" if facts["skipped"] else ""
    return (
        f"{facts['source']}: {facts['count']} samples of {shape}{labels}{skipped};"
        f" a network of {size / 1e6:.2f} M weights, batches of {options.batch_size}{done}"
    )


def _figures(session: Session) -> str:
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
