"""What a training leaves behind, found and read: in a run, in one of its checkpoints, in a folder.

What was learned is a folder with `weights.safetensors` (or `ema.safetensors` beside them), facts in
`model.json` and a `manifest.json`, and is checked byte by byte when it is read.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from undiffuse import pickles, storage
from undiffuse.errors import UndiffuseError


class Stored(NamedTuple):
    """Weights and facts, and where they are from."""

    folder: Path
    facts: dict[str, Any]
    weights: dict[str, Tensor]
    digest: str  # sha256 of the file of weights
    skipped: tuple[str, ...]  # newer checkpoints that were damaged and passed over, in words


def read(path: str | os.PathLike[str], weights: str = "ema") -> Stored:
    """What is stored in a run (its newest whole checkpoint), in a checkpoint or in a model folder.

    Args:
        path: where it is.
        weights: "ema", the average, or "raw"; a model folder has one kind only.

    Raises:
        UndiffuseError: nothing there, or it is damaged (the file is named).
    """
    if weights not in {"ema", "raw"}:
        raise UndiffuseError(f"weights must be 'ema' or 'raw', not '{weights}'")
    folder, skipped = _find(Path(path))
    stem = "ema" if weights == "ema" and (folder / "ema.safetensors").is_file() else "weights"
    if weights == "raw" and not (folder / "ema.safetensors").is_file():
        raise UndiffuseError(
            f"{folder} is a model folder without raw weights; name the run instead"
        )
    facts = storage.read_json(folder / "model.json")
    if not isinstance(facts, dict):
        raise UndiffuseError(f"{folder} holds no model of this version: model.json is no table")
    manifest = storage.read_json(folder / storage.MANIFEST)
    digest = manifest["files"][f"{stem}.safetensors"]["sha256"]
    return Stored(folder, facts, storage.tensors(folder, stem), digest, skipped)


def _find(path: Path) -> tuple[Path, tuple[str, ...]]:
    """The stored folder to read, verified, and what is wrong with newer ones."""
    if not path.exists():
        raise UndiffuseError(f"there is no run or model at {path}; check the path")
    if path.is_file():
        reason = pickles.told(path) or "a model is a folder, with model.json in it, or a run"
        raise UndiffuseError(f"cannot read the file {path}: {reason}")
    if (path / "model.json").is_file() or (path / storage.MANIFEST).is_file():
        storage.verify(path)
        return path, ()
    skipped: list[str] = []
    for folder in sorted(path.glob("checkpoints/step-*"), reverse=True):
        wrong = storage.problem(folder)
        if wrong is None:
            return folder, tuple(skipped)
        skipped.append(f"{folder.name}: {wrong}")
    if (path / "model" / "model.json").is_file():
        storage.verify(path / "model")
        return path / "model", tuple(skipped)
    trained = (path / "config.toml").is_file()
    raise UndiffuseError(
        f"{path} has no usable checkpoint" + (f" ({'; '.join(skipped)})" if skipped else " yet")
        if trained
        else f"{path} holds neither a run nor a model; it needs model.json or checkpoints/"
        + "".join(f"; {f.name}: {pickles.REFUSED}" for f in _pickled(path)[:1])
    )


def _pickled(folder: Path) -> list[Path]:
    """The pickles of a folder, which other programs take for models."""
    return [f for f in sorted(folder.iterdir()) if f.suffix.lower() in pickles.SUFFIXES]
