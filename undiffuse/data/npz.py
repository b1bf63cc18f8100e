"""Arrays in an `.npz` file, numpy's own archive, read without unpickling anything.

Three sets of names are understood:

    images [, labels, class_names]                             one set
    train_images [, train_labels, test_images, test_labels, class_names]
    vectors [, labels]                                         points [N, D]

Images are uint8 [N, H, W] or [N, H, W, C]; `size` scales their short side to so many pixels and
keeps the middle square, as for a folder. `images` of floats [N, D] are vectors too, which is
what `undiffuse sample` writes for them. Labels are integers 0 ... K-1, one for each sample.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from undiffuse.data.dataset import Dataset, InMemory
from undiffuse.data.decode import square
from undiffuse.data.source import Source, check_images
from undiffuse.errors import UndiffuseError

Arrays = dict[str, NDArray[Any]]
SAMPLES = ("train_images", "images", "vectors")
KNOWN = (*SAMPLES, "train_labels", "labels", "test_images", "test_labels", "class_names")


@dataclass(frozen=True)
class Npz(Source):
    """Images [N, H, W] or [N, H, W, C] (uint8) or vectors [N, D] (floats) in an .npz file."""

    name: ClassVar[str] = "npz"
    reads: ClassVar[str] = "an .npz file"

    path: str
    size: int | None = None

    def __post_init__(self) -> None:
        check_images(self, self.size)

    @classmethod
    def accepts(cls, path: Path) -> bool:
        return path.suffix.lower() == ".npz" and path.is_file()

    def open(self) -> Dataset:
        keys, arrays = self._load()
        present = [key for key in SAMPLES if key in arrays]
        if len(present) != 1:
            wanted = "'images', 'train_images' or 'vectors'"
            raise self._error(f"it must hold exactly one of {wanted}, but has {_listed(keys)}")
        key = present[0]
        prefix = "train_" if key == "train_images" else ""
        names = self._class_names(arrays, prefix)
        held_out = None
        if prefix and "test_images" in arrays:
            held_out = self._part(arrays, "test_images", "test_labels", names, None)
        return self._part(arrays, key, f"{prefix}labels", names, held_out)

    def _part(
        self, arrays: Arrays, key: str, labels: str, names: tuple[str, ...], held: Dataset | None
    ) -> InMemory:
        values = self._samples(arrays[key], key)
        return InMemory(
            values,
            source=self.path,
            labels=self._labels(arrays[labels], labels, len(values)) if labels in arrays else None,
            class_names=names if labels in arrays else (),
            held_out=held,
        )

    def _load(self) -> tuple[list[str], Arrays]:
        """The names of all arrays, and the arrays that are of use here."""
        if not zipfile.is_zipfile(self.path):
            raise self._error("it is damaged or not an .npz file (a zip archive of arrays)")
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                keys = list(archive.files)
                return keys, {key: np.asarray(archive[key]) for key in keys if key in KNOWN}
        # A damaged archive raises almost anything: BadZipFile, zlib.error, EOFError, ValueError,
        # struct.error, MemoryError ... all mean the same here.
        except Exception as error:
            text = str(error).partition("\n")[0]
            if "allow_pickle" in text:
                raise self._error(
                    "it holds Python objects, which are not read for safety; save plain arrays, "
                    "and class names as numpy.array([...], dtype=str)"
                ) from None
            raise self._error(f"it is damaged ({text})") from None

    def _samples(self, array: NDArray[Any], key: str) -> Tensor:
        shown = f"'{key}' is {array.dtype} {list(array.shape)}"
        if array.size == 0:
            raise self._error(f"{shown}, so it holds no samples")
        if key != "train_images" and array.ndim == 2 and array.dtype.kind == "f":
            if self.size is not None:
                raise self._error(f"{shown}, vectors, which cannot be scaled to a size")
            with np.errstate(over="ignore"):
                vectors = np.ascontiguousarray(array, dtype=np.float32)
            if not np.isfinite(vectors).all():
                raise self._error(f"'{key}' has numbers that are not finite; remove those rows")
            return torch.from_numpy(vectors)
        if key == "vectors":
            raise self._error(f"{shown}, but vectors must be floats [N, D]")
        if array.ndim not in (3, 4):
            raise self._error(f"{shown}, but images must be uint8 [N, H, W] or [N, H, W, C]")
        if array.dtype != np.uint8:
            raise self._error(
                f"{shown}, but images must be uint8, 0 to 255; scale them and convert them "
                "with .astype('uint8')"
            )
        if array.ndim == 3:
            array = array[..., None]  # [N, H, W] -> [N, H, W, 1]
        if array.shape[1] <= 4 < array.shape[3]:
            raise self._error(
                f"{shown} has its channels first; turn it with .transpose(0, 2, 3, 1)"
            )
        return torch.from_numpy(np.ascontiguousarray(self._scaled(array)))

    def _scaled(self, array: NDArray[Any]) -> NDArray[Any]:
        if self.size is None or array.shape[1:3] == (self.size, self.size):
            return array
        planes = np.moveaxis(array, -1, 1).reshape(-1, *array.shape[1:3])  # [N C, H, W]
        scaled = np.stack([np.asarray(square(Image.fromarray(p), self.size)) for p in planes])
        return np.moveaxis(scaled.reshape(len(array), -1, self.size, self.size), 1, -1)

    def _class_names(self, arrays: Arrays, prefix: str) -> tuple[str, ...]:
        """The names written in the file, or "0", "1", ... for the labels that occur."""
        labels = [
            self._integers(arrays[key], key)
            for key in (f"{prefix}labels", "test_labels" if prefix else "")
            if key in arrays
        ]
        if not labels:
            return ()
        found = np.unique(np.concatenate(labels))
        if "class_names" in arrays:
            names = arrays["class_names"]
            if names.ndim != 1 or names.dtype.kind != "U" or not names.size:
                raise self._error("'class_names' must be a list of texts, numpy.array([...], str)")
            if found[0] < 0 or found[-1] >= len(names):
                raise self._error(
                    f"labels go from {found[0]} to {found[-1]}, but the {len(names)} 'class_names' "
                    f"allow 0 to {len(names) - 1}"
                )
            return tuple(str(name) for name in names)
        if found[0] != 0 or found[-1] != len(found) - 1:
            some = ", ".join(str(value) for value in found[:6]) + (
                ", ..." if found[6:].size else ""
            )
            raise self._error(
                f"labels must be 0 to K-1 with none left out, not {some}; renumber them or add "
                "'class_names' for all of them"
            )
        return tuple(str(value) for value in found)

    def _labels(self, array: NDArray[Any], key: str, count: int) -> Tensor:
        if len(array) != count:
            raise self._error(f"'{key}' has {len(array)} labels for {count} samples")
        return torch.from_numpy(array.astype(np.int64))

    def _integers(self, array: NDArray[Any], key: str) -> NDArray[Any]:
        if array.ndim != 1 or array.dtype.kind not in "iu" or not array.size:
            raise self._error(
                f"'{key}' must hold one integer a sample, not {array.dtype} {list(array.shape)}"
            )
        return array

    def _error(self, what: str) -> UndiffuseError:
        return UndiffuseError(f"cannot use '{self.path}': {what}")


def _listed(keys: list[str]) -> str:
    return ", ".join(f"'{key}'" for key in keys) or "no arrays"
