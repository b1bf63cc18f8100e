"""`undiffuse report`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional, arg

from undiffuse.cli.verb import Machine, Verb
from undiffuse.errors import UndiffuseError


@dataclass(frozen=True)
class Report(Verb):
    """Write a run's report, one page to open in a browser.

    It shows noising, the way back, samples by class, the loss, the figures of `undiffuse evaluate`
    where it was run, all settings, and the command that repeats the run.
    """

    name: ClassVar[str] = "report"
    examples: ClassVar[tuple[str, str]] = (
        "undiffuse report runs/digits",
        "undiffuse evaluate runs/digits && undiffuse report runs/digits",
    )

    source: Annotated[Positional[str], arg(name="run", metavar="RUN", help="the run to show")]
    machine: Annotated[Machine, arg(name="")] = field(default_factory=Machine)

    def __post_init__(self) -> None:
        if self.machine.precision not in {None, "float32"}:
            raise UndiffuseError("a report is drawn in float32; leave --precision out")

    def run(self) -> int:
        self.machine.ready()
        from undiffuse import storage
        from undiffuse.evaluation.evaluate import FILE, summary
        from undiffuse.model import load
        from undiffuse.reports.report import write_report

        run = Path(self.source)
        page = write_report(run, device=self.machine.device)
        print(f"the report is {page}")
        figures = storage.read_json(run / FILE) if (run / FILE).is_file() else {}
        if figures.get("model") == load(run).digest:  # else they are of an earlier checkpoint
            print(f"{run}: {summary(figures)}")
        return 0
