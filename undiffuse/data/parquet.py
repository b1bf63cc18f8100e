"""A parquet file: a table, read whole into memory. What its columns mean is told in `table`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from undiffuse.data.dataset import Dataset
from undiffuse.data.source import Source, check_images
from undiffuse.data.table import Wanted, table_data
from undiffuse.errors import UndiffuseError


@dataclass(frozen=True)
class Parquet(Source):
    """Encoded images or numbers, and labels, in a parquet file.

    `image` and `label` name columns; left out, they are found. `size` and `channels` are as for a
    folder of images.
    """

    name: ClassVar[str] = "parquet"
    reads: ClassVar[str] = "a parquet file"

    path: str
    image: str | None = None
    label: str | None = None
    size: int | None = None
    channels: int | None = None

    def __post_init__(self) -> None:
        check_images(self, self.size, self.channels)

    @classmethod
    def accepts(cls, path: Path) -> bool:
        return path.suffix.lower() in (".parquet", ".pq") and path.is_file()

    def open(self) -> Dataset:
        try:
            import pyarrow.parquet as parquet
        except ImportError:
            raise UndiffuseError(
                f"reading '{self.path}' needs pyarrow; install it with pip install"
                " undiffuse[parquet]"
            ) from None
        try:
            # The file alone, not the columns that folders called "key=value" above it would add.
            table = parquet.ParquetFile(self.path).read()
        except Exception as error:  # a damaged file raises ArrowInvalid, OSError, MemoryError ...
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise UndiffuseError(
                f"cannot read '{self.path}' as parquet ({reason}); it is damaged or of another kind"
            ) from None
        wanted = Wanted(self.image, self.label, self.size, self.channels)
        return table_data(table, self.path, wanted)
