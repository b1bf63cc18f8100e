"""The U-Net: a network that sees a picture at several sizes at once.

An encoder halves the size from level to level, a decoder doubles it again, and every level of the
decoder also sees what the encoder had found at that size, so fine detail need not pass the narrow
middle. Noise level, label and vector modulate each block (FiLM); tokens are looked at wherever
there is attention; an image is laid beside x. With `patch` above 1 the network works on
blocks of patch^dims values as channels, which costs about patch^dims times less.

Any size goes in: it is padded to the next multiple of patch * 2^(levels - 1) by repeating the edge,
and the result is cropped. The same code serves sequences, images and volumes (`dims`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.networks.base import Network, axes
from undiffuse.networks.checks import check_pyramid
from undiffuse.networks.conditioning import Conditioning, Conditions, Encoded
from undiffuse.networks.layers import (
    CrossAttention,
    FiLM,
    ResidualBlock,
    SelfAttention,
    convolution,
    crop,
    downsample,
    from_rows,
    group_norm,
    pad_to_multiple,
    patchify,
    rows,
    unpatchify,
    upsample,
    zeroed,
)


@dataclass(eq=False)
class UNet(Network):
    """A U-Net of residual blocks modulated by noise level and conditions, of any size of input.

    Options: `channels` of the data; `dims`, its axes of positions; level k has `blocks` residual
    blocks of `width * multipliers[k]` channels on either side, followed by self-attention where
    `attention[k]`, in heads of at least `head_channels`, and the middle is as the last level;
    `patch` values along each axis become channels at the entrance; `classes`, `vector`, `tokens`
    and `image` say which conditions it takes (0: not that one); `dropout` within the blocks while
    training; with `variance` a second half of the output, v, for the variance of the reverse step.

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
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"width": 32, "blocks": 1, "patch": 2},
        "small": {"width": 48, "blocks": 1, "patch": 2},
        "base": {
            "width": 128,
            "multipliers": (1, 2, 2),
            "blocks": 3,
            "attention": (False, True, True),
            "head_channels": 64,
        },
        "large": {
            "width": 192,
            "multipliers": (1, 2, 3),
            "blocks": 4,
            "attention": (False, True, True),
            "head_channels": 64,
        },
    }
    channels: int
    dims: int = 2
    width: int = 64
    multipliers: tuple[int, ...] = (1, 2)
    blocks: int = 2
    attention: tuple[bool, ...] = (False, True)
    head_channels: int = 32
    patch: int = 1
    classes: int = 0
    vector: int = 0
    tokens: int = 0
    image: int = 0
    dropout: float = 0.0
    variance: bool = False

    def __post_init__(self) -> None:
        super().__init__()
        check_pyramid(self)
        dims, embedding = self.dims, 4 * self.width
        widths = [self.width * multiplier for multiplier in self.multipliers]
        conditions = Conditions(self.classes, self.vector, self.tokens, self.image)
        values = self.patch**dims  # of one channel after patchify

        def stages(entrance: int, level: int) -> Stages:
            row = [entrance] + [widths[level]] * self.blocks
            heads = self.head_channels if self.attention[level] else None
            context = embedding if heads and self.tokens else None
            return Stages(dims, row, embedding, self.dropout, heads, context)

        levels = range(len(widths))
        self.conditioning = Conditioning(embedding, conditions)
        self.stem = convolution(dims, (self.channels + conditions.channels) * values, widths[0])
        self.encoder = nn.ModuleList(stages(widths[max(k - 1, 0)], k) for k in levels)
        self.middle = stages(widths[-1], levels[-1])
        self.decoder = nn.ModuleList(stages(2 * widths[k], k) for k in levels)
        self.narrow = nn.ModuleList(convolution(dims, o, i, kernel=1) for i, o in pairwise(widths))
        self.head_norm = group_norm(widths[0])
        self.head_film = FiLM(embedding, widths[0])
        outputs = self.channels * values * (1 + self.variance)
        self.head = zeroed(convolution(dims, widths[0], outputs))

    def takes(self) -> tuple[str | int, ...]:
        return self.channels, *axes(self.dims)

    def compute(self, x: Tensor, embedding: Tensor, encoded: Encoded) -> Tensor:
        size, coarsest = x.shape[2:], self.patch * 2 ** (len(self.multipliers) - 1)
        x = self.conditioning.conditions.beside(x, encoded)
        h = self.stem(patchify(pad_to_multiple(x, coarsest), self.patch))
        seen: list[Tensor] = []  # by the encoder, one for each level
        for level, stages in enumerate(self.encoder):
            h = stages(downsample(h) if level else h, embedding, encoded)
            seen.append(h)
        h = self.middle(h, embedding, encoded)
        for level, stages in reversed(list(enumerate(self.decoder))):
            h = stages(torch.cat((h, seen[level]), dim=1), embedding, encoded)
            h = upsample(self.narrow[level - 1](h)) if level else h
        h = self.head(F.silu(self.head_film(self.head_norm(h), embedding)))
        return crop(unpatchify(h, self.patch), size)


class Stages(nn.Module):
    """Residual blocks in a row, through channels of the given widths, maybe each with attention.

    [B, widths[0], *S] to [B, widths[-1], *S], modulated by an embedding [B, E]; with a `context`,
    the width of the encoded tokens, self-attention is followed by attention to them.
    """

    def __init__(
        self,
        dims: int,
        widths: Sequence[int],
        embedding: int,
        dropout: float,
        head_channels: int | None,
        context: int | None,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ResidualBlock(dims, i, o, embedding, dropout) for i, o in pairwise(widths)
        )
        self.attention = nn.ModuleList(
            SelfAttention(dims, o, head_channels) if head_channels else nn.Identity()
            for o in widths[1:]
        )

        self.cross = nn.ModuleList(
            CrossAttention(o, context, head_channels)
            for o in widths[1:]
            if context and head_channels
        )

    def forward(self, h: Tensor, embedding: Tensor, encoded: Encoded) -> Tensor:
        for k, (block, attention) in enumerate(zip(self.blocks, self.attention, strict=True)):
            h = attention(block(h, embedding))
            if self.cross:
                looked = self.cross[k](rows(h), encoded["tokens"], encoded["token_mask"])
                h = from_rows(looked, h.shape[2:])
        return h
