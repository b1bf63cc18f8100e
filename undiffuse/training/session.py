r"""One training in one run directory: make the objects, run the loop, keep what it learned.

session = Session("digits", "runs/x", "digits")
for record in session.records():
    print(record.loss)
"""

from __future__ import annotations

import copy
import json
import os
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import undiffuse
from undiffuse import catalogue, pictures, storage
from undiffuse.denoiser import Learned
from undiffuse.errors import UndiffuseError
from undiffuse.objectives.objective import Loss
from undiffuse.samplers.loop import sample
from undiffuse.training import checkpoint
from undiffuse.training.allocator import keep_memory
from undiffuse.training.assemble import (
    Data,
    choose,
    difference,
    make_denoiser,
    make_objective,
    measured,
    open_any,
)
from undiffuse.training.loop import Record, State, steps_for, train_steps
from undiffuse.training.recipe import Recipe, Table, to_table
from undiffuse.training.run import Run

TIMED_STEPS = 20


class Session:
    """One training in one run directory.

    Args:
        data: as for `train`.
        out: the run directory.
        recipe: as for `train`.
        steps: optimiser steps in place of the recipe's.
        minutes: time for training instead; it becomes a number of steps after the first 20.
        seed: of everything random.
        batch_size: samples per step in place of the recipe's.
        settings: dotted keys of the recipe and their values, {"training.lr": 1e-3}.
        resume: continue the run in `out` from its newest whole checkpoint (or start it).
        device: "cpu", "cuda", "cuda:1".
        precision: float32, bfloat16 or float16, in place of the recipe's.
        denoiser: a denoiser of one's own instead of the recipe's network and prediction.
        objective: a loss of one's own instead of the recipe's times and weight.

    Attributes:
        passed_over: damaged checkpoints that a resumed run could not use.
        stop: set it to end after the step in progress, with a checkpoint.
    """

    def __init__(
        self,
        data: Data,
        out: str | os.PathLike[str],
        recipe: str | Recipe | None = None,
        *,
        steps: int | None = None,
        minutes: float | None = None,
        seed: int = 0,
        batch_size: int | None = None,
        settings: Mapping[str, Any] | None = None,
        resume: bool = False,
        device: str | torch.device = "cpu",
        precision: str | None = None,
        denoiser: Learned | None = None,
        objective: Loss | None = None,
    ) -> None:
        self.run, self.seed, self.stop = Run(Path(out)), seed, False
        self.resume = resume
        self.passed_over: list[checkpoint.Damaged] = []
        _check_place(self.run, resume)
        _check_length(steps, minutes)
        wanted = {
            "training.steps": steps,
            "training.batch_size": batch_size,
            "training.precision": precision,
            **(settings or {}),
        }
        chosen = choose(data, recipe, {k: v for k, v in wanted.items() if v is not None})
        if minutes is not None and chosen.training.warmup < TIMED_STEPS:
            raise UndiffuseError(f"--minutes needs training.warmup of at least {TIMED_STEPS} steps")
        self.minutes = minutes
        self.dataset = open_any(data, chosen.data.size)
        self.recipe = measured(chosen, self.dataset)
        catalogue.build(self.recipe.sampling.sampler, "samplers")  # an unknown one is told now
        self.objective = objective or make_objective(self.recipe)
        learned = denoiser or make_denoiser(self.recipe, self.dataset, seed)
        _check_denoiser(learned)
        learned.to(device)
        if torch.device(device).type == "cpu":
            keep_memory()
        if len(self.dataset.shape) == 3:
            learned.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.state = State.new(learned, self.recipe.training)
        self.steps = None if minutes else self.recipe.training.steps
        self.facts = self.dataset.facts()
        if self.run.config.is_file():
            self._continue()

    def _continue(self) -> None:
        recipe, facts = self.run.read_config()
        mine = {
            "seed": self.seed,
            "minutes": self.minutes,
            "fingerprint": self.facts["fingerprint"],
        }
        for key, value in mine.items():
            if facts.get(key) != value:
                raise UndiffuseError(
                    f"cannot resume {self.run.path}: it was run with {key} = {facts.get(key)}, not"
                    f" {value}; resume with the same options, or choose another --out"
                )
        changed = difference(recipe, self.recipe)
        if changed is not None:
            raise UndiffuseError(
                f"cannot resume {self.run.path}: {changed}; resume with the same options, or choose"
                " another --out"
            )
        self.steps = facts.get("steps", self.steps)
        newest, self.passed_over = checkpoint.newest(self.run.path)
        if newest is not None:
            checkpoint.restore(newest, self.state)

    def _describe(self) -> Table:
        return {
            "data": self.facts["source"],
            "seed": self.seed,
            "minutes": self.minutes,
            "steps": self.steps,
            "fingerprint": self.facts["fingerprint"],
            "undiffuse": undiffuse.__version__,
            "torch": str(torch.__version__),
        }

    def records(self) -> Iterator[Record]:
        """Train, yielding the record of each step; checkpoints, metrics and pictures on the way.

        Raises:
            UndiffuseError: another process writes to the run.
            RunFailed: the disk is full, the loss is NaN.
        """
        options = self.recipe.training
        self.run.create()
        with self.run.locked():
            _check_place(self.run, self.resume)  # again: another process may have been faster
            self.resume = True
            self.run.write_config(self.recipe, self._describe())
            self.run.trim_metrics(self.state.step)
            with (self.run.path / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
                for record in self._steps():
                    metrics.write(json.dumps(record._asdict()) + "\n")
                    last = record.step == self.steps or self.stop
                    if last or record.step % options.sample_every == 0:
                        self._picture(record.step)
                    if last or record.step % options.checkpoint_every == 0:
                        metrics.flush()
                        self._save()
                    yield record
                    if self.stop:
                        if not last:  # asked while the record was in other hands
                            self._save()
                        return

    def _steps(self) -> Iterator[Record]:
        arguments = self.seed, self.recipe.training, self.recipe.data
        seconds: list[float] = []
        if self.steps is None:
            for record in train_steps(
                self.state, self.dataset, self.objective, TIMED_STEPS, *arguments
            ):
                seconds.append(record.seconds)
                if record.step == TIMED_STEPS:  # before a checkpoint of this step can be written
                    pace = statistics.median(seconds[-15:])
                    self.steps = steps_for(self.minutes or 0, pace, record.step)
                    self.run.write_config(self.recipe, self._describe())
                yield record
            assert self.steps is not None
        yield from train_steps(self.state, self.dataset, self.objective, self.steps, *arguments)

    def _save(self) -> None:
        denoiser, step = self.state.denoiser, self.state.step
        model = {
            "undiffuse": undiffuse.__version__,
            "denoiser": denoiser.config(),
            "data": self.facts,
            "sampling": to_table(self.recipe)["sampling"],
            "training": {**self._describe(), "step": step},
        }
        model = json.loads(json.dumps(model))
        checkpoint.save(self.run.path, self.state, model, {"seed": self.seed})
        storage.write(
            self.run.path / "model", {"weights": self.state.ema.weights}, {"model": model}
        )
        checkpoint.prune(self.run.path, self.recipe.training.keep)

    def averaged(self) -> Learned:
        """The denoiser with the averaged weights, as a copy."""
        made = copy.deepcopy(self.state.denoiser).eval()
        made.network.load_state_dict(self.state.ema.weights)
        return made

    def _picture(self, step: int) -> None:
        """Samples from raw and averaged weights, so that a bad average would be seen."""
        options, shape = self.recipe.sampling, self.dataset.shape
        count = 16 if len(shape) == 3 else 512
        label = None
        if self.dataset.classes:
            label = torch.arange(count) % self.dataset.classes
        for name, denoiser in (("raw", self.state.denoiser), ("ema", self.averaged())):
            x = sample(
                denoiser.eval(),
                (count, *shape),
                options.sampler,
                options.steps,
                seed=self.seed,
                label=label,
            )
            assert isinstance(x, Tensor)
            facts = {
                "undiffuse": undiffuse.__version__,
                "model": storage.digest_of(denoiser.network.state_dict()),
                "weights": name,
                "step": step,
                "seed": self.seed,
                "sampler": options.sampler,
                "steps": options.steps,
            }
            path = self.run.path / "samples" / f"step-{step:08d}-{name}.png"
            pictures.save(pictures.draw(x), path, facts)
        self.state.denoiser.train()


def _check_place(run: Run, resume: bool) -> None:
    if run.path.exists() and not run.path.is_dir():
        raise UndiffuseError(f"{run.path} is a file; --out must be a directory")
    if run.config.is_file() and not resume:
        raise UndiffuseError(
            f"{run.path} already holds a run; add --resume to continue it, or choose another --out"
        )
    if not run.config.is_file() and run.path.is_dir() and any(run.path.glob("[!.]*")):
        raise UndiffuseError(f"{run.path} is not empty and holds no run; choose another --out")


def _check_denoiser(denoiser: Learned) -> None:
    try:
        json.dumps(denoiser.config())
    except TypeError as error:
        raise UndiffuseError(
            f"{type(denoiser.network).__name__} cannot be written down: a network must be a"
            " dataclass of plain options with a name, as those of undiffuse.networks are"
        ) from error


def _check_length(steps: int | None, minutes: float | None) -> None:
    if steps is not None and minutes is not None:
        raise UndiffuseError("give --steps or --minutes, not both")
    if minutes is not None and not 0 < minutes < 1e6:
        raise UndiffuseError(f"--minutes must be a positive number, not {minutes}")
