"""TensorBoard: curves in a browser, `tensorboard --logdir runs`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from undiffuse.training.loggers.base import Logger, Write

if TYPE_CHECKING:
    from undiffuse.training.run import Run

FLUSHED = 10  # seconds between writes to the disk


@dataclass(frozen=True)
class TensorBoard(Logger):
    """Event files in the folder `tensorboard` of the run, one curve for each figure.

    A resumed run tells TensorBoard to forget the steps that it does again.
    """

    name: ClassVar[str] = "tensorboard"
    package: ClassVar[str | None] = "tensorboard"
    install: ClassVar[str] = "undiffuse[tensorboard]"

    @contextmanager
    def writing(self, run: Run, first: int) -> Iterator[Write]:
        from torch.utils.tensorboard import SummaryWriter

        folder = run.path / "tensorboard"
        with SummaryWriter(str(folder), purge_step=first, flush_secs=FLUSHED) as writer:

            def write(figures: Mapping[str, float], step: int) -> None:
                for name, value in figures.items():
                    writer.add_scalar(name, value, step)

            yield write
