"""A source: where data come from, as a frozen set of options that can be opened.

Every source is one file of this folder and thereby in the catalogue. A built-in source is opened by
its name ("digits"); one with a `scheme` by a name after it ("hf:user/name"); the others say which
paths they accept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from undiffuse.catalogue import check
from undiffuse.data.dataset import Dataset


class Source(ABC):
    """The options of a data set, and how it is opened.

    `reads` says in words what a path must be ("a folder of images"); it is empty for a source
    that has no path. What is written behind `scheme` and a colon comes as the option `path`.
    """

    name: ClassVar[str]
    reads: ClassVar[str] = ""
    scheme: ClassVar[str] = ""

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


def check_images(source: Source, size: object = None, channels: object = None) -> None:
    """Refuse a `size` or a number of `channels` that images cannot have."""
    whole = type(size) is int and 1 <= size <= 8192
    check(size is None or whole, source, "size", "a whole number of pixels, 1 to 8192")
    check(channels in (None, 1, 3), source, "channels", "1 (grey) or 3 (colour)")
