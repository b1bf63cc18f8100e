"""`undiffuse evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional, arg

from undiffuse.cli.place import check_file
from undiffuse.cli.progress import Pace, clock_time, progress
from undiffuse.cli.verb import Machine, Text, Verb, at_least


@dataclass(frozen=True)
class Evaluate(Verb):
    """Measure how good a model's samples are, beside real ones.

    Samples are drawn as the run's recipe says. A classifier trained on the real data tells whether
    they show the label asked for, and their distances to the nearest training samples stand beside
    those of real samples, so that a copy machine would be seen. The figures stay in the run.
    """

    name: ClassVar[str] = "evaluate"
    examples: ClassVar[tuple[str, str]] = (
        "undiffuse evaluate runs/digits",
        "undiffuse evaluate runs/digits --num 1000 --out figures.json",
    )

    source: Annotated[Positional[str], arg(name="run", metavar="RUN", help="the run to measure")]
    num: Annotated[int, arg(metavar="N", help="how many samples to draw")] = 500
    out: Annotated[
        Text,
        arg(metavar="FILE.json", help="write the figures there too", help_behavior_hint=""),
    ] = None
    machine: Annotated[Machine, arg(name="")] = field(default_factory=Machine)

    def __post_init__(self) -> None:
        at_least("--num", self.num)
        if self.out is not None:
            check_file(Path(self.out), ".json")

    def run(self) -> int:
        self.machine.ready()
        from undiffuse.evaluation.evaluate import evaluate, keep, summary

        pace = Pace()
        with progress("sample") as shown:

            def watch(done: int, num: int) -> None:
                rate = pace.update(done)
                left = clock_time((num - done) / rate)
                shown.show(done, num, f"{rate:.1f} samples/s  {left} left")

            figures = evaluate(
                Path(self.source),
                num=self.num,
                device=self.machine.device,
                precision=self.machine.precision or "float32",
                progress=watch,
            )
        if self.out is not None:
            keep(Path(self.out), figures)
        print(f"{self.source}: {summary(figures)}")
        return 0
