"""`undiffuse runs`."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from tyro.conf import Positional, arg

from undiffuse.cli.progress import clock_time
from undiffuse.cli.verb import Verb
from undiffuse.errors import UndiffuseError

if TYPE_CHECKING:
    from undiffuse.training.overview import Overview

COLUMNS = ("run", "state", "step", "images", "loss", "images/s", "when", "size", "data", "recipe")
RIGHT = {"step", "images", "loss", "images/s", "size"}


@dataclass(frozen=True)
class Runs(Verb):
    """List the runs in a folder: how far each is, how it does, and whether it still runs.

    Loss and speed are those of the last 100 steps. "when" is the time that is left, or the time of
    the last change. A run that is damaged is named with what is wrong; its checkpoints are compared
    with their sizes only, and every byte is checked when they are loaded.
    """

    name: ClassVar[str] = "runs"
    examples: ClassVar[tuple[str, str]] = (
        "undiffuse runs",
        "undiffuse runs experiments --json",
    )

    folder: Annotated[Positional[str], arg(metavar="[DIR]", help="where they are")] = "runs"
    json: Annotated[bool, arg(help="print a list of JSON objects", help_behavior_hint="")] = False
    debug: Annotated[
        bool, arg(help="show where an error arose", help_behavior_hint="(or UNDIFFUSE_DEBUG=1)")
    ] = False

    def __post_init__(self) -> None:
        if not self.folder:
            raise UndiffuseError("DIR must name the folder of the runs, not be empty")

    def run(self) -> int:
        from undiffuse.training.overview import find, overview

        found = [overview(run) for run in find(Path(self.folder))]
        if self.json:
            print(json.dumps([asdict(each) for each in found], indent=1, allow_nan=False))
        elif not found:
            print(f"there are no runs in {self.folder}")
        else:
            table(found)
        return 0


def table(found: list[Overview]) -> None:
    """Print the runs side by side, and below them who writes to which and what is damaged."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in COLUMNS:
        if column in RIGHT:
            shown.add_column(column, justify="right", no_wrap=True)
        else:
            shown.add_column(column, no_wrap=column not in {"data", "recipe"})
    for each in found:
        shown.add_row(*(Text(cell) for cell in cells(each)))
    wide = None if sys.stdout.isatty() else 10_000
    console = Console(width=wide, highlight=False)
    console.print(shown)
    for each in found:
        if each.detail is not None:
            console.print(f"{each.path}: {each.state}, {each.detail}", markup=False)


def cells(run: Overview) -> tuple[str, ...]:
    """One line of the table, a text for each of `COLUMNS`."""
    if run.seconds_left is not None:
        when = f"{clock_time(run.seconds_left)} left"
    else:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.changed)) if run.changed else ""
    return (
        run.path,
        run.state,
        f"{run.step}/{run.steps or '?'}",
        "" if run.images is None else f"{run.images}",
        "" if run.loss is None else f"{run.loss:.4f}",
        "" if run.images_per_second is None else f"{run.images_per_second:.0f}",
        when,
        f"{run.size / 1e6:.1f} MB",
        run.data or "",
        run.recipe or "",
    )
