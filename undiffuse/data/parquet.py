"""A parquet file: a table, read whole into memory. What its columns mean is told in `columns`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from undiffuse.data.columns import Wanted, columns
from undiffuse.data.dataset import Dataset
from undiffuse.data.source import Source, check_images
from undiffuse.data.table import table_data
from undiffuse.errors import UndiffuseError, one_line


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
                f"reading '{one_line(self.path)}' needs pyarrow; install it with pip install"
                " undiffuse[parquet]"
            ) from None
        wanted = Wanted(self.image, self.label, self.size, self.channels)
        try:
            with open(self.path, "rb") as opened, parquet.ParquetFile(opened) as file:
                chosen = columns(file.schema_arrow, wanted, self.path)
                table = file.read(chosen.names).select(chosen.names)
        except UndiffuseError:
            raise
        except MemoryError:
            raise UndiffuseError(
                f"'{one_line(self.path)}' does not fit in memory; 'hf:' before the path of its"
                " folder reads it from the disk"
            ) from None
        except Exception as error:  # a damaged file raises ArrowInvalid, OSError, TypeError ...
            reason = one_line(str(error).partition("\n")[0]) or type(error).__name__
            raise UndiffuseError(
                f"cannot read '{one_line(self.path)}' as parquet ({reason}); it is damaged or of"
                " another kind"
            ) from None
        return table_data(table, chosen, wanted, self.path)
