r"""A model as a thing: weights, every object that makes them a denoiser, facts about its data.

`load` reads a run directory or a model folder and gives a `Model`, which samples:

    model = undiffuse.load("runs/x")
    images = model.sample(16, label=3, guidance=2.0, seed=0)      # [16, C, H, W] in [-1, 1]

A model folder holds `weights.safetensors`, `model.json` and `manifest.json` and is checked byte by
byte when it is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from undiffuse import labels, storage
from undiffuse.classifier import load_classifier
from undiffuse.denoiser import Denoiser, Learned
from undiffuse.errors import UndiffuseError
from undiffuse.grids.base import Grid
from undiffuse.guidance.words import Guides, Readers, Words, opened
from undiffuse.labels import Label
from undiffuse.networks.compilation import with_compiled
from undiffuse.samplers.asked import rule_of, times_of
from undiffuse.samplers.base import Sampler
from undiffuse.samplers.loop import DEFAULT_BATCH, sample, stream
from undiffuse.samplers.records import Trajectory
from undiffuse.samplers.tuning import tune
from undiffuse.schedules.base import Schedule
from undiffuse.stored import read
from undiffuse.tuned import TunedRule, read_tuned

Guiding = Guides | str | Sequence[str | Words] | None


@dataclass(frozen=True, eq=False)
class Model:
    """A learned denoiser with the facts about its data and how to sample from it.

    Attributes:
        denoiser: E[x_0 | x_t], with the network in evaluation mode.
        data: what was learned from: shape, classes, class_names, kind, count, ...
        sampling: the defaults: sampler, steps, guidance, and guides around it.
        digest: sha256 of the weights file, the model's identity ("" if it was never stored).
        skipped: newer checkpoints, and tuned samplers, that were damaged and passed over, in words.
        tuned: samplers tuned for this run; one is used where model, steps and guidance are its own.
    """

    denoiser: Learned
    data: dict[str, Any]
    sampling: dict[str, Any]
    digest: str = ""
    skipped: tuple[str, ...] = ()
    tuned: tuple[TunedRule, ...] = ()

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
        label: Label | None = None,
        guidance: float | None = None,
        seed: int = 0,
        *,
        sampler: Sampler | str | None = None,
        steps: int | None = None,
        grid: Grid | str | None = None,
        guide: Guiding | Callable[[Denoiser], Denoiser] = None,
        negative_label: Label | None = None,
        batch_size: int | None = DEFAULT_BATCH,
        first_index: int = 0,
        trajectory: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Any:
        """Draw `count` samples, [count, *shape], images in [-1, 1]; a Trajectory if asked.

        Args:
            count: how many, >= 1.
            label: one label for all, or one for each (-1: no label), or rows of several at once,
                [[3, 7]], which are composed; None: without labels.
            guidance: w, 1 as learned, 0 without labels; default: the recipe's, with its guides.
            seed: sample i is a function of (seed, first_index + i).
            sampler: a rule or its name; default: one tuned for these steps and this guidance, or
                else the recipe's.
            steps: evaluations; default: the recipe's.
            grid: the times; default: the sampler's.
            guide: guides in words, such as "rescaled(weight=3)", from the inner to the outer; or a
                function that makes the denoiser to sample with out of the model's.
            negative_label: labels to keep away from, in the form of `label`.
            batch_size: how many at once.
            first_index: the index of the first sample.
            trajectory: return every step.
            progress: called with (done, count) after each batch.

        Raises:
            UndiffuseError: a label that does not exist, guidance without a label or beside a
                guide that holds its own weight, guides that do not fit, bad steps.
        """
        made: Tensor | Trajectory = sample(
            **self._asked(
                *(count, label, negative_label, guidance, guide), *(sampler, steps, grid)
            ),
            seed=seed,
            batch_size=batch_size,
            first_index=first_index,
            trajectory=trajectory,
            progress=progress,
        )
        return made

    def stream(
        self,
        count: int,
        label: Label | None = None,
        guidance: float | None = None,
        seed: int = 0,
        *,
        sampler: Sampler | str | None = None,
        steps: int | None = None,
        grid: Grid | str | None = None,
        guide: Guiding | Callable[[Denoiser], Denoiser] = None,
        negative_label: Label | None = None,
        batch_size: int = DEFAULT_BATCH,
        first_index: int = 0,
    ) -> Iterator[Tensor]:
        """Draw as `sample` does, batch by batch, in the memory of one however large `count` is.

        Returns:
            the batches in order, [B, *shape] each with B <= batch_size.

        Raises:
            UndiffuseError: as `sample`, before the first batch is asked for.
        """
        return stream(
            **self._asked(
                *(count, label, negative_label, guidance, guide), *(sampler, steps, grid)
            ),
            seed=seed,
            batch_size=batch_size,
            first_index=first_index,
        )

    def _asked(
        self,
        count: int,
        label: Label | None,
        negative_label: Label | None,
        guidance: float | None,
        guide: Guiding | Callable[[Denoiser], Denoiser],
        sampler: Sampler | str | None,
        steps: int | None,
        grid: Grid | str | None,
    ) -> dict[str, Any]:
        """What the loop is asked for: the denoiser with its guides, sampler, steps, conditions."""
        rule = rule_of(sampler or self.sampling["sampler"])
        if steps is None and not rule.adaptive:
            steps = self.sampling["steps"]
        guides = Guides() if callable(guide) else self.guides(guide)
        facts = guides.facts(self.data)
        wanted = labels.checked(count, label, facts)
        unwanted = labels.checked(count, negative_label, facts)
        if callable(guide):
            if guidance is not None:
                raise UndiffuseError(
                    "give guidance or a guide, not both: a guide holds its own weight"
                )
            denoiser = guide(self.denoiser)
        else:
            if wanted is None and guidance not in {None, 0, 1}:
                raise UndiffuseError(
                    "guidance needs a label to guide towards"
                    + ("" if facts["classes"] else "; this model was trained without labels")
                )
            n = 0 if wanted is None else int(wanted[:1].numel())
            own, away = self.sampling["guidance"], unwanted is not None
            guides = guides.standing(guidance, self.sampling, n, away)
            if sampler is None and grid is None and n < 2 and not away:
                weight = own if guidance is None else guidance
                found = self.tuned_for(steps, None if wanted is None else weight, str(guides))
                rule = rule if found is None else found.rule
            guides = guides.complete(guidance, own, n, away)
            if wanted is not None and guides.composed:
                wanted = wanted.reshape(count, n)
            denoiser = guides.around(
                self.denoiser, lambda: times_of(self.denoiser.schedule, rule, steps, grid)
            )
        way = {"sampler": rule, "steps": steps, "grid": grid}
        conditions = {"label": wanted} | ({} if unwanted is None else {"negative_label": unwanted})
        return {"denoiser": denoiser, "shape": (count, *self.shape), **way, **conditions}

    def tuned_for(
        self, steps: int | None, guidance: float | None, guide: str = ""
    ) -> TunedRule | None:
        """The sampler tuned for these weights, steps and guidance, if there is one.

        Args:
            steps: evaluations; None: the recipe's.
            guidance: w of classifier-free guidance; None: without labels.
            guide: the guides around it in words.
        """
        count = self.sampling["steps"] if steps is None else steps
        fitting = (r for r in self.tuned if r.fits(self.digest, count, guidance, guide))
        return next(fitting, None)

    def tune(
        self, steps: int | None = None, guidance: float | None = None, **options: Any
    ) -> TunedRule:
        """Tune a sampler for this model; `tuned.TunedRule.write` keeps it in a run.

        Args:
            steps: evaluations; default: the recipe's.
            guidance: w towards each label in turn; default: the recipe's, with its guides.
            options: those of `samplers.tuning.tune`.

        Raises:
            UndiffuseError: guidance for a model without labels; impossible steps or guidance.
        """
        if guidance is not None and not self.classes:
            raise UndiffuseError("guidance needs labels, and this model was trained without them")
        count = self.sampling["steps"] if steps is None else steps
        labelled, own = min(self.classes, 1), self.sampling["guidance"]
        guides = self.usual_guides() if guidance is None else Guides()
        whole = guides.complete(guidance, own, labelled, negative=False)
        found = tune(
            whole.around(self.denoiser),
            self.shape,
            count,
            condition=lambda index: {"label": index % self.classes} if self.classes else {},
            **options,
        )
        weight = (own if guidance is None else guidance) if self.classes else None
        made_for = (self.digest, count, weight, str(guides))
        return TunedRule(found.rule, *made_for, found.start, found.before, found.after)

    def labels(self, count: int, label: Label | None) -> Tensor | None:
        """The labels that `sample` uses, [count] or [count, n], checked; None without labels.

        Raises:
            UndiffuseError: a label that the model does not know, or as many as do not fit.
        """
        return labels.checked(count, label, self.data)

    def guides(self, guides: Guiding = None) -> Guides:
        """Guides in words, the runs that they name read and found to fit this model.

        Raises:
            UndiffuseError: no such guide or option; no run at a path, or one for other samples.
        """
        readers: Readers = {"bad": load, "classifier": load_classifier}
        return opened(guides, readers, self.shape, next(self.denoiser.parameters()).device)

    def usual_guides(self) -> Guides:
        """The guides around the recipe's guidance, where nothing but a label is asked for."""
        return Guides().standing(None, self.sampling, min(self.classes, 1), negative=False)

    def under(self, schedule: Schedule) -> Denoiser:
        """The denoiser under a schedule, its own or another."""
        own = self.denoiser.schedule == schedule
        return self.denoiser if own else self.denoiser.with_schedule(schedule)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Store the model as a folder that `load` reads.

        Raises:
            UndiffuseError: the place cannot be written.
        """
        facts = {"denoiser": self.denoiser.config(), "data": self.data, "sampling": self.sampling}
        weights = self.denoiser.network.state_dict()
        storage.write(Path(folder), {"weights": weights}, {"model": facts})

    def compiled(self, backend: str = "inductor") -> Model:
        """The same model with its network compiled by `torch.compile` in its first call.

        It shares its weights with this one. Samples agree to rounding; solvers stay in float64.

        Raises:
            UndiffuseError: nothing here can compile, such as a C++ compiler for the CPU.
        """
        return replace(self, denoiser=with_compiled(self.denoiser, backend))

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
    stored = read(path, weights)
    facts = stored.facts
    if "classifier" in facts:
        raise UndiffuseError(
            f"{path} holds a classifier, which guides and makes no samples: sample from another"
            f" run with --guide 'classifier-guided(classifier={path}, weight=1)'"
        )
    try:
        denoiser = Learned.from_config(facts["denoiser"])
        denoiser.network.load_state_dict(stored.weights)
        data, sampling = dict(facts["data"]), dict(facts["sampling"])
        images = len(data["shape"]) == 3
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UndiffuseError(f"{stored.folder} holds no model of this version: {error}") from error
    if images:
        denoiser.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    tuned, wrong = read_tuned(Path(path))
    skipped = (*stored.skipped, *wrong)
    return Model(denoiser.eval(), data, sampling, stored.digest, skipped, tuned)
