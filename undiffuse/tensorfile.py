r"""A safetensors file, its header checked before anything is made from it.

    8 bytes    n, the length of the header, little-endian
    n bytes    strict JSON: name -> {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    the rest   the numbers, tensor after tensor, without gaps

A digest says that a file is as it was written, not that its writer meant well. A header may claim
a length of exabytes, a million tensors, or that two tensors share their bytes; all of that is told
here, after at most two megabytes were read.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from undiffuse import pickles, strict_json
from undiffuse.errors import UndiffuseError

LARGEST_HEADER = 2**21  # bytes: some 15,000 tensors
BYTES = {"BOOL": 1, "F16": 2, "BF16": 2, "F32": 4, "F64": 8} | {
    f"{kind}{bits}": bits // 8 for kind in "IU" for bits in (8, 16, 32, 64)
}
METADATA = "__metadata__"


def read(file: Path) -> dict[str, Tensor]:
    """The tensors of a file.

    Raises:
        UndiffuseError: the file is missing, holds something else, or its header contradicts itself.
    """
    check(file)
    try:
        loaded: dict[str, Tensor] = load_file(file)
    except (OSError, SafetensorError) as error:
        raise UndiffuseError(f"{file} holds no tensors: {error}") from error
    return loaded


def check(file: Path) -> None:
    """Refuse a file whose header is not what it should be.

    Raises:
        UndiffuseError: the file is missing, holds something else, or its header contradicts itself.
    """
    try:
        _check(file)
    except OSError as error:
        raise UndiffuseError(
            f"cannot read {file}: {(error.strerror or str(error)).lower()}"
        ) from error
    except ValueError as error:
        raise UndiffuseError(f"{file} holds no tensors: {pickles.told(file) or error}") from error


def _check(file: Path) -> None:
    if file.exists() and not file.is_file():  # a pipe would be waited for
        raise ValueError("it is not a regular file")
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            raise ValueError("it ends within its header")
        if length > LARGEST_HEADER:
            raise ValueError(f"its header of {length} bytes is too long ({LARGEST_HEADER} at most)")
        header = strict_json.parse(stream.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is not a table of tensors")
    header.pop(METADATA, None)
    spans = sorted(_span(name, entry) for name, entry in header.items())
    reached = 0
    for begin, end, name in spans:
        if begin != reached:
            raise ValueError(f"tensor '{name}' does not begin where the one before it ends")
        reached = end
    if reached != size - 8 - length:
        raise ValueError(f"its tensors fill {reached} of {size - 8 - length} bytes")


def _span(name: str, entry: Any) -> tuple[int, int, str]:
    """Where a tensor begins and ends, and its name."""
    if not re.fullmatch(r"[^\x00-\x1f\\]{1,1000}", name) or re.search(r"^/|(^|/)\.\.(/|$)", name):
        raise ValueError(f"{name[:60]!r} is no name of a tensor")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor '{name}' has no dtype, shape and data_offsets, or has more")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BYTES:
        raise ValueError(f"tensor '{name}' has the unknown dtype {str(dtype)[:20]!r}")
    if not _counts(shape) or not _counts(offsets) or len(offsets) != 2:
        raise ValueError(f"tensor '{name}' has a shape or offsets that are no whole numbers")
    if len(shape) > 16 or math.prod(max(n, 1) for n in shape) >= 2**48:
        raise ValueError(f"tensor '{name}' is of an impossible shape")
    begin, end = offsets
    if end - begin != BYTES[dtype] * math.prod(shape):
        raise ValueError(f"tensor '{name}' has {end - begin} bytes, which do not make its shape")
    return begin, end, name


def _counts(values: Any) -> bool:
    """Whether something is a list of whole numbers from 0 on."""
    return isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)
