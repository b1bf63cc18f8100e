"""A data set of the Hugging Face hub, by its name: `hf:user/name`.

The library `datasets` downloads it once, keeps it on the disk and maps it into memory from there.
The part called `train` is learned from; one called `test` or `validation` is held out. What the
columns mean is told in `columns`. No program that comes with a data set is run.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from undiffuse.data.columns import Wanted, columns
from undiffuse.data.dataset import Dataset
from undiffuse.data.source import Source, check_images
from undiffuse.data.table import table_data
from undiffuse.errors import UndiffuseError, escaped, one_line

HELD_OUT = ("test", "validation", "valid", "val")
ADDRESSES = ("//datasets/", "https://huggingface.co/datasets/")  # as they are copied from a browser
LOGGERS = ("datasets", "huggingface_hub")
LONGEST = 240  # letters of what the library says
LEAST = 5  # the version of `datasets` that runs and unpickles nothing


@dataclass(frozen=True)
class Hub(Source):
    """A data set of the Hugging Face hub, or a folder that has the same layout.

    `config` chooses among the variants of a data set and `revision` among its versions; `image` and
    `label` name columns; `size` and `channels` are as for a folder of images.
    """

    name: ClassVar[str] = "hub"
    scheme: ClassVar[str] = "hf"

    path: str
    config: str | None = None
    revision: str | None = None
    image: str | None = None
    label: str | None = None
    size: int | None = None
    channels: int | None = None

    def __post_init__(self) -> None:
        check_images(self, self.size, self.channels)

    @property
    def source(self) -> str:
        """As it is written, without its options."""
        return f"{self.scheme}:{self.path}"

    @property
    def place(self) -> str:
        """The name on the hub, or the folder."""
        address = next((a for a in ADDRESSES if self.path.startswith(a)), "")
        return self.path.removeprefix(address).rstrip("/")

    def open(self) -> Dataset:
        parts, folders = self._parts()
        wanted = Wanted(self.image, self.label, self.size, self.channels, folders)
        first = "train" if "train" in parts else next(iter(parts))
        train = self._read(parts[first], first, wanted)
        aside = next((part for part in HELD_OUT if part in parts and part != first), None)
        if aside is None:
            return train
        return replace(train, held_out=self._read(parts[aside], aside, wanted, train))

    def _read(self, rows: Any, part: str, wanted: Wanted, like: Dataset | None = None) -> Dataset:
        table = rows.with_format("arrow")[:]
        chosen = columns(table.schema, wanted, f"{self.source}, {part}")
        return table_data(table, chosen, wanted, self.source, part, like)

    def _parts(self) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The parts as the library has them, and the folders that hold what was downloaded."""
        try:
            import datasets
            from huggingface_hub.constants import HF_HUB_CACHE
        except ImportError:
            raise UndiffuseError(
                f"reading '{one_line(self.source)}' needs the library datasets; install it with"
                " pip install undiffuse[hub]"
            ) from None
        if int(datasets.__version__.partition(".")[0]) < LEAST:
            raise UndiffuseError(
                f"datasets {datasets.__version__} may run programs that come with a data set;"
                f" update it, with pip install 'datasets>={LEAST}'"
            )
        local = os.path.isdir(self.place)
        if not local and _is_format(self.place):
            raise UndiffuseError(
                f"'{one_line(self.place)}' is the name of a file format, not of a data set; write"
                " hf:user/name, or hf: and the path of a folder"
            )
        try:
            name = os.path.abspath(self.place) if local else self.place
            with _quiet():
                found = datasets.load_dataset(name, self.config, revision=self.revision)
        # No network, no such name, a wrong one, damaged files ...: nearly any type of exception.
        except Exception as error:
            reason = _reason(error, datasets.exceptions.DatasetGenerationError)
            hint = "" if local else "; check the name at huggingface.co/datasets, and the network"
            raise UndiffuseError(
                f"cannot load '{one_line(self.source)}' ({reason}){hint}"
            ) from None
        set_up = datasets.config
        downloads = (
            HF_HUB_CACHE,
            set_up.HF_DATASETS_CACHE,
            set_up.DOWNLOADED_DATASETS_PATH,
            set_up.EXTRACTED_DATASETS_PATH,
        )
        return found, (*map(str, downloads), *((self.place,) if local else ()))


def _is_format(name: str) -> bool:
    """Whether the library would take a name for one of its own readers, and read what is about."""
    return name.isidentifier() and bool(
        importlib.util.find_spec(f"datasets.packaged_modules.{name}")
    )


def _reason(error: BaseException, general: type[BaseException]) -> str:
    """What was wrong, on one line, behind what the library says in general."""
    while isinstance(error, general) and error.__cause__ is not None:
        error = error.__cause__
    text = escaped(" ".join(str(error).split()).rstrip(".")) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


@contextmanager
def _quiet() -> Iterator[None]:
    """Let the library say nothing of its own; what was wrong is told in one sentence."""
    levels = {logger: logging.getLogger(logger).level for logger in LOGGERS}
    try:
        for logger in LOGGERS:
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in levels.items():
            logging.getLogger(logger).setLevel(level)
