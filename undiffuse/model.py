r"""A model as a thing: weights, every object that makes them a denoiser, facts about its data.

`load` reads a run directory or a model folder and gives a `Model`, which samples:

    model = undiffuse.load("runs/x")
    images = model.sample(16, label=3, guidance=2.0, seed=0)      # [16, C, H, W] in [-1, 1]

A model folder holds `weights.safetensors`, `model.json` and `manifest.json` and is checked byte by
byte when it is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from undiffuse import storage
from undiffuse.denoiser import Denoiser, Learned
from undiffuse.errors import UndiffuseError
from undiffuse.grids.base import Grid
from undiffuse.guidance.cfg import ClassifierFree
from undiffuse.samplers.base import Sampler
from undiffuse.samplers.loop import Trajectory, sample


@dataclass(frozen=True, eq=False)
class Model:
    """A learned denoiser with the facts about its data and how to sample from it.

    Attributes:
        denoiser: E[x_0 | x_t], with the network in evaluation mode.
        data: what was learned from: shape, classes, class_names, kind, count, ...
        sampling: the defaults: sampler, steps, guidance.
        digest: sha256 of the weights file, the model's identity ("" if it was never stored).
        skipped: newer checkpoints that were damaged and passed over, in words.
    """

    denoiser: Learned
    data: dict[str, Any]
    sampling: dict[str, Any]
    digest: str = ""
    skipped: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample: (C, H, W) or (D,)."""
        return tuple(self.data["shape"])

    @property
    def classes(self) -> int:
        """How many labels there are; 0: none."""
        return int(self.data["classes"])

    def sample(
        self,
        count: int,
        label: int | Sequence[int] | Tensor | None = None,
        guidance: float | None = None,
        seed: int = 0,
        *,
        sampler: Sampler | str | None = None,
        steps: int | None = None,
        grid: Grid | str | None = None,
        guide: Callable[[Denoiser], Denoiser] | None = None,
        batch_size: int | None = 256,
        first_index: int = 0,
        trajectory: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Any:
        """Draw `count` samples, [count, *shape], images in [-1, 1]; a Trajectory if asked.

        Args:
            count: how many, >= 1.
            label: one label for all, or one for each (-1: no label); None: without labels.
            guidance: w of classifier-free guidance; 1 is the conditional model, 0 ignores labels.
            seed: sample i is a function of (seed, first_index + i).
            sampler: a rule or its name; default: the recipe's.
            steps: evaluations; default: the recipe's.
            grid: the times; default: the sampler's.
            guide: makes the denoiser to sample with out of the model's, in place of `guidance`.
            batch_size: how many at once.
            first_index: the index of the first sample.
            trajectory: return every step.
            progress: called with (done, count) after each batch.

        Raises:
            UndiffuseError: a label that does not exist, guidance without a label or beside a
                guide, bad steps.
        """
        labels = self.labels(count, label)
        weight = self.sampling["guidance"] if guidance is None else guidance
        denoiser: Denoiser = self.denoiser
        if guide is not None and guidance is not None:
            raise UndiffuseError("give guidance or a guide, not both: a guide holds its own weight")
        if labels is None and guidance not in {None, 0, 1}:
            raise UndiffuseError(
                "guidance needs a label to guide towards"
                + ("" if self.classes else "; this model was trained without labels")
            )
        if guide is not None:
            denoiser = guide(denoiser)
        elif labels is not None and weight != 1:
            denoiser = ClassifierFree(denoiser, weight)
        made: Tensor | Trajectory = sample(
            denoiser,
            (count, *self.shape),
            sampler or self.sampling["sampler"],
            self.sampling["steps"] if steps is None else steps,
            grid,
            seed,
            batch_size=batch_size,
            first_index=first_index,
            trajectory=trajectory,
            progress=progress,
            label=labels,
        )
        return made

    def labels(self, count: int, label: int | Sequence[int] | Tensor | None) -> Tensor | None:
        """The labels [count] that `sample` uses, checked; None without labels.

        Raises:
            UndiffuseError: a label that the model does not know, or as many as do not fit.
        """
        if label is None:
            return None
        if not self.classes:
            raise UndiffuseError("this model was trained without labels; leave the label out")
        wanted = torch.as_tensor(label).reshape(-1)
        if wanted.is_floating_point() and len(wanted):
            raise UndiffuseError(f"labels are whole numbers, not {wanted[0].item()}")
        wanted = wanted.to(torch.int64)
        wanted = wanted.expand(count) if len(wanted) == 1 else wanted
        if len(wanted) != count:
            raise UndiffuseError(f"{len(wanted)} labels were given for {count} samples")
        for value in wanted.unique().tolist():
            if not -1 <= value < self.classes:
                names = ", ".join(f"{i} {n}" for i, n in enumerate(self.data["class_names"][:20]))
                raise UndiffuseError(
                    f"there is no label {value}; labels run from 0 to {self.classes - 1}"
                    + (f" ({names})" if names else "")
                )
        return wanted

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Store the model as a folder that `load` reads.

        Raises:
            UndiffuseError: the place cannot be written.
        """
        facts = {"denoiser": self.denoiser.config(), "data": self.data, "sampling": self.sampling}
        weights = self.denoiser.network.state_dict()
        storage.write(Path(folder), {"weights": weights}, {"model": facts})

    def to(self, device: str | torch.device) -> Model:
        """The model on a device; the network moves in place."""
        self.denoiser.to(device)
        return self


def load(path: str | os.PathLike[str], weights: str = "ema") -> Model:
    """The model of a run directory (its newest whole checkpoint) or of a model folder.

    Args:
        path: a run ("runs/x"), one of its checkpoints, or a model folder.
        weights: "ema", the average that samples best, or "raw"; a model folder has one kind only.

    Raises:
        UndiffuseError: no model there, or a damaged one (the file is named).
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
    try:
        denoiser = Learned.from_config(facts["denoiser"])
        denoiser.network.load_state_dict(storage.tensors(folder, stem))
        data, sampling = dict(facts["data"]), dict(facts["sampling"])
        images = len(data["shape"]) == 3
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UndiffuseError(f"{folder} holds no model of this version: {error}") from error
    if images:
        denoiser.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    manifest = storage.read_json(folder / storage.MANIFEST)
    digest = manifest["files"][f"{stem}.safetensors"]["sha256"]
    return Model(denoiser.eval(), data, sampling, digest, skipped)


def _find(path: Path) -> tuple[Path, tuple[str, ...]]:
    """The stored folder to read, verified, and what is wrong with newer ones."""
    if not path.exists():
        raise UndiffuseError(f"there is no run or model at {path}; check the path")
    if (path / "model.json").is_file():
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
    )
