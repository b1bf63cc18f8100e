"""Weights & Biases: curves on a server."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from undiffuse.training.loggers.base import Logger, Write
from undiffuse.training.recipe import to_table

if TYPE_CHECKING:
    from undiffuse.training.run import Run

PROJECT = "undiffuse"


@dataclass(frozen=True)
class Wandb(Logger):
    """A W&B run with the name of the run's folder, in the project "undiffuse".

    Its identity is kept in the run, so that a resumed one continues the same curves; W&B itself
    passes over steps that it has. Account, server and offline mode are set as W&B's manual says
    (`wandb login`, WANDB_MODE=offline).
    """

    name: ClassVar[str] = "wandb"
    package: ClassVar[str | None] = "wandb"
    install: ClassVar[str] = "wandb"

    @contextmanager
    def writing(self, run: Run, first: int) -> Iterator[Write]:
        import wandb

        mark = run.path / "wandb" / "identity.txt"
        if not mark.is_file():
            mark.parent.mkdir(exist_ok=True)
            mark.write_text(secrets.token_hex(4), encoding="utf-8")
        recipe, facts = run.read_config()
        with wandb.init(
            project=PROJECT,
            id=mark.read_text(encoding="utf-8"),
            name=run.path.name,
            dir=str(run.path),
            config={"run": facts, **to_table(recipe)},
            resume="allow",
        ) as place:
            yield lambda figures, step: place.log(dict(figures), step=step)
