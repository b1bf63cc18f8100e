"""Train a model, in one call."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from undiffuse.training.assemble import Data
from undiffuse.training.loggers.logged import chosen, logged
from undiffuse.training.loop import Record
from undiffuse.training.recipe import Recipe
from undiffuse.training.run import Run
from undiffuse.training.session import Session


def train(
    data: Data,
    out: str | os.PathLike[str],
    recipe: str | Recipe | None = None,
    *,
    watch: Callable[[Record], None] | None = None,
    log: Any = None,
    **options: Any,
) -> Run:
    """Train a model and leave it in the directory `out`.

    Args:
        data: a built-in name ("digits"), a path, a Dataset, or samples: float [N, ...] or uint8
            images [N, H, W, C].
        out: the directory of the run; it must not hold one already, unless `resume`.
        recipe: a Recipe, the name of a shipped one, or a .toml file; default: by kind of data.
        watch: called with the record of each step.
        log: where the figures go beside metrics.jsonl: "tensorboard", "wandb", any object with a
            method log(figures, step=...) such as a W&B run, or a list of these.
        options: as for `Session`: steps, minutes, seed, batch_size, settings, resume, device,
            precision, denoiser, objective.

    Returns:
        the Run, whose path `undiffuse.load` reads.

    Raises:
        UndiffuseError: unusable data, recipe or option; `out` in use.
    """
    loggers = chosen(log)
    session = Session(data, out, recipe, **options)
    for record in logged(session.records(), session.run, loggers, session.tell):
        if watch is not None:
            watch(record)
    return session.run
