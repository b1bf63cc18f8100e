"""A source: where data come from, as a frozen set of options that can be opened.

Every source is one file of this folder and thereby in the catalogue. A built-in source is opened by
its name ("digits"); the others say which paths they accept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from undiffuse.data.dataset import Dataset


class Source(ABC):
    """The options of a data set, and how it is opened.

    `reads` says in words what a path must be ("a folder of images"); it is empty for a built-in
    source, which has no path.
    """

    name: ClassVar[str]
    reads: ClassVar[str] = ""

    @classmethod
    def accepts(cls, path: Path) -> bool:
        """Whether an existing path is for this source to read."""
        return False

    @abstractmethod
    def open(self) -> Dataset:
        """Read the data.

        Raises:
            UndiffuseError: the data cannot be read; the text says what is wrong and where.
        """
