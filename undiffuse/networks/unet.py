"""The U-Net: a network that sees a picture at several sizes at once.

An encoder halves the size from level to level, a decoder doubles it again, and every level of the
decoder also sees what the encoder had found at that size, so fine detail need not pass the narrow
middle. Noise level and class modulate each block (FiLM). With `patch` above 1 the network works on
blocks of patch^dims values as channels, which costs about patch^dims times less.

Any size goes in: it is padded to the next multiple of patch * 2^(levels - 1) by repeating the edge,
and the result is cropped. The same code serves sequences, images and volumes (`dims`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.catalogue import check
from undiffuse.networks.checks import check_dropout, check_flag, check_input, check_whole, whole
from undiffuse.networks.conditioning import Conditioning
from undiffuse.networks.layers import (
    FiLM,
    ResidualBlock,
    SelfAttention,
    convolution,
    crop,
    downsample,
    group_norm,
    pad_to_multiple,
    patchify,
    unpatchify,
    upsample,
    zeroed,
)


@dataclass(eq=False)
class UNet(nn.Module):
    """A U-Net told the noise level and the class: F(x, c_noise, label), of x's shape.

    Options: `channels` of the data; `dims`, its axes of positions; level k has `blocks` residual
    blocks of `width * multipliers[k]` channels on either side, followed by self-attention where
    `attention[k]`, in heads of at least `head_channels`, and the middle is as the last level;
    `patch` values along each axis become channels at the entrance; `classes` labels beside "no
    label" (0: no labels); `dropout` within the blocks while training; with `variance` a second half
    of the output, v, for the variance of the reverse step.

    The last layer starts at zero, so F = 0 before training, and v = 0.

    Raises:
        UndiffuseError: an option out of range; `multipliers` and `attention` of unequal length.

    Sources: Ronneberger et al., 2015, arXiv:1505.04597; Ho et al., 2020, arXiv:2006.11239;
    modulation and attention as in Dhariwal and Nichol, 2021, arXiv:2105.05233.

    >>> net = UNet(channels=1, width=48, blocks=1, patch=2, classes=10)
    >>> sum(p.numel() for p in net.parameters())
    1012180
    >>> net(torch.zeros(2, 1, 28, 28), torch.zeros(2), label=torch.tensor([7, -1])).shape
    torch.Size([2, 1, 28, 28])
    """

    name: ClassVar[str] = "unet"
    channels: int
    dims: int = 2
    width: int = 64
    multipliers: tuple[int, ...] = (1, 2)
    blocks: int = 2
    attention: tuple[bool, ...] = (False, True)
    head_channels: int = 32
    patch: int = 1
    classes: int = 0
    dropout: float = 0.0
    variance: bool = False

    def __post_init__(self) -> None:
        super().__init__()
        self._check_options()
        dims, embedding = self.dims, 4 * self.width
        widths = [self.width * multiplier for multiplier in self.multipliers]
        values = self.channels * self.patch**dims  # channels after patchify

        def stages(entrance: int, level: int) -> Stages:
            row = [entrance] + [widths[level]] * self.blocks
            heads = self.head_channels if self.attention[level] else None
            return Stages(dims, row, embedding, self.dropout, heads)

        levels = range(len(widths))
        self.conditioning = Conditioning(embedding, self.classes)
        self.stem = convolution(dims, values, widths[0])
        self.encoder = nn.ModuleList(stages(widths[max(k - 1, 0)], k) for k in levels)
        self.middle = stages(widths[-1], levels[-1])
        self.decoder = nn.ModuleList(stages(2 * widths[k], k) for k in levels)
        self.narrow = nn.ModuleList(convolution(dims, o, i, kernel=1) for i, o in pairwise(widths))
        self.head_norm = group_norm(widths[0])
        self.head_film = FiLM(embedding, widths[0])
        self.head = zeroed(convolution(dims, widths[0], values * (1 + self.variance)))

    def forward(self, x: Tensor, c_noise: Tensor, label: Tensor | None = None) -> Tensor:
        """F(x, c_noise, label).

        x is [B, channels, *S] of about unit variance, with any size S; c_noise is [B] = -log_snr/8;
        label is int64 [B], -1 for "no label", or None for no labels at all. F is of x's shape; with
        `variance` F and v come as [B, 2 channels, *S].

        Raises:
            UndiffuseError: x, c_noise or label of another shape, or labels that the network lacks.
        """
        check_input(x, c_noise, ("B", self.channels, *("L", "HW", "DHW")[self.dims - 1]))
        embedding = self.conditioning(c_noise, label)
        size, coarsest = x.shape[2:], self.patch * 2 ** (len(self.multipliers) - 1)
        h = self.stem(patchify(pad_to_multiple(x, coarsest), self.patch))
        seen: list[Tensor] = []  # by the encoder, one for each level
        for level, stages in enumerate(self.encoder):
            h = stages(downsample(h) if level else h, embedding)
            seen.append(h)
        h = self.middle(h, embedding)
        for level, stages in reversed(list(enumerate(self.decoder))):
            h = stages(torch.cat((h, seen[level]), dim=1), embedding)
            h = upsample(self.narrow[level - 1](h)) if level else h
        h = self.head(F.silu(self.head_film(self.head_norm(h), embedding)))
        return crop(unpatchify(h, self.patch), size)

    def _check_options(self) -> None:
        check(whole(self.dims, 1) and self.dims <= 3, self, "dims", "1, 2 or 3")
        check_whole(self, "channels", least=1)
        check_whole(self, "width", least=2)
        rule = "one or more whole numbers, each 1 or more"
        levels = len(self.multipliers)
        check(levels > 0 and all(whole(m, 1) for m in self.multipliers), self, "multipliers", rule)
        check_whole(self, "blocks", least=1)
        rule = f"true or false for each of the {levels} multipliers"
        flags = all(isinstance(flag, bool) for flag in self.attention)
        check(len(self.attention) == levels and flags, self, "attention", rule)
        check_whole(self, "head_channels", least=1)
        check_whole(self, "patch", least=1)
        check_whole(self, "classes", least=0)
        check_dropout(self)
        check_flag(self, "variance")


class Stages(nn.Module):
    """Residual blocks in a row, through channels of the given widths, maybe each with attention.

    [B, widths[0], *S] to [B, widths[-1], *S], modulated by an embedding [B, E].
    """

    def __init__(
        self,
        dims: int,
        widths: Sequence[int],
        embedding: int,
        dropout: float,
        head_channels: int | None,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ResidualBlock(dims, i, o, embedding, dropout) for i, o in pairwise(widths)
        )
        self.attention = nn.ModuleList(
            SelfAttention(dims, o, head_channels) if head_channels else nn.Identity()
            for o in widths[1:]
        )

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        for block, attention in zip(self.blocks, self.attention, strict=True):
            h = attention(block(h, embedding))
        return h
