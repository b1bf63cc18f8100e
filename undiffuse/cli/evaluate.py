"""`undiffuse evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional, arg

from undiffuse.cli.place import check_file
from undiffuse.cli.progress import Pace, clock_time, progress
from undiffuse.cli.verb import Machine, Text, Verb, check_range


@dataclass(frozen=True)
class Evaluate(Verb):
    """Measure how good a model's samples are, beside real ones.

    Samples are drawn as the run's recipe says. A classifier trained on the real data tells whether
    they show the label asked for, and their distances to the nearest training samples stand beside
    those of real samples, so that a copy machine would be seen. Every metric stands beside that of
    as many held-out real samples: what lies within their spread cannot be told from real data by
    that metric. The figures stay in the run.
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
    judge: Annotated[
        Text,
        arg(
            metavar="FOLDER",
            help="the network whose features are compared; made there if missing",
            help_behavior_hint="(default: judge/ in the run)",
        ),
    ] = None
    machine: Annotated[Machine, arg(name="")] = field(default_factory=Machine)

    def __post_init__(self) -> None:
        check_range("--num", self.num, most=10**7)
        if self.out is not None:
            check_file(Path(self.out), ".json")

    def run(self) -> int:
        self.machine.ready()
        from undiffuse.evaluation.evaluate import evaluate, keep, summary
        from undiffuse.evaluation.table import table

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
                judge=self.judge,
            )
        if self.out is not None:
            keep(Path(self.out), figures)
        print("\n".join([f"{self.source}: {summary(figures)}", *table(figures)]))
        return 0
