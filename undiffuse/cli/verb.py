r"""What every verb is, and the options that all of them have.

A verb is a frozen dataclass whose fields are its options. It names itself and two examples, checks
what can be checked from the words alone, and opens the rooms it needs when it runs.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import arg

from undiffuse.errors import UndiffuseError

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16", "float16"]


class Verb(ABC):
    """One thing that the command line can do. Subclasses are frozen dataclasses."""

    name: ClassVar[str]
    examples: ClassVar[tuple[str, str]]

    @abstractmethod
    def run(self) -> int:
        """Do it, and return the exit code.

        Raises:
            UndiffuseError: a mistake in the options.
            RunFailed: the run or the machine failed.
        """


@dataclass(frozen=True)
class Machine:
    """Where and how to compute.

    Raises:
        UndiffuseError: a device or a number of threads that cannot be.
    """

    device: Annotated[str, arg(metavar="cpu|cuda|cuda:1", help="where to compute")] = "cpu"
    precision: Annotated[
        Precision | None,
        arg(
            metavar="float32|bfloat16|float16",
            help="in which numbers the network computes",
            help_behavior_hint="(default: float32; in training, the recipe's)",
        ),
    ] = None
    threads: Annotated[
        int | None,
        arg(metavar="N", help="threads on the CPU", help_behavior_hint="(default: one per core)"),
    ] = None
    debug: Annotated[
        bool, arg(help="show where an error arose", help_behavior_hint="(or UNDIFFUSE_DEBUG=1)")
    ] = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.device):
            raise UndiffuseError(f"there is no device '{self.device}'; use cpu, cuda or cuda:1")
        at_least("--threads", self.threads)

    def ready(self) -> torch.device:
        """The device, found to be there; torch is loaded and the number of threads set.

        Raises:
            UndiffuseError: this machine does not have the device.
        """
        import torch

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        device = torch.device(self.device)
        count = torch.cuda.device_count()
        if device.type == "cuda" and (device.index or 0) >= count:
            has = f"{count} CUDA devices" if count else "no CUDA device that torch can use"
            raise UndiffuseError(f"--device {self.device}: this machine has {has}; use another")
        return device

    def autocast(self) -> AbstractContextManager[Any]:
        """A context in which networks compute in `precision`."""
        if self.precision in {None, "float32"}:
            return nullcontext()
        import torch

        return torch.autocast(torch.device(self.device).type, getattr(torch, str(self.precision)))

    def words(self) -> list[str]:
        """These options as they would be typed."""
        given = {"--precision": self.precision, "--threads": self.threads}
        if self.device != "cpu":
            given = {"--device": self.device, **given}
        return [str(word) for pair in given.items() if pair[1] is not None for word in pair]


def at_least(flag: str, value: float | None, least: int = 1) -> None:
    """Refuse a value below `least`, by the name of its flag; None is fine."""
    if value is not None and not value >= least:
        raise UndiffuseError(f"{flag} must be at least {least}, not {value}")
