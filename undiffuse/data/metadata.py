"""`metadata.csv` or `metadata.jsonl` beside images, as in Hugging Face's imagefolder.

One row a file: `file_name` is its path inside the folder, `label` its class as a text or a number.
Other columns are left alone. Without `label` the images are unlabelled.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, NamedTuple

from undiffuse.data.decode import shown
from undiffuse.errors import UndiffuseError

FILES = ("metadata.csv", "metadata.jsonl")


class Row(NamedTuple):
    """A listed file and the name of its class, or None."""

    file_name: str
    label: str | None


def metadata_file(folder: str) -> str | None:
    """The path of the folder's metadata, if it has any.

    Raises:
        UndiffuseError: it has both kinds.
    """
    found = [path for name in FILES if os.path.isfile(path := os.path.join(folder, name))]
    if len(found) > 1:
        raise UndiffuseError(
            f"'{shown(folder)}' holds both {' and '.join(FILES)}; remove one of them"
        )
    return found[0] if found else None


def read_metadata(path: str) -> list[Row]:
    """The rows of a metadata file, in their order.

    Raises:
        UndiffuseError: it cannot be read; the text names the line.
    """
    read = _csv_rows if path.endswith(".csv") else _json_rows
    rows: list[Row] = []
    seen: set[str] = set()
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            for line, record in read(file):
                row = _row(record, f"{path}, line {line}")
                if row.file_name in seen:
                    raise UndiffuseError(f"{path}, line {line}: '{row.file_name}' comes twice")
                seen.add(row.file_name)
                rows.append(row)
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        form = "CSV with a header line" if read is _csv_rows else "one JSON object a line"
        raise UndiffuseError(
            f"cannot read '{shown(path)}' ({error}); it must be UTF-8 text, {form}"
        ) from None
    if not rows:
        raise UndiffuseError(f"'{shown(path)}' lists no files")
    labelled = sum(row.label is not None for row in rows)
    if 0 < labelled < len(rows):
        first = next(row.file_name for row in rows if row.label is None)
        raise UndiffuseError(f"'{shown(path)}' labels some files but not '{shown(first)}'")
    return rows


def _csv_rows(file: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(file, strict=True)
    for record in reader:
        yield reader.line_num, record


def _json_rows(file: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(file, start=1):
        if text.strip():
            record = json.loads(text)
            if not isinstance(record, dict):
                raise ValueError(f"line {line} is not a JSON object")
            yield line, record


def _row(record: dict[str, Any], where: str) -> Row:
    name, label = record.get("file_name"), record.get("label")
    if not isinstance(name, str) or not name:
        raise UndiffuseError(f"{where}: 'file_name' is missing")
    inside = PurePath(os.path.normpath(name))
    if inside.is_absolute() or ".." in inside.parts or "\0" in name:
        raise UndiffuseError(f"{where}: '{shown(name)}' is not a path inside the folder")
    if isinstance(label, dict | list):
        raise UndiffuseError(f"{where}: 'label' must be a text or a number, not {label}")
    return Row(str(inside), None if label in (None, "") else str(label))
