r"""What a logger is: an opener of a place to which the figures of each step are written.

`metrics.jsonl` belongs to the run and is always written. A logger shows the same figures elsewhere,
and the run never depends on it: one that fails is told once and left out (see `logged`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

from undiffuse.errors import UndiffuseError

if TYPE_CHECKING:
    from undiffuse.training.run import Run

Write = Callable[[Mapping[str, float], int], None]  # the figures of a step, and its number


class Logger(ABC):
    """A place for figures. Subclasses are final; one with a `name` is known to `--log`.

    `package` is the library that it needs, `install` what pip is to be asked for.
    """

    package: ClassVar[str | None] = None
    install: ClassVar[str] = ""

    @abstractmethod
    def writing(self, run: Run, first: int) -> AbstractContextManager[Write]:
        """A context in which figures can be written, from step number `first` on.

        Steps from `first` on may have been written before, by a process that was killed after its
        last checkpoint; what is kept of them is not to stand twice.
        """

    def check(self) -> None:
        """Refuse, before anything is trained, a logger whose library is missing.

        Raises:
            UndiffuseError: saying what to install.
        """
        if self.package is not None and find_spec(self.package) is None:
            raise UndiffuseError(
                f"{self.package} is not installed, and --log {self.package} needs it; install it"
                f' with: pip install "{self.install}"'
            )
