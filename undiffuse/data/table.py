"""A table of arrow columns as a data set: what parquet files and the data sets of a hub hold.

    images    a column of encoded images: bytes, or pairs of `bytes` and `path` as the library
              `datasets` writes them
    vectors   without such a column: a column `vectors` of lists of numbers, or all columns of
              floats, in their order
    labels    the column `label` or `labels`, of whole numbers or texts, if there is one

Where the table's own description names the classes, labels are numbers of these names, and a column
of -1 alone means that nothing is labelled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from undiffuse.data.classes import in_order, numbered
from undiffuse.data.dataset import Dataset, InMemory
from undiffuse.data.decode import Undecodable, shown
from undiffuse.data.images import image_files
from undiffuse.errors import UndiffuseError

if TYPE_CHECKING:
    import pyarrow as pa

LABELS = ("label", "labels")
IMAGES = ("image", "images", "img")
LISTED = 8  # columns that a message names
ROW = "row "  # what an image is called: row 0, row 1, ...


@dataclass(frozen=True)
class Wanted:
    """Which columns are read, where that is not to be found out, and how images are.

    An image without bytes is read from its `path` if that lies in one of the `folders`.
    """

    image: str | None = None
    label: str | None = None
    size: int | None = None
    channels: int | None = None
    folders: tuple[str, ...] = ()


def table_data(
    table: pa.Table, source: str, wanted: Wanted, part: str = "", like: Dataset | None = None
) -> Dataset:
    """The rows of a table as a data set, with the classes and channels of `like` if it is given.

    `source` is what the data set calls itself, and `part` the part of it that the table is.

    Raises:
        UndiffuseError: there is no such column, no column or more than one that could be meant, or
            what is in it cannot be used.
    """
    where = f"{source}, {part}" if part else source
    if len(table) == 0 or len(set(table.column_names)) < len(table.column_names):
        what = "two columns of one name" if len(table) else "no rows"
        raise UndiffuseError(f"'{shown(where)}' has {what}, so there is nothing to read")
    image = _image_column(table, wanted, where)
    label = _label_column(table, wanted, where)
    classes, class_names = _classes(table, label, where) if label else ([], None)
    if like is not None:
        class_names = like.class_names
    if image is None:
        chosen = class_names or in_order(classes)
        return InMemory(
            torch.from_numpy(_vectors(table, wanted, where)),
            source=source,
            labels=numbered(classes, chosen, f"'{shown(where)}'") if classes else None,
            class_names=chosen if classes else (),
        )
    encoded = table.column(image)  # in chunks, which may lie on the disk

    def content(name: str) -> bytes:
        found = encoded[int(name.removeprefix(ROW))].as_py()
        path = found.get("path") if isinstance(found, dict) else None
        data = found["bytes"] if isinstance(found, dict) else found
        if data is None and path is not None and _inside(path, wanted.folders):
            data = Path(path).read_bytes()
        if data is None:
            raise Undecodable(name, "the table does not hold its bytes")
        return bytes(data)

    return image_files(
        where,
        [f"{ROW}{number}" for number in range(len(table))],
        classes,
        source=source,
        size=wanted.size,
        channels=wanted.channels if like is None else like.shape[0],
        class_names=class_names,
        content=content,
    )


def _image_column(table: pa.Table, wanted: Wanted, where: str) -> str | None:
    usable = [field.name for field in table.schema if _use(field.type) == "image"]
    if wanted.image is not None:
        if wanted.image not in usable:
            raise _no_column(table, wanted.image, "image", where)
        return wanted.image
    named = [name for name in IMAGES if name in usable]
    if len(usable) > 1 and not named:
        raise UndiffuseError(
            f"'{shown(where)}' has {len(usable)} columns that may hold images, "
            f"{_listed(usable)}; say which, with (image=NAME) behind the data's name"
        )
    return next(iter(named or usable), None)


def _label_column(table: pa.Table, wanted: Wanted, where: str) -> str | None:
    usable = [field.name for field in table.schema if _use(field.type) in ("integer", "text")]
    if wanted.label is not None and wanted.label not in usable:
        raise _no_column(table, wanted.label, "label", where)
    return wanted.label or next((name for name in LABELS if name in usable), None)


def _classes(table: pa.Table, column: str, where: str) -> tuple[list[str], tuple[str, ...] | None]:
    """The class of every row, or none at all; and the order of the classes where it is written."""
    values = table.column(column).to_pylist()
    names = _class_names(table, column)
    empty = [value is None or (names is not None and value == -1) for value in values]
    if all(empty):
        return [], None
    if any(empty):
        raise UndiffuseError(
            f"'{shown(where)}' labels some rows but not row {empty.index(True)}, in the column "
            f"'{shown(column)}'; label all of them or remove those rows"
        )
    if names is None:
        return [shown(str(value)) for value in values], None
    outside = next((value for value in values if not 0 <= value < len(names)), None)
    if outside is not None:
        raise UndiffuseError(
            f"'{shown(where)}' has the label {outside}, but names the classes 0 to {len(names) - 1}"
        )
    return [names[value] for value in values], names


def _class_names(table: pa.Table, column: str) -> tuple[str, ...] | None:
    """The names that the library `datasets` writes into a table's description."""
    try:
        described = json.loads((table.schema.metadata or {})[b"huggingface"])
        names = described["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    if _use(table.schema.field(column).type) != "integer" or not isinstance(names, list):
        return None
    texts = tuple(shown(str(name)) for name in names)
    return texts if texts and len(set(texts)) == len(texts) else None


def _vectors(table: pa.Table, wanted: Wanted, where: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The numbers of every row, float32 [N, D]."""
    for option in ("size", "channels"):
        if getattr(wanted, option) is not None:
            raise UndiffuseError(
                f"'{shown(where)}' holds no images, so it has no {option}; it has the columns "
                f"{_listed(table.column_names)}"
            )
    if "vectors" in table.column_names:
        lists = table.column("vectors").to_pylist()
        try:
            found = np.array(lists, dtype=np.float32)
        except (TypeError, ValueError):
            found = np.empty(0, np.float32)
        if found.ndim != 2 or not found.size:
            raise UndiffuseError(
                f"the column 'vectors' of '{shown(where)}' must hold lists of numbers, equally many"
                " in every row"
            )
        return found
    columns = [field.name for field in table.schema if _use(field.type) == "float"]
    if not columns:
        raise UndiffuseError(
            f"'{shown(where)}' has neither images nor numbers to learn from, only the columns "
            f"{_listed(table.column_names)}; images are encoded, as PNG or JPEG, and numbers floats"
        )
    rows = [table.column(name).to_numpy().astype(np.float32) for name in columns]
    return np.ascontiguousarray(np.stack(rows, 1))  # [N, D]; a row without a number has NaN


def _no_column(table: pa.Table, name: str, what: str, where: str) -> UndiffuseError:
    if name in table.column_names:
        needs = {"image": "encoded images", "label": "whole numbers or texts"}[what]
        kind = table.schema.field(name).type
        return UndiffuseError(
            f"the column '{shown(name)}' of '{shown(where)}' holds {kind}, and a column for "
            f"{what}s must hold {needs}"
        )
    return UndiffuseError(
        f"'{shown(where)}' has no column '{shown(name)}', only {_listed(table.column_names)}"
    )


def _inside(path: str, folders: Sequence[str]) -> bool:
    real = os.path.realpath(path)
    return any(Path(real).is_relative_to(os.path.realpath(folder)) for folder in folders)


def _listed(names: Sequence[str]) -> str:
    listed = ", ".join(f"'{shown(name)}'" for name in names[:LISTED])
    return f"{listed}, ..." if names[LISTED:] else listed or "none"


def _use(kind: pa.DataType) -> str:
    """What a column of this type may be: "image", "integer", "text", "float", or none of them."""
    import pyarrow.types as kinds

    if kinds.is_struct(kind):
        kind = next((field.type for field in kind if field.name == "bytes"), kind)
    if kinds.is_dictionary(kind):
        kind = kind.value_type
    if kinds.is_binary(kind) or kinds.is_large_binary(kind):
        return "image"
    if kinds.is_integer(kind):
        return "integer"
    if kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_boolean(kind):
        return "text"
    return "float" if kinds.is_floating(kind) else ""
