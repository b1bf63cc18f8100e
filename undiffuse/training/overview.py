r"""What a folder of runs holds: how far each is, how it does, and whether somebody is at it.

Everything is read from the runs' own files, and nothing is written or trusted: a run whose files
are damaged is listed as such. Sizes of checkpoint files are compared with the manifest; digests are
not, since that would read all of them (every load does). Nothing here needs torch.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undiffuse import strict_json
from undiffuse.errors import UndiffuseError
from undiffuse.training import recipe as recipes
from undiffuse.training.recipe import Recipe, Table
from undiffuse.training.run import Run

DEEPEST = 3  # levels of folders below the one that is searched
TAIL = 65536  # bytes of metrics.jsonl that are read, from its end
LAST = 100  # steps over which loss and speed are taken


@dataclass(frozen=True)
class Overview:
    """One run in figures; what is not known is None."""

    path: str
    state: str  # running, finished, stopped, damaged
    detail: str | None = None  # who writes to it, or what is damaged
    step: int = 0  # of the last record where it runs, of the newest checkpoint where it does not
    steps: int | None = None
    images: int | None = None  # samples seen
    loss: float | None = None  # mean of the last 100 steps
    images_per_second: float | None = None
    seconds_left: float | None = None  # only where it runs
    changed: float | None = None  # time of the last change, seconds since 1970
    size: int = 0  # bytes on the disk
    data: str | None = None
    recipe: str | None = None  # the name of a shipped one, or the description of another


def find(folder: Path) -> Iterator[Run]:
    """The runs in a folder, or the folder itself if it is one; by name, three levels deep.

    Raises:
        UndiffuseError: there is no such folder.
    """
    if not folder.is_dir():
        raise UndiffuseError(f"there is no folder {folder}; name the one that holds the runs")
    yield from _within(folder, DEEPEST)


def _within(folder: Path, levels: int) -> Iterator[Run]:
    run = Run(folder)
    if run.config.is_file() or (folder / "checkpoints").is_dir():
        yield run
    elif levels:
        try:
            inside = sorted(entry for entry in folder.iterdir() if entry.name[0] != ".")
        except OSError:
            return
        for entry in inside:
            if entry.is_dir() and not entry.is_symlink():
                yield from _within(entry, levels - 1)


def overview(run: Run) -> Overview:
    """One run in figures, whatever state its files are in."""
    files = list(_files(run.path))
    known: dict[str, Any] = {
        "path": str(run.path),
        "size": sum(size for size, _ in files),
        "changed": max((changed for _, changed in files), default=None),
    }
    try:
        recipe, facts = run.read_config()
    except UndiffuseError as error:
        return Overview(state="damaged", detail=str(error), **known)
    steps = _steps(recipe, facts)
    known |= {"steps": steps, "data": str(facts.get("data")), "recipe": _name(recipe)}
    lines = _tail(run.path / "metrics.jsonl")
    writer, newest = run.writer(), _newest(run.path)
    step = lines[-1]["step"] if writer and lines else _number(newest)
    lines = [line for line in lines if line["step"] <= step][-LAST:]
    speed = _mean(line.get("seconds") for line in lines)
    batch = recipe.training.batch_size
    known |= {"step": step, "images": step * batch, "loss": _mean(x.get("loss") for x in lines)}
    known |= {"images_per_second": batch / speed if speed else None}
    if writer:
        left = (steps - step) * speed if steps is not None and speed is not None else None
        return Overview(state="running", detail=writer, seconds_left=left, **known)
    wrong = _damage(newest)
    if wrong is not None:
        return Overview(state="damaged", detail=wrong, **known)
    return Overview(state="finished" if step == steps else "stopped", **known)


def _steps(recipe: Recipe, facts: Table) -> int | None:
    """How many steps the run has; None before --minutes have become steps."""
    given = facts.get("steps")
    if isinstance(given, int):
        return given
    return None if facts.get("minutes") else recipe.training.steps


def _name(recipe: Recipe) -> str | None:
    """A recipe is stored resolved; its description tells which one it was."""
    for name in recipes.shipped():
        if recipe.description and recipes.read(name).description == recipe.description:
            return name
    return recipe.description or None


def _files(folder: Path) -> Iterator[tuple[int, float]]:
    """Size and time of change of every file, passing over those that vanish meanwhile."""
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                found = os.lstat(os.path.join(place, name))
            except OSError:
                continue
            yield found.st_size, found.st_mtime


def _tail(file: Path) -> list[dict[str, Any]]:
    """The last lines of a metrics.jsonl, those that are whole."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - TAIL))
            texts = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    found = []
    for text in texts:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            found.append(line)
    return found


def _mean(values: Iterable[Any]) -> float | None:
    """The mean of those values that are finite numbers; None without any."""
    numbers = [v for v in values if isinstance(v, int | float) and math.isfinite(v)]
    return sum(numbers) / len(numbers) if numbers else None


def _newest(run: Path) -> Path | None:
    """The checkpoint of the highest step, whole or not."""
    return max(run.glob("checkpoints/step-*"), key=_number, default=None)


def _number(checkpoint: Path | None) -> int:
    digits = checkpoint.name.removeprefix("step-") if checkpoint else ""
    return int(digits) if digits.isdecimal() else 0


def _damage(checkpoint: Path | None) -> str | None:
    """What can be seen to be wrong with a checkpoint without reading its tensors."""
    if checkpoint is None:
        return None
    try:
        manifest = strict_json.parse((checkpoint / "manifest.json").read_bytes())
        sizes = {name: entry["size"] for name, entry in manifest["files"].items()}
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return f"{checkpoint.name}: manifest.json is missing or damaged"
    for name, size in sizes.items():
        try:
            if (checkpoint / name).stat().st_size != size:
                return f"{checkpoint.name}: {name} is damaged"
        except OSError:
            return f"{checkpoint.name}: {name} is missing"
    return None
