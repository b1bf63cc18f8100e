r"""Checkpoints: the whole state of a run, in a folder that proves its own completeness.

    checkpoints/step-00001000/
        weights.safetensors     the network
        ema.safetensors         its moving average, which samples are drawn from
        optimizer.safetensors   what the optimisers remember
        model.json              every object that makes the weights a denoiser, facts about the data
        state.json              step, seed, how the run has gone, times that learn from losses
        manifest.json           sizes and sha256 of the files above

There is no pointer to the latest one: it is the highest step that verifies. The best one is that
with the lowest smoothed loss, written down in its state.json.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from undiffuse import storage
from undiffuse.catalogue import build, describe
from undiffuse.errors import RunFailed, UndiffuseError
from undiffuse.training import optimizers
from undiffuse.training.course import Course
from undiffuse.training.faults import not_finite
from undiffuse.training.loop import State


class Damaged(NamedTuple):
    """A checkpoint that could not be used, and why."""

    folder: Path
    reason: str


def save(run: Path, state: State, model: Mapping[str, Any], facts: Mapping[str, Any]) -> Path:
    """Store the state as runs/x/checkpoints/step-N, and see that it can be read; the folder.

    Raises:
        RunFailed: the place cannot be written, or what was written is not what can be read.
    """
    folder = run / "checkpoints" / f"step-{state.step:08d}"
    storage.write(
        folder,
        {
            "weights": state.denoiser.network.state_dict(),
            "ema": state.ema.weights,
            "optimizer": optimizers.moments(state.optimizers, state.denoiser.network),
        },
        {
            "model": model,
            "state": {
                **facts,
                "step": state.step,
                "course": dataclasses.asdict(state.course),
                "scaler": state.scaler.state_dict(),
                "times": describe(state.times),
            },
        },
    )
    wrong = storage.problem(folder)
    if wrong is not None:
        raise RunFailed(f"{folder} was written, but {wrong}; the disk does not keep what it gets")
    return folder


def check_finite(state: State) -> None:
    """Refuse to store a state that no further step repairs.

    Raises:
        RunFailed: naming the first tensor with a number that is not finite.
    """
    found = not_finite(
        {
            "the weight": state.denoiser.network.state_dict(),
            "the averaged weight": state.ema.weights,
            "the optimiser's": optimizers.moments(state.optimizers, state.denoiser.network),
        }
    )
    if found is not None:
        raise RunFailed(
            f"{found} is not finite after step {state.step}, so that this step is not stored: lower"
            " training.lr, or use float32; the checkpoints are of earlier steps and whole"
        )


def estimated(state: State) -> int:
    """About how many bytes a checkpoint takes, with the model folder that goes with it."""
    network = state.denoiser.network
    moments = sum(2 * parameter.nbytes for parameter in network.parameters())
    return int(3 * sum(v.nbytes for v in network.state_dict().values()) + moments + 50_000)


def prune(run: Path, keep: int, keep_best: int = 0, keep_every: int = 0) -> None:
    """Delete checkpoints: the `keep` newest, the `keep_best` best and each `keep_every`th stay.

    Only checkpoints that verify count, so a damaged one never pushes out a whole one. What a crash
    left half written is deleted too.
    """
    folders = listed(run)
    kept = _first_whole(folders[::-1], keep)
    if kept:
        rated = [f for f in folders if math.isfinite(smoothed_loss(f))]
        kept += _first_whole(sorted(rated, key=smoothed_loss), keep_best)
        kept += [f for f in folders if keep_every and int(f.name[5:]) % keep_every == 0]
        for folder in folders:
            if folder not in kept:
                storage.remove(folder)
    for place in (run, run / "checkpoints"):
        storage.sweep(place)


def _first_whole(folders: list[Path], count: int) -> list[Path]:
    """The first `count` folders that verify; one of a newer version is whole too."""
    found: list[Path] = []
    for folder in folders:
        if len(found) == count:
            break
        wrong: str | None = None
        with contextlib.suppress(UndiffuseError):
            wrong = storage.problem(folder)
        if wrong is None:
            found.append(folder)
    return found


def smoothed_loss(folder: Path) -> float:
    """The smoothed loss of a checkpoint; infinite before 50 steps, or where none is written."""
    try:
        course = Course(**storage.read_json(folder / "state.json")["course"])
    except (UndiffuseError, KeyError, TypeError):
        return math.inf
    return math.inf if course.loss is None or not course.settled else course.loss


def listed(run: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first, verified or not."""
    return sorted(
        f for f in run.glob("checkpoints/step-*") if f.is_dir() and re.search(r"-\d{8,}$", f.name)
    )


def newest(run: Path) -> tuple[Path | None, list[Damaged]]:
    """The newest checkpoint that verifies, and the damaged ones that were passed over."""
    damaged: list[Damaged] = []
    for folder in reversed(listed(run)):
        wrong = storage.problem(folder)
        if wrong is None:
            return folder, damaged
        damaged.append(Damaged(folder, wrong))
    return None, damaged


def restore(folder: Path, state: State) -> dict[str, Any]:
    """Put a verified checkpoint into `state`; returns state.json.

    Raises:
        UndiffuseError: the tensors do not fit the network of this recipe.
    """
    facts: dict[str, Any] = storage.read_json(folder / "state.json")
    try:
        state.denoiser.network.load_state_dict(storage.tensors(folder, "weights"))
        state.ema.load(storage.tensors(folder, "ema"))
        optimizers.restore(
            state.optimizers, state.denoiser.network, storage.tensors(folder, "optimizer")
        )
        if facts["scaler"]:
            state.scaler.load_state_dict(facts["scaler"])
        state.times = build(facts["times"], "objectives.times")
        state.course = Course(**facts.get("course", {}))
        state.step = facts["step"]
        if type(state.step) is not int or state.step < 0:
            raise ValueError(f"its step is {state.step!r}")
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UndiffuseError(f"{folder} does not belong to this network: {error}") from error
    return facts
