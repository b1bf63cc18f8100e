"""The magnitude-preserving U-Net of EDM2.

A U-Net in which no activation and no weight can grow (`undiffuse.networks.magnitude`): the learning
rate keeps its meaning through the whole run, and one average of weights fits all layers. It wants a
larger rate than the plain U-Net, around 1e-2 falling as 1/sqrt(step), and no weight decay.

The decoder sees what every block of the encoder has found, not only the last of each level. Noise
level, label and vector scale the channels of every block; tokens are looked at where there is
attention; an image is laid beside x, and so is a channel of ones in the place of biases.

Source: Karras et al. 2024 (arXiv 2312.02696), configuration G.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from undiffuse.networks.base import Network, axes
from undiffuse.networks.checks import check_pyramid
from undiffuse.networks.conditioning import Conditions, Encoded
from undiffuse.networks.layers import (
    crop,
    downsample,
    pad_to_multiple,
    patchify,
    unpatchify,
    upsample,
)
from undiffuse.networks.magnitude import MPAttention, MPBlock, MPConditioning, MPConv, mp_cat

Resize = Callable[[Tensor], Tensor]


@dataclass(eq=False)
class EDM2UNet(Network):
    """A magnitude-preserving U-Net, modulated by noise level and conditions, of any size of input.

    Options as those of `UNet`; level k has `blocks` blocks on the way down and one more on the way
    up. The gain of the output starts at zero, so F = 0 before training, and v = 0.

    Raises:
        UndiffuseError: an option out of range; `multipliers` and `attention` of unequal length.

    Source: Karras et al., 2024, arXiv:2312.02696.

    >>> net = EDM2UNet(channels=1, width=32, blocks=1, patch=2, classes=10)
    >>> sum(p.numel() for p in net.parameters())
    648426
    >>> net(torch.zeros(2, 1, 28, 28), torch.zeros(2), label=torch.tensor([7, -1])).shape
    torch.Size([2, 1, 28, 28])
    """

    name: ClassVar[str] = "edm2"
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"width": 24, "blocks": 1, "patch": 2},
        "small": {"width": 40, "blocks": 1, "patch": 2},
        "base": {
            "width": 96,
            "multipliers": (1, 2, 3),
            "blocks": 3,
            "attention": (False, True, True),
            "head_channels": 64,
        },
        "large": {
            "width": 192,
            "multipliers": (1, 2, 3),
            "blocks": 3,
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
        widths = [self.width * multiplier for multiplier in self.multipliers]
        embedding, values = widths[-1], self.patch**self.dims
        conditions = Conditions(self.classes, self.vector, self.tokens, self.image)
        self.conditioning = MPConditioning(embedding, conditions)
        inputs = (self.channels + conditions.channels) * values + 1  # the ones
        self.stem = MPConv(self.dims, inputs, widths[0])
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        here, seen = widths[0], [widths[0]]
        for level, width in enumerate(widths):
            if level:
                self.encoder.append(self._stage(here, here, before=downsample))
                seen.append(here)
            for _ in range(self.blocks):
                self.encoder.append(self._stage(here, width, attends=self.attention[level]))
                seen.append(width)
                here = width
        for level, width in reversed(list(enumerate(widths))):
            if level == len(widths) - 1:
                first = self._stage(here, here, 0, attends=self.attention[-1])
            else:
                first = self._stage(here, here, 0, before=upsample)
            self.decoder.append(first)
            for _ in range(self.blocks + 1):
                beside = seen.pop()
                self.decoder.append(self._stage(here, width, beside, attends=self.attention[level]))
                here = width
        self.head = MPConv(self.dims, here, self.channels * values * (1 + self.variance))
        self.gain = nn.Parameter(torch.zeros(()))

    def takes(self) -> tuple[str | int, ...]:
        return self.channels, *axes(self.dims)

    def compute(self, x: Tensor, embedding: Tensor, encoded: Encoded) -> Tensor:
        size, coarsest = x.shape[2:], self.patch * 2 ** (len(self.multipliers) - 1)
        x = self.conditioning.conditions.beside(x, encoded)
        x = patchify(pad_to_multiple(x, coarsest), self.patch)
        h = self.stem(torch.cat((x, torch.ones_like(x[:, :1])), dim=1))
        seen = [h]
        for stage in self.encoder:
            h = stage(h, embedding, encoded)
            seen.append(h)
        for stage in self.decoder:
            h = stage(mp_cat(h, seen.pop()) if stage.beside else h, embedding, encoded)
        return crop(unpatchify(self.head(h, self.gain), self.patch), size)

    def _stage(
        self,
        inputs: int,
        outputs: int,
        beside: int | None = None,
        before: Resize | None = None,
        attends: bool = False,
    ) -> Stage:
        """A stage of the encoder, or with `beside`, the channels of the encoder, of the decoder."""
        width = self.width * self.multipliers[-1]
        encoder = beside is None
        block = MPBlock(
            self.dims, inputs + (beside or 0), outputs, width, self.dropout, encoder=encoder
        )
        heads = self.head_channels if attends else None
        context = width if attends and self.tokens else None
        return Stage(block, self.dims, outputs, before, bool(beside), heads, context)


class Stage(nn.Module):
    """A block, maybe after a change of size, maybe with attention within x and to the tokens.

    Attributes:
        beside: whether it also takes what the encoder has found.
    """

    def __init__(
        self,
        block: MPBlock,
        dims: int,
        channels: int,
        before: Resize | None,
        beside: bool,
        head_channels: int | None,
        context: int | None,
    ) -> None:
        super().__init__()
        self.before, self.beside, self.block = before, beside, block
        heads = head_channels or channels
        self.attention = MPAttention(dims, channels, heads) if head_channels else None
        self.cross = MPAttention(dims, channels, heads, context) if context else None

    def forward(self, h: Tensor, embedding: Tensor, encoded: Encoded) -> Tensor:
        h = self.block(h if self.before is None else self.before(h), embedding)
        if self.attention is not None:
            h = self.attention(h)
        if self.cross is not None:
            h = self.cross(h, encoded["tokens"], encoded["token_mask"])
        return h
