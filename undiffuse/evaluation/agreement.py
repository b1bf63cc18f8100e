"""How far samples made in a quicker way are from those made in the plain one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from undiffuse import pictures


@dataclass(frozen=True)
class Agreement:
    """How well `count` samples agree.

    Attributes:
        count: how many were compared.
        largest: max |x - reference|, in the units of the data (images in [-1, 1]).
        pixels: the share of equal 8-bit pixels, in [0, 1]; None where samples are no images.
    """

    count: int
    largest: float
    pixels: float | None

    @classmethod
    def of(cls, x: Tensor, reference: Tensor) -> Agreement:
        """Samples [B, ...] compared with those of the same noise that were made in another way.

        >>> import torch
        >>> str(Agreement.of(torch.tensor([[0.25, 0.5]]), torch.tensor([[0.25, 0.0]])))
        'at most 0.5 apart'
        """
        largest = float((x.double() - reference.double()).abs().max())
        if x.ndim != 4:
            return cls(len(x), largest, None)
        same = pictures.to_bytes(x) == pictures.to_bytes(reference)
        return cls(len(x), largest, float(same.double().mean()))

    def __str__(self) -> str:
        told = f"at most {self.largest:.2g} apart"
        return told if self.pixels is None else f"{told}, {100 * self.pixels:.2f} % of pixels equal"
