r"""What every verb is, and the options that all of them have.

A verb is a frozen dataclass whose fields are its options. It names itself and two examples, checks
what can be checked from the words alone, and opens the rooms it needs when it runs.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Optional

from tyro.conf import arg

from undiffuse.errors import UndiffuseError, one_line, shown

if TYPE_CHECKING:
    import torch

PRECISIONS = ("float32", "bfloat16", "float16")

# tyro knows these at once, and checks `str | None` with a library that takes 0.1 s to import.
Text = Optional[str]  # noqa: UP045
Whole = Optional[int]  # noqa: UP045
Number = Optional[float]  # noqa: UP045

MOST = 10**9  # of anything that is counted


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

    precisions: ClassVar[tuple[str, ...]] = PRECISIONS

    device: Annotated[str, arg(metavar="cpu|cuda|cuda:1", help="where to compute")] = "cpu"
    precision: Annotated[
        Text,
        arg(
            metavar="float32|bfloat16|float16",
            help="in which numbers the network computes",
            help_behavior_hint="(default: float32)",
        ),
    ] = None
    threads: Annotated[
        Whole,
        arg(metavar="N", help="threads on the CPU", help_behavior_hint="(default: as torch does)"),
    ] = None
    debug: Annotated[
        bool, arg(help="show where an error arose", help_behavior_hint="(or UNDIFFUSE_DEBUG=1)")
    ] = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"cpu|cuda(:[0-9]{1,2})?", self.device):
            named = one_line(self.device)
            raise UndiffuseError(f"--device: there is no '{named}'; use cpu, cuda or cuda:1")
        if self.precision is not None and self.precision not in self.precisions:
            known = ", ".join(self.precisions)
            raise UndiffuseError(f"--precision must be one of {known}, not {shown(self.precision)}")
        check_range("--threads", self.threads, most=1024)

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
        device = None if self.device == "cpu" else self.device
        return flags(device=device, precision=self.precision, threads=self.threads)


@dataclass(frozen=True)
class TrainingMachine(Machine):
    """Where and how to train, where the precision may also be left to be measured."""

    precisions: ClassVar[tuple[str, ...]] = (*PRECISIONS, "auto")

    precision: Annotated[
        Text,
        arg(
            metavar="float32|bfloat16|float16|auto",
            help="in which numbers the network computes; auto: bfloat16 if that is found quicker",
            help_behavior_hint="(default: the recipe's)",
        ),
    ] = None


def flags(**options: object) -> list[str]:
    """Options as they would be typed; one that is None is left out.

    >>> flags(steps=100, batch_size=None, seed=1)
    ['--steps', '100', '--seed', '1']
    """
    given = {name: value for name, value in options.items() if value is not None}
    return [
        word
        for name, value in given.items()
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]


def check_range(flag: str, value: float | None, least: int = 1, most: int = MOST) -> None:
    """Refuse a value outside of [least, most], by the name of its flag; None is fine."""
    if value is not None and not least <= value <= most:
        raise UndiffuseError(f"{flag} must be from {least} to {most}, not {shown(value)}")


def check_seed(seed: int) -> None:
    """Refuse a seed that TOML cannot hold, or that in other programs means "any"."""
    if not 0 <= seed < 2**63:
        raise UndiffuseError(f"--seed must be from 0 to 2^63 - 1, not {shown(seed)}")
