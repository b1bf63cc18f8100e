"""The handwritten digits that come with scikit-learn: 1,797 grey images of 8x8 pixels.

They are the test part of the UCI optical digits (E. Alpaydin and C. Kaynak, 1998): bitmaps of
32x32 pixels in which every 4x4 block was counted, so a pixel is 0 ... 16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from undiffuse.data.dataset import Dataset, InMemory
from undiffuse.data.source import Source


@dataclass(frozen=True)
class Digits(Source):
    """scikit-learn's digits, 8x8 grey images of ten classes; every tenth of a class is held out."""

    name: ClassVar[str] = "digits"

    def open(self) -> Dataset:
        from sklearn.datasets import load_digits  # slow to import, and used only here

        bunch = load_digits()
        images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]  # [N, 8, 8, 1]
        labels = bunch.target.astype(np.int64)
        held = np.zeros(len(labels), dtype=bool)
        for digit in range(10):
            held[np.flatnonzero(labels == digit)[9::10]] = True
        names = tuple(str(digit) for digit in range(10))

        def part(chosen: NDArray[np.bool_], held_out: Dataset | None) -> InMemory:
            return InMemory(
                torch.from_numpy(images[chosen]),
                source=self.name,
                labels=torch.from_numpy(labels[chosen]),
                class_names=names,
                held_out=held_out,
            )

        return part(~held, part(held, None))
