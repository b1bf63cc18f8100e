"""`undiffuse data`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from tyro.conf import Positional, UseAppendAction, arg

from undiffuse.cli.place import check_file
from undiffuse.cli.verb import Machine, Text, Verb
from undiffuse.errors import UndiffuseError
from undiffuse.training import recipe as recipes

if TYPE_CHECKING:
    from undiffuse.data.dataset import Dataset

LISTED = 20  # classes and files that are named; of more, the number is told
SHOWN = 64  # samples in the preview


@dataclass(frozen=True)
class Data(Verb):
    """Show what would be read: counts, shapes, labels, and files that cannot be used.

    DATA is as for `undiffuse train`: a built-in name, a folder of images, an .npz or a parquet
    file, or hf:NAME for a data set of the Hugging Face hub.
    """

    name: ClassVar[str] = "data"
    examples: ClassVar[tuple[str, str]] = (
        "undiffuse data digits",
        "undiffuse data digits --out preview.png",
    )

    source: Annotated[Positional[str], arg(name="data", metavar="DATA", help="what to look at")]
    out: Annotated[
        Text,
        arg(metavar="FILE.png", help="a picture of some samples", help_behavior_hint=""),
    ] = None
    settings: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(name="set", metavar="KEY=VALUE", help="a setting of how data is read: data.size=32"),
    ] = ()
    machine: Annotated[Machine, arg(name="")] = field(default_factory=Machine)

    def __post_init__(self) -> None:
        if self.out is not None:
            check_file(Path(self.out), ".png")
        wrong = [key for key in recipes.settings(self.settings) if not key.startswith("data.")]
        if wrong:
            raise UndiffuseError(f"--set {wrong[0]} has nothing to do with data; use data.size=32")
        self._options()
        if self.machine.device != "cpu" or self.machine.precision is not None:
            raise UndiffuseError("data is read on the CPU; leave --device and --precision out")

    def _options(self) -> recipes.DataOptions:
        return recipes.Recipe().changed(recipes.settings(self.settings)).data

    def run(self) -> int:
        self.machine.ready()
        from undiffuse.data.open import open_data

        dataset = open_data(self.source, size=self._options().size)
        for line in describe(dataset):
            print(line)
        if self.out is not None:
            _preview(dataset, Path(self.out))
            print(f"preview     {self.out}")
        return 0


def describe(dataset: Dataset) -> Iterator[str]:
    """What there is to know of a data set, line by line."""
    facts = dataset.facts()
    shape = "x".join(str(edge) for edge in facts["shape"])
    axes = " (channels x height x width)" if facts["kind"] == "image" else " numbers"
    held_out = f", and {facts['held_out']} held out" if facts["held_out"] else ""
    yield f"data        {facts['source']}"
    yield f"samples     {facts['count']}{held_out}"
    yield f"shape       {shape}{axes}"
    yield f"values      mean {facts['mean']:.4g}, standard deviation {facts['std']:.4g}"
    yield f"labels      {facts['classes'] or 'none'}"
    if dataset.labels is not None:
        counts = dataset.labels.bincount(minlength=facts["classes"]).tolist()
        names = facts["class_names"] or [""] * len(counts)
        rows = zip(range(len(counts)), names, counts, strict=True)
        yield from _listed(f"  {k:>4}  {name:<20} {count:>8}" for k, name, count in rows)
    if dataset.skipped:
        yield f"left out    {len(dataset.skipped)} files"
        yield from _listed(f"  {file}: {reason}" for file, reason in dataset.skipped)
    yield f"fingerprint {facts['fingerprint']}"


def _listed(lines: Iterable[str]) -> Iterator[str]:
    lines = list(lines)
    yield from lines[:LISTED]
    if len(lines) > LISTED:
        yield f"  ... and {len(lines) - LISTED} more"


def _preview(dataset: Dataset, path: Path) -> None:
    import torch

    from undiffuse import pictures

    count = min(len(dataset), SHOWN if len(dataset.shape) == 3 else 4096)
    numbers = torch.arange(count) * len(dataset) // count  # evenly spread
    pictures.save(pictures.draw(dataset.batch(numbers).x), path, {"data": dataset.source})
