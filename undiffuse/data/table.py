"""A table of arrow columns as a data set: what parquet files and the data sets of a hub hold.

Which columns are read is told in `columns`. Where the table's own description names the classes,
labels are numbers of these names, and a column of -1 alone means that nothing is labelled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from undiffuse.data.beside import Beside
from undiffuse.data.classes import numbered
from undiffuse.data.columns import VECTORS, Columns, Wanted, is_whole
from undiffuse.data.dataset import Dataset, InMemory
from undiffuse.data.decode import Undecodable, shown
from undiffuse.data.images import Content, image_files
from undiffuse.errors import UndiffuseError, one_line

if TYPE_CHECKING:
    import pyarrow as pa

ROW = "row "  # what an image is called: row 0, row 1, ...


def table_data(
    table: pa.Table,
    chosen: Columns,
    wanted: Wanted,
    source: str,
    part: str = "",
    like: Dataset | None = None,
) -> Dataset:
    """The rows of a table as a data set, with the classes and channels of `like` if it is given.

    `source` is what the data set calls itself, and `part` the part of it that the table is.

    Raises:
        UndiffuseError: what is in the columns cannot be used.
    """
    where = f"{source}, {part}" if part else source
    if len(table) == 0:
        raise UndiffuseError(f"'{one_line(where)}' has no rows, so there is nothing to read")
    try:
        for name in {*chosen.numbers, chosen.label} - {None}:
            table.column(name).validate(full=True)  # texts are UTF-8, lists lie in their values
        classes, class_names = _classes(table, chosen.label, where)
        if like is not None:
            classes, class_names = (classes if like.classes else []), like.class_names
        if chosen.image is None:
            vectors = torch.from_numpy(_vectors(table, chosen, wanted, where))
            labels, class_names = numbered(classes, class_names, f"'{one_line(where)}'")
            return InMemory(vectors, source=source, labels=labels, class_names=class_names)
    except MemoryError:
        raise UndiffuseError(f"'{one_line(where)}' does not fit in memory") from None
    except (ValueError, TypeError) as error:  # such as ArrowInvalid, UnicodeDecodeError
        raise UndiffuseError(
            f"'{one_line(where)}' is damaged: {one_line(str(error).partition(chr(10))[0])}"
        ) from None
    return image_files(
        where,
        [f"{ROW}{number}" for number in range(len(table))],
        classes,
        source=source,
        size=wanted.size,
        channels=wanted.channels if like is None else like.shape[0],
        class_names=class_names,
        content=_content(table.column(chosen.image), Beside(wanted.folders)),
    )


def _content(encoded: pa.ChunkedArray, beside: Beside) -> Content:
    """What gives the bytes of an image by its name; the column may lie on the disk."""

    def content(name: str) -> bytes:
        cell = encoded[int(name.removeprefix(ROW))]
        data = _part(cell, "bytes") if isinstance(cell, Mapping) else cell.as_py()
        if data is not None:
            return bytes(data)
        path = _part(cell, "path") if isinstance(cell, Mapping) else None
        if not isinstance(path, str):
            raise Undecodable(name, "the table does not hold its bytes")
        return beside.read(path)

    return content


def _part(cell: Mapping[str, Any], key: str) -> Any:
    """One part of a pair; None where it is missing, or a text that is not UTF-8."""
    try:
        found = cell.get(key)
        return None if found is None else found.as_py()
    except ValueError:
        return None


def _classes(
    table: pa.Table, column: str | None, where: str
) -> tuple[list[str], tuple[str, ...] | None]:
    """The class of every row, or none at all; and the order of the classes where it is written."""
    if column is None:
        return [], None
    values = table.column(column).to_pylist()
    names = _class_names(table, column)
    empty = [value is None or (names is not None and value == -1) for value in values]
    if all(empty):
        return [], None
    if any(empty):
        raise UndiffuseError(
            f"'{one_line(where)}' labels some rows but not row {empty.index(True)}, in the column"
            f" '{one_line(column)}'; label all of them, remove those rows, or learn without labels"
            " with (label=) behind the data's name"
        )
    if names is None:
        return [shown(str(value)) for value in values], None
    outside = next((value for value in values if not 0 <= value < len(names)), None)
    if outside is not None:
        raise UndiffuseError(
            f"'{one_line(where)}' has the label {outside}, but names the classes 0 to"
            f" {len(names) - 1}"
        )
    return [names[value] for value in values], names


def _class_names(table: pa.Table, column: str) -> tuple[str, ...] | None:
    """The names that the library `datasets` writes into a table's description."""
    try:
        described = json.loads((table.schema.metadata or {})[b"huggingface"])
        names = described["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    if not is_whole(table.schema.field(column).type) or not isinstance(names, list):
        return None
    texts = tuple(shown(str(name)) for name in names)
    return texts if texts and len(set(texts)) == len(texts) else None


def _vectors(table: pa.Table, chosen: Columns, wanted: Wanted, where: str) -> NDArray[np.float32]:
    """The numbers of every row, float32 [N, D]; NaN where there is none."""
    for option in ("size", "channels"):
        if getattr(wanted, option) is not None:
            raise UndiffuseError(f"'{one_line(where)}' holds no images, so it has no {option}")
    with np.errstate(over="ignore"):
        if chosen.numbers != (VECTORS,):
            rows = [_floats(table.column(name)) for name in chosen.numbers]
            return np.ascontiguousarray(np.stack(rows, 1))  # [N, D]
        import pyarrow.compute as compute

        lists = table.column(VECTORS)
        lengths = compute.list_value_length(lists).unique().to_pylist()
        if len(lengths) != 1 or not lengths[0]:
            raise UndiffuseError(
                f"the column '{VECTORS}' of '{one_line(where)}' must hold equally many numbers in"
                " every row"
            )
        flat = np.concatenate([_floats(chunk.flatten()) for chunk in lists.chunks])
        return flat.reshape(-1, lengths[0])  # [N D] -> [N, D]


def _floats(values: Any) -> NDArray[np.float32]:
    """An array or a column of arrow as float32."""
    found: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return found.astype(np.float32)
