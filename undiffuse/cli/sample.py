"""`undiffuse sample`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from tyro.conf import Positional, arg

import undiffuse
from undiffuse import catalogue
from undiffuse.cli.outputs import TURNS, Drawn, Plan, choose
from undiffuse.cli.progress import Pace, clock_time, progress
from undiffuse.cli.verb import Machine, Number, Text, Verb, Whole, at_least
from undiffuse.errors import UndiffuseError, unknown

if TYPE_CHECKING:
    from undiffuse.model import Model


@dataclass(frozen=True)
class Sample(Verb):
    """Draw samples from a trained model.

    Sample number i is a function of --seed and i. Where the model knows labels and none is asked
    for, sample i has label i mod K, so that a picture shows every class. A directory of pictures
    can be stopped and continued: pictures that are there are kept, and those missing are drawn.
    """

    name: ClassVar[str] = "sample"
    examples: ClassVar[tuple[str, str]] = (
        "undiffuse sample runs/digits --num 100 --out digits.png",
        "undiffuse sample runs/digits --label 7 --guidance 2 --steps 50 --out sevens.npz",
    )

    source: Annotated[Positional[str], arg(name="run", metavar="RUN", help="a run or a model")]
    out: Annotated[
        str,
        arg(
            metavar="FILE.png|FILE.npz|DIR",
            help="one picture of all samples, an array, or a directory with a picture of each",
        ),
    ]
    num: Annotated[int, arg(metavar="N", help="how many samples")] = 16
    steps: Annotated[
        Whole,
        arg(
            metavar="N", help="steps from noise to data", help_behavior_hint="(default: the run's)"
        ),
    ] = None
    sampler: Annotated[
        Text,
        arg(
            metavar="NAME",
            help="the rule of a step: " + ", ".join(catalogue.names("samplers")),
            help_behavior_hint="(default: the run's)",
        ),
    ] = None
    label: Annotated[
        Text,
        arg(
            metavar="K",
            help="the class to draw, by its number from 0 or its name",
            help_behavior_hint=f"(default: {TURNS})",
        ),
    ] = None
    guidance: Annotated[
        Number,
        arg(
            metavar="W",
            help="how closely to follow the label: 1 as learned, 0 not at all",
            help_behavior_hint="(default: the run's)",
        ),
    ] = None
    seed: Annotated[int, arg(metavar="S", help="of the noise")] = 0
    batch_size: Annotated[int, arg(metavar="B", help="samples at a time")] = 256
    machine: Annotated[Machine, arg(name="")] = field(default_factory=Machine)

    def __post_init__(self) -> None:
        at_least("--num", self.num)
        at_least("--steps", self.steps)
        at_least("--guidance", self.guidance, 0)
        at_least("--batch-size", self.batch_size)
        name = (self.sampler or "").partition("(")[0].strip()
        if self.sampler is not None and name not in catalogue.names("samplers"):
            raise unknown("sampler", name, catalogue.names("samplers"))

    def run(self) -> int:
        out = choose(self.out)
        device = self.machine.ready()
        from undiffuse.model import load

        model = load(self.source).to(device)
        for damaged in model.skipped:
            print(f"warning: a damaged checkpoint is passed over, {damaged}", file=sys.stderr)
        out.check(model.shape)
        plan = self._plan(model)
        wanted = out.wanted(plan)
        with self.machine.autocast():
            out.write(self._drawn(model, plan, wanted), plan)
        kept = f", {self.num - len(wanted)} were there" if len(wanted) < self.num else ""
        print(
            f"{self.out}: {self.num} samples{kept}, seed {self.seed},"
            f" {plan.settings['steps']} steps of {plan.settings['sampler']}"
        )
        return 0

    def _label(self, model: Model) -> int | None:
        """The number of the label asked for, known to the model; None: none was asked for."""
        if self.label is None:
            return None
        names: Sequence[str] = model.data["class_names"]
        if re.fullmatch(r"-?\d+", self.label):
            number = int(self.label)
        elif self.label in names or not model.classes:
            number = names.index(self.label) if model.classes else 0
        else:
            raise unknown("label", self.label, names)
        model.labels(1, number)
        if number < 0:
            raise UndiffuseError(f"there is no label {number}; labels count from 0")
        return number

    def _plan(self, model: Model) -> Plan:
        settings: dict[str, Any] = {
            "undiffuse": undiffuse.__version__,
            "model": model.digest,
            "seed": self.seed,
            "steps": model.sampling["steps"] if self.steps is None else self.steps,
            "sampler": self.sampler or model.sampling["sampler"],
            "precision": self.machine.precision or "float32",
        }
        if model.classes:
            own = model.sampling["guidance"]
            settings["guidance"] = own if self.guidance is None else self.guidance
        return Plan(self.num, settings, model.classes, self._label(model))

    def _drawn(self, model: Model, plan: Plan, wanted: Sequence[int]) -> Iterator[Drawn]:
        """The samples of the numbers wanted, batch by batch."""
        pace, done = Pace(), 0
        with progress("sample") as shown:
            for first, count in batches(wanted, self.batch_size):
                numbers = range(first, first + count)
                labels = [label for i in numbers if (label := plan.label_of(i)) is not None]
                x = model.sample(
                    count,
                    labels or None,
                    self.guidance,
                    self.seed,
                    sampler=plan.settings["sampler"],
                    steps=plan.settings["steps"],
                    first_index=first,
                )
                yield Drawn(numbers, x.cpu())
                done += count
                rate = pace.update(done)
                left = clock_time((len(wanted) - done) / rate)
                shown.show(done, len(wanted), f"{rate:.1f} samples/s  {left} left")


def batches(numbers: Sequence[int], size: int) -> Iterator[tuple[int, int]]:
    """Rising numbers as (first, count) of neighbours, at most `size` at a time.

    >>> list(batches([0, 1, 2, 5, 6], size=2))
    [(0, 2), (2, 1), (5, 2)]
    """
    for _, group in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        for low in range(0, len(run), size):
            yield run[low], len(run[low : low + size])
