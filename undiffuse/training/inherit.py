r"""Starting from the weights of another model, instead of random ones.

The averaged weights, which samples are drawn from, become the first weights of the new run and the
start of its average. The network has to be the same one, down to the shape of every weight, and has
to predict the same thing; schedule, data and everything else may differ.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from undiffuse import pickles, storage
from undiffuse.denoiser import Learned
from undiffuse.errors import UndiffuseError
from undiffuse.training import checkpoint
from undiffuse.training.recipe import Recipe
from undiffuse.training.run import Run


class Ancestor(NamedTuple):
    """The model that a run starts from."""

    path: str
    digest: str  # sha256 of the file of its weights
    weights: dict[str, Tensor]
    denoiser: dict[str, Any]  # its description
    passed_over: list[checkpoint.Damaged]  # newer checkpoints that could not be used


def find(path: str | os.PathLike[str]) -> Ancestor:
    """The model of a run (its newest whole checkpoint), of a checkpoint or of a model folder.

    Raises:
        UndiffuseError: there is none, or it is damaged.
    """
    folder: Path | None = Path(path)
    passed_over: list[checkpoint.Damaged] = []
    if (Path(path) / "model.json").is_file():
        storage.verify(Path(path))
    else:
        folder, passed_over = checkpoint.newest(Path(path))
    if folder is None:
        reason = pickles.told(Path(path)) or "it holds no whole checkpoint and no model"
        raise UndiffuseError(f"cannot start from {path}: {reason}; check the path")
    stem = "ema" if (folder / "ema.safetensors").is_file() else "weights"
    try:
        denoiser = dict(storage.read_json(folder / "model.json")["denoiser"])
    except (KeyError, TypeError, ValueError) as error:
        raise UndiffuseError(f"cannot start from {folder}: it describes no model") from error
    file = folder / f"{stem}.safetensors"
    return Ancestor(
        os.fspath(path), storage.digest(file), storage.tensors(folder, stem), denoiser, passed_over
    )


def recipe_of(path: str | os.PathLike[str]) -> Recipe | None:
    """The recipe of a run, or of the run that a model or checkpoint lies in; None without one."""
    place = Path(os.path.abspath(path))
    if place.name == "model":
        place = place.parent
    elif place.parent.name == "checkpoints":
        place = place.parent.parent
    run = Run(place)
    return run.read_config()[0] if run.config.is_file() else None


def inherit(denoiser: Learned, ancestor: Ancestor) -> None:
    """Put the ancestor's weights into an untrained denoiser.

    Raises:
        UndiffuseError: another network, another prediction, or a weight of another shape.
    """
    mine = denoiser.config()
    for part in ("network", "prediction"):
        kinds = [config.get(part, {}).get("kind") for config in (ancestor.denoiser, mine)]
        if kinds[0] != kinds[1]:
            old, new = (str(kind).rpartition(".")[2] for kind in kinds)
            raise _other(ancestor, f"its {part} is '{old}' and this recipe's is '{new}'")
    state = denoiser.network.state_dict()
    for name in sorted({*state, *ancestor.weights}):
        old, new = (_shape(weights, name) for weights in (ancestor.weights, state))
        if old != new:
            raise _other(ancestor, f"its weight {name} is {old} and this network's is {new}")
    denoiser.network.load_state_dict(ancestor.weights)


def _shape(weights: dict[str, Tensor], name: str) -> str:
    return str(list(weights[name].shape)) if name in weights else "missing"


def _other(ancestor: Ancestor, what: str) -> UndiffuseError:
    return UndiffuseError(
        f"cannot start from {ancestor.path}: {what}; use the recipe and the kind of data that it"
        " was trained with"
    )
