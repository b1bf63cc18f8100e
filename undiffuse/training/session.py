r"""One training in one run directory: make the objects, run the loop, keep what it learned.

session = Session("digits", "runs/x", "digits")
for record in session.records():
    print(record.loss)
"""

from __future__ import annotations

import json
import logging
import os
import statistics
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

import undiffuse
from undiffuse import catalogue
from undiffuse.denoiser import Learned
from undiffuse.errors import RunFailed, UndiffuseError
from undiffuse.objectives.objective import Loss
from undiffuse.training import checkpoint
from undiffuse.training.allocator import keep_memory
from undiffuse.training.assemble import (
    Data,
    check_guides,
    choose,
    difference,
    make_learner,
    make_objective,
    measured,
    open_any,
)
from undiffuse.training.faults import out_of_memory
from undiffuse.training.inherit import Ancestor, find, inherit, recipe_of
from undiffuse.training.keeper import Keeper, check_room
from undiffuse.training.loop import Record, State, steps_for, train_steps
from undiffuse.training.precision import AUTO, Pace, pace
from undiffuse.training.previews import Stopped, averaged, draw
from undiffuse.training.recipe import Recipe, Table, to_table
from undiffuse.training.run import Run

TIMED_STEPS = 20
# What may be another in a resumed run: it decides what is kept, not what is learned (`accumulate`
# changes sums in their last bits and, with dropout, its masks).
FREE = (
    *("accumulate", "skip_limit", "checkpoint_every", "sample_every"),
    *("keep", "keep_best", "keep_every"),
)


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
        precision: float32, bfloat16, float16, or "auto" for the quicker of the first two, in place
            of the recipe's.
        denoiser: a denoiser of one's own instead of the recipe's network and prediction.
        objective: a loss of one's own instead of the recipe's times and weight.
        from_model: a run or a model to start from instead of random weights; without `recipe`, its
            run's recipe.

    Attributes:
        passed_over: damaged checkpoints that a resumed run, or `from_model`, could not use.
        pace: what was measured to resolve the precision "auto", if it was.
        stop: set it to end after the step in progress, with a checkpoint.
        tell: called with a sentence about what the disk did not take; it goes to the log
            "undiffuse" unless set.
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
        from_model: str | os.PathLike[str] | None = None,
    ) -> None:
        self.run, self.seed, self.stop = Run(Path(out).absolute()), seed, False
        self.resume = resume
        self.tell: Callable[[str], None] = logging.getLogger("undiffuse").warning
        self.passed_over: list[checkpoint.Damaged] = []
        _check_place(self.run, resume)
        _check_length(steps, minutes)
        wanted = {
            "training.steps": steps,
            "training.batch_size": batch_size,
            "training.precision": precision,
            **(settings or {}),
        }
        if recipe is None and from_model is not None:
            recipe = recipe_of(self.run if self.run.config.is_file() else from_model)
        chosen = choose(data, recipe, {k: v for k, v in wanted.items() if v is not None})
        if minutes is not None and chosen.training.warmup < TIMED_STEPS:
            raise UndiffuseError(f"--minutes needs training.warmup of at least {TIMED_STEPS} steps")
        self.minutes = minutes
        self.dataset = open_any(data, chosen.data.size)
        self.recipe = measured(chosen, self.dataset)
        catalogue.build(self.recipe.sampling.sampler, "samplers")  # an unknown one is told now
        self.objective = objective or make_objective(self.recipe)
        learned = denoiser or make_learner(self.recipe, self.dataset, seed)
        _check_denoiser(learned)
        check_guides(self.recipe, learned)
        learned.to(device)
        if torch.device(device).type == "cpu":
            keep_memory()
        if len(self.dataset.shape) == 3:
            learned.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.pace: Pace | None = None
        if self.recipe.training.precision == AUTO:
            self._choose_precision(learned)
        self.state = State.new(learned, self.recipe.training)
        self.steps = None if minutes else self.recipe.training.steps
        self.facts = self.dataset.facts()
        self.origin: Table = {}  # the model that the first weights are from
        if from_model is not None:
            self.origin["from"] = os.fspath(from_model)
        if not (self.run.config.is_file() and self._continue()) and from_model is not None:
            self._inherit(find(from_model))

    def _choose_precision(self, learned: Learned) -> None:
        """Put what "auto" stands for into the recipe: the run's, or for a new run the quicker."""
        if self.run.config.is_file():
            chosen = self.run.read_config()[0].training.precision
        else:
            self.pace = pace(learned, self.objective, self.dataset, self.seed, self.recipe)
            chosen = self.pace.choice
        self.recipe = self.recipe.changed({"training.precision": chosen})

    def _inherit(self, ancestor: Ancestor) -> None:
        if self.origin.setdefault("from_digest", ancestor.digest) != ancestor.digest:
            raise UndiffuseError(
                f"cannot resume {self.run.path}: {ancestor.path} holds other weights than those it"
                " was started from; choose another --out"
            )
        self.passed_over += ancestor.passed_over
        inherit(self.state.denoiser, ancestor)
        self.state = State.new(self.state.denoiser, self.recipe.training)

    def _continue(self) -> bool:
        """Take up the run in the directory; whether a checkpoint of it was there."""
        recipe, facts = self.run.read_config()
        mine = {
            "seed": self.seed,
            "minutes": self.minutes,
            "fingerprint": self.facts["fingerprint"],
            "from": self.origin.get("from"),
        }
        for key, value in mine.items():
            if facts.get(key) != value:
                raise UndiffuseError(
                    f"cannot resume {self.run.path}: it was run with {key} = {facts.get(key)}, not"
                    f" {value}; resume with the same options, or choose another --out"
                )
        changed = difference(recipe.changed(_of(self.recipe, FREE)), self.recipe)
        if changed is not None:
            raise UndiffuseError(
                f"cannot resume {self.run.path}: {changed}; resume with the same options, or choose"
                " another --out"
            )
        self.steps = facts.get("steps", self.steps)
        if "from_digest" in facts:
            self.origin["from_digest"] = facts["from_digest"]
        newest, self.passed_over = checkpoint.newest(self.run.path)
        if newest is not None:
            checkpoint.restore(newest, self.state)
        return newest is not None

    def _describe(self) -> Table:
        return {
            "data": self.facts["source"],
            "seed": self.seed,
            "minutes": self.minutes,
            "steps": self.steps,
            "fingerprint": self.facts["fingerprint"],
            **self.origin,
            "undiffuse": undiffuse.__version__,
            "torch": str(torch.__version__),
        }

    def records(self) -> Iterator[Record]:
        """Train, yielding the record of each step; checkpoints, metrics and pictures on the way.

        What the disk does not take is told to `tell` and tried again at the next checkpoint.

        Raises:
            UndiffuseError: another process writes to the run.
            RunFailed: the disk has no room for two checkpoints, or did not take the last one; a
                weight or too many losses are not finite; memory does not suffice.
        """
        options = self.recipe.training
        check_room(self.run, self.state)
        self.run.create()
        with self.run.locked():
            _check_place(self.run, self.resume)  # again: another process may have been faster
            self.resume = True
            self.run.write_config(self.recipe, self._describe())
            self.run.trim_metrics(self.state.step)
            keeper = Keeper(self.run, self.recipe, self._describe, self.tell)
            if self.state.step:
                keeper.catch_up(self.state, self._model())
            try:
                for record in self._steps():
                    keeper.note(record)
                    last = record.step == self.steps
                    if not self.stop and (last or record.step % options.sample_every == 0):
                        keeper.picture(self._picture)
                    last = last or self.stop
                    if last or record.step % options.checkpoint_every == 0:
                        self._save(keeper, last)
                    yield record
                    if self.stop:
                        if not last:  # asked while the record was in other hands
                            self._save(keeper, last=True)
                        break
                keeper.finish()
            finally:
                keeper.close()

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

    def averaged(self) -> Learned:
        """The denoiser with the averaged weights, as a copy."""
        return averaged(self.state)

    def _save(self, keeper: Keeper, last: bool) -> None:
        keeper.save(self.state, self._model(), {"seed": self.seed}, last)

    def _model(self) -> Table:
        """What `undiffuse.load` has to know beside the weights."""
        sampling = {k: v for k, v in to_table(self.recipe).items() if k == "sampling"}
        model = {
            "undiffuse": undiffuse.__version__,
            self.recipe.kind: self.state.denoiser.config(),
            "data": self.facts,
            **sampling,
            "training": {**self._describe(), "step": self.state.step},
        }
        return dict(json.loads(json.dumps(model)))

    def _picture(self) -> None:
        if self.recipe.kind == "classifier":  # it makes no samples
            return
        folder, options = self.run.path / "samples", self.recipe.sampling
        try:
            draw(self.state, self.dataset, options, self.seed, folder, lambda: self.stop)
        except Stopped:
            pass
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            raise RunFailed(
                f"there is no memory for the picture of step {self.state.step}"
            ) from error


def _of(recipe: Recipe, names: tuple[str, ...]) -> dict[str, Any]:
    return {f"training.{name}": getattr(recipe.training, name) for name in names}


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
    except (TypeError, UndiffuseError) as error:
        raise UndiffuseError(
            f"{type(denoiser.network).__name__} cannot be written down: a network must be a"
            ' dataclass of plain options with a name, such as name: ClassVar[str] = "mine", as'
            f" those of undiffuse.networks are ({error})"
        ) from error


def _check_length(steps: int | None, minutes: float | None) -> None:
    if steps is not None and minutes is not None:
        raise UndiffuseError("give --steps or --minutes, not both")
    if minutes is not None and not 0 < minutes < 1e6:
        raise UndiffuseError(f"--minutes must be a positive number, not {minutes}")
