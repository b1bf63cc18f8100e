r"""Checkpoints: the whole state of a run, in a folder that proves its own completeness.

    checkpoints/step-00001000/
        weights.safetensors     the network
        ema.safetensors         its moving average, which samples are drawn from
        optimizer.safetensors   AdamW's moments
        model.json              every object that makes the weights a denoiser, facts about the data
        state.json              step, steps, seed, times that learn from losses
        manifest.json           sizes and sha256 of the files above

There is no pointer to the latest one: it is the highest step that verifies.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from undiffuse import storage
from undiffuse.catalogue import build, describe
from undiffuse.errors import UndiffuseError
from undiffuse.training.loop import State


class Damaged(NamedTuple):
    """A checkpoint that could not be used, and why."""

    folder: Path
    reason: str


def save(run: Path, state: State, model: Mapping[str, Any], facts: Mapping[str, Any]) -> Path:
    """Store the state as runs/x/checkpoints/step-N; returns the folder."""
    folder = run / "checkpoints" / f"step-{state.step:08d}"
    storage.write(
        folder,
        {
            "weights": state.denoiser.network.state_dict(),
            "ema": state.ema.weights,
            "optimizer": _moments(state),
        },
        {
            "model": model,
            "state": {
                **facts,
                "step": state.step,
                "scaler": state.scaler.state_dict(),
                "times": describe(state.times),
            },
        },
    )
    return folder


def prune(run: Path, keep: int) -> None:
    """Delete all but the newest `keep` whole checkpoints, and what a crash left half written.

    Only checkpoints that verify count, so a damaged one never pushes out a whole one.
    """
    whole = [folder for folder in listed(run) if storage.problem(folder) is None]
    for folder in listed(run):
        if whole and folder not in whole[-keep:]:
            shutil.rmtree(folder)
    for place in (run, run / "checkpoints"):
        for stray in (*place.glob(".tmp-*"), *place.glob(".old-*")):
            shutil.rmtree(stray, ignore_errors=True)


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
        _restore_moments(state, storage.tensors(folder, "optimizer"))
        if facts["scaler"]:
            state.scaler.load_state_dict(facts["scaler"])
        state.times = build(facts["times"], "objectives.times")
        state.step = int(facts["step"])
    except (RuntimeError, KeyError) as error:
        raise UndiffuseError(f"{folder} does not belong to this network: {error}") from error
    return facts


def _moments(state: State) -> dict[str, Tensor]:
    return {
        f"{key}/{name}": torch.as_tensor(value)
        for name, parameter in state.denoiser.network.named_parameters()
        for key, value in state.optimizer.state[parameter].items()
    }


def _restore_moments(state: State, stored: Mapping[str, Tensor]) -> None:
    for name, parameter in state.denoiser.network.named_parameters():
        if f"step/{name}" in stored:  # a parameter that no loss depends on has no moments
            state.optimizer.state[parameter] = {
                "step": stored[f"step/{name}"].to(parameter.device),
                "exp_avg": _laid_out(stored[f"exp_avg/{name}"], parameter),
                "exp_avg_sq": _laid_out(stored[f"exp_avg_sq/{name}"], parameter),
            }


def _laid_out(value: Tensor, parameter: Tensor) -> Tensor:
    """`value` in the parameter's memory format: fused AdamW goes through both by address."""
    return torch.empty_like(parameter, requires_grad=False).copy_(value)
