r"""How a transformer is told where its tokens are, in one, two or three dimensions.

Attention sees a set; without positions a picture would be a bag of patches. Three ways, all of them
for grids of any size:

    rotary    each pair of channels of q and k is turned by an angle that grows with the position
              along one axis, so q k^T depends on differences of positions alone
              (Su et al. 2021, arXiv 2104.09864; axial as in Heo et al. 2024, arXiv 2403.13298)
    sincos    sines and cosines of the position are added to the tokens (Vaswani et al. 2017,
              arXiv 1706.03762; per axis as in Peebles and Xie 2023, arXiv 2212.09748)
    learned   a table of 32 places along each axis, from the first position to the last, is added;
              places between are interpolated, so a larger grid is a finer one of the same picture

Periods are log-spaced from 2 pi to 2 pi 10000 for sequences, to 2 pi 100 for pictures: with `dims`
axes their product is the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Rotation = tuple[Tensor, Tensor]  # cosines and signed sines, [N, d]
PLACES = 32


def angles(size: Sequence[int], pairs: int, like: Tensor) -> Tensor:
    """position / period, [N, pairs] for the N positions of a grid; float32.

    The pairs are dealt out to the axes in equal parts; what is left over has angle 0.
    """
    dims, each = len(size), pairs // len(size)
    places = torch.meshgrid(*(torch.arange(n, device=like.device) for n in size), indexing="ij")
    exponent = torch.arange(each, device=like.device) / max(each, 1) / dims
    frequency = 10000.0**-exponent  # [each]
    columns = [place.reshape(-1, 1) * frequency for place in places]  # [N, each]
    return F.pad(torch.cat(columns, dim=1), (0, pairs - dims * each))


def rotation(angle: Tensor) -> Rotation:
    """Angles [N, d / 2] as what `rotated` multiplies with: (cos, cos) and (-sin, sin), [N, d]."""
    cos, sin = angle.cos(), angle.sin()
    return torch.cat((cos, cos), dim=1), torch.cat((-sin, sin), dim=1)


def rotated(x: Tensor, turn: Rotation) -> Tensor:
    """x [B, N, ..., d] with channels i and i + d/2 turned by the angle of position and pair."""
    shape = (x.shape[1], *[1] * (x.ndim - 3), x.shape[-1])
    cos, sin = (part.reshape(shape).to(x.dtype) for part in turn)
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


class Positions(nn.Module, ABC):
    """One way to tell positions: added to the tokens, or as a rotation of q and k."""

    @abstractmethod
    def forward(self, h: Tensor, size: Sequence[int]) -> Tensor:
        """The tokens h [B, N, C] of a grid of `size` with what is added to them."""

    def rotation(self, h: Tensor, size: Sequence[int], channels: int) -> Rotation | None:
        """By how much q and k of so many channels are turned, if they are."""
        return None


class Rotary(Positions):
    """Relative positions by rotation."""

    def forward(self, h: Tensor, size: Sequence[int]) -> Tensor:
        return h

    def rotation(self, h: Tensor, size: Sequence[int], channels: int) -> Rotation:
        return rotation(angles(size, channels // 2, h))


class SinCos(Positions):
    """Fixed waves of the position, added."""

    def forward(self, h: Tensor, size: Sequence[int]) -> Tensor:
        angle = angles(size, (h.shape[2] + 1) // 2, h)
        return h + torch.cat((angle.sin(), angle.cos()), dim=1)[:, : h.shape[2]].to(h.dtype)


class LearnedPlaces(Positions):
    """A learned table for each axis, interpolated and added."""

    def __init__(self, dims: int, width: int) -> None:
        super().__init__()
        self.tables = nn.ParameterList(torch.empty(1, width, PLACES) for _ in range(dims))
        for table in self.tables:
            nn.init.trunc_normal_(table, std=0.02)

    def forward(self, h: Tensor, size: Sequence[int]) -> Tensor:
        added = h.new_zeros(1, h.shape[2], *[1] * len(size))
        for axis, (table, n) in enumerate(zip(self.tables, size, strict=True)):
            row = F.interpolate(table, n, mode="linear", align_corners=True)  # [1, C, n]
            shape = [n if k == axis else 1 for k in range(len(size))]
            added = added + row.reshape(1, -1, *shape)
        return h + added.flatten(2).transpose(1, 2)
