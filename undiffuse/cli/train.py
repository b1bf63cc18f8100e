"""`undiffuse train`."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional, UseAppendAction, arg

from undiffuse import catalogue
from undiffuse.cli import signals
from undiffuse.cli.dry_run import show_plan
from undiffuse.cli.place import check_place
from undiffuse.cli.progress import progress
from undiffuse.cli.verb import (
    Number,
    Text,
    TrainingMachine,
    Verb,
    Whole,
    check_range,
    check_seed,
    flags,
)
from undiffuse.cli.watch import beginning, figures, watch
from undiffuse.errors import UndiffuseError
from undiffuse.training import recipe as recipes

LOGGERS = "training.loggers"
TWICE = {  # options that say the same as a setting
    "steps": "training.steps",
    "minutes": "training.steps",
    "batch_size": "training.batch_size",
    "precision": "training.precision",
}


@dataclass(frozen=True)
class Train(Verb):
    """Train a model on your images, and keep everything about it in one directory.

    DATA is a built-in name (digits, moons, mixture), a folder of images (sub-folders are labels),
    an .npz file with `images` [N, H, W] or [N, H, W, C] and, if there are any, `labels`, a parquet
    file with columns of these names, or hf:NAME for a data set of the Hugging Face hub.
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
            help="how to train: a shipped recipe (undiffuse recipes lists them) or a file",
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
    from_model: Annotated[
        Text,
        arg(
            name="from",
            metavar="MODEL",
            help="a run or a model whose weights to start from",
            help_behavior_hint="(default: random weights)",
        ),
    ] = None
    resume: Annotated[bool, arg(help="continue the run in --out", help_behavior_hint="")] = False
    log: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(
            metavar="NAME",
            help="show the figures there too: " + ", ".join(catalogue.names(LOGGERS)),
        ),
    ] = ()
    dry_run: Annotated[
        bool,
        arg(help="check everything, tell what it will take, write nothing", help_behavior_hint=""),
    ] = False
    machine: Annotated[TrainingMachine, arg(name="")] = field(default_factory=TrainingMachine)

    def __post_init__(self) -> None:
        check_range("--steps", self.steps)
        check_range("--batch-size", self.batch_size, most=65536)
        check_seed(self.seed)
        if self.minutes is not None and not 0 < self.minutes < 1e6:
            raise UndiffuseError(f"--minutes must be above 0 and below 1000000, not {self.minutes}")
        if self.steps is not None and self.minutes is not None:
            raise UndiffuseError("give --steps or --minutes, not both")
        if not self.out:
            raise UndiffuseError("--out must name the directory of the run, not be empty")
        settings = recipes.settings(self.settings)
        given = {**vars(self), "precision": self.machine.precision}
        for option, key in TWICE.items():
            if given[option] is not None and key in settings:
                flag = f"--{option.replace('_', '-')}"
                raise UndiffuseError(f"give {flag} or --set {key}=..., not both")
        base = recipes.Recipe() if self.recipe is None else recipes.read(self.recipe)
        base.changed(settings)
        for name in self.log:
            catalogue.load(LOGGERS, name)().check()

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
            from_model=self.from_model,
        )
        if self.dry_run:
            show_plan(session)
            return 0
        stops: list[int] = []

        def stop(number: int) -> None:
            stops.append(number)
            if len(stops) > 1:
                signals.interrupt(number)
            session.stop = True
            with suppress(OSError):  # nobody reads it: stop all the same
                os.write(2, b"stopping after this step; Ctrl-C again ends at once\n")

        numbers = signals.INT, signals.TERM, signals.HUP
        with progress("step") as shown, signals.handling(stop, *numbers):
            session.tell = lambda text: shown.note(f"warning: {text}")
            shown.note(beginning(session))
            for damaged in session.passed_over:
                session.tell(f"{damaged.folder} is passed over, {damaged.reason}")
            watch(session, shown, [catalogue.load(LOGGERS, name)() for name in self.log])
        if stops and session.state.step != session.steps:
            steps = f" of {session.steps}" if session.steps else ""
            print(
                f"stopped after step {session.state.step}{steps}, which is kept; continue with\n"
                f"  {shlex.join(self._again())}",
                file=sys.stderr,
            )
            return 128 + stops[0]
        print(f"{self.out} is trained: {figures(session)}")
        made = ["undiffuse", "sample", self.out, "--out", "samples.png"]
        if session.recipe.kind == "classifier":
            guide = f"classifier-guided(classifier={self.out}, weight=2)"
            made = ["undiffuse", "sample", "RUN", "--guide", guide, "--out", "samples.png"]
        print(f"next: {shlex.join(made)}")
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
        loggers = [word for name in self.log for word in ("--log", name)]
        origin = [] if self.from_model is None else ["--from", self.from_model]
        words = [*options, *origin, *settings, *loggers, *self.machine.words(), "--resume"]
        return ["undiffuse", "train", self.data, *words]
