"""A data set of the Hugging Face hub, by its name: `hf:user/name`.

The library `datasets` downloads it once, keeps it on the disk and maps it into memory from there.
The part called `train` is learned from; one called `test` or `validation` is held out. What the
columns mean is told in `table`. No program that comes with a data set is run.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from undiffuse.data.dataset import Dataset
from undiffuse.data.source import Source, check_images
from undiffuse.data.table import Wanted, table_data
from undiffuse.errors import UndiffuseError, one_line

HELD_OUT = ("test", "validation", "valid", "val")


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

    def open(self) -> Dataset:
        parts, folders = self._parts()
        wanted = Wanted(self.image, self.label, self.size, self.channels, folders)
        source = f"{self.scheme}:{self.path}"
        first = "train" if "train" in parts else next(iter(parts))
        train = table_data(parts[first], source, wanted, first)
        aside = next((part for part in HELD_OUT if part in parts and part != first), None)
        if aside is None:
            return train
        return replace(train, held_out=table_data(parts[aside], source, wanted, aside, train))

    def _parts(self) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The arrow table of each part, and the folders that hold what was downloaded."""
        try:
            import datasets
            from huggingface_hub.constants import HF_HUB_CACHE
        except ImportError:
            raise UndiffuseError(
                f"reading '{self.scheme}:{one_line(self.path)}' needs the library datasets; install"
                " it with pip install undiffuse[hub]"
            ) from None
        try:
            found = datasets.load_dataset(self.path, self.config, revision=self.revision)
            parts = {str(part): rows.with_format("arrow")[:] for part, rows in found.items()}
        # No network, no such name, a wrong one, damaged files ...: nearly any type of exception.
        except Exception as error:
            reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
            raise UndiffuseError(
                f"cannot load '{self.scheme}:{one_line(self.path)}' ({reason}); check the name at"
                " huggingface.co/datasets, and the network"
            ) from None
        own = (self.path,) if os.path.isdir(self.path) else ()
        return parts, (str(datasets.config.HF_DATASETS_CACHE), str(HF_HUB_CACHE), *own)
