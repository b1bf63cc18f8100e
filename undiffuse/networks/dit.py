r"""The diffusion transformer (DiT): attention between patches, and nothing that is local.

The input is cut into patches of patch^dims values, each becomes a token of `width` features, and
`depth` blocks of attention and perceptron change them. Noise level, label and vector modulate every
block by adaLN-zero:

    h <- h + gate_1 attention((1 + scale_1) norm(h) + shift_1)
    h <- h + gate_2 perceptron((1 + scale_2) norm(h) + shift_2)

where the six rows are linear in the embedding and start at zero, so a fresh block is the identity.
q and k are normalised before they meet, which keeps attention from saturating as it is trained
(Henry et al. 2020, arXiv 2010.04245; Dehghani et al. 2023, arXiv 2302.05442).

It needs more data and more training than a U-Net, and makes better use of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.catalogue import check
from undiffuse.networks.base import Network, axes
from undiffuse.networks.checks import check_conditions, check_flag, check_whole, whole
from undiffuse.networks.conditioning import Conditioning, Conditions, Encoded
from undiffuse.networks.layers import (
    CrossAttention,
    crop,
    equal_parts,
    from_rows,
    join_heads,
    pad_to_multiple,
    patchify,
    rows,
    unpatchify,
    zeroed,
)
from undiffuse.networks.positions import LearnedPlaces, Positions, Rotary, Rotation, SinCos, rotated


@dataclass(eq=False)
class DiT(Network):
    """A transformer over patches, modulated by noise level and conditions, of any size of input.

    Options: `channels` of the data; `dims`, its axes of positions; `patch`, the values along each
    axis of a patch; `depth` blocks of `width` features, with heads of at least `head_channels`;
    `positions` are "rotary", "sincos" or "learned"; `classes`, `vector`, `tokens` and `image` say
    which conditions it takes (0: not that one), tokens by attention to them in every block; with
    `variance` a second half of the output, v, for the variance of the reverse step.

    The last layer starts at zero, so F = 0 before training, and v = 0.

    Raises:
        UndiffuseError: an option out of range.

    Source: Peebles and Xie, 2023, arXiv:2212.09748; tokens as in Chen et al., 2023,
    arXiv:2310.00426.

    >>> net = DiT(channels=1, width=128, depth=4, patch=4, classes=10)
    >>> sum(p.numel() for p in net.parameters())
    1251088
    >>> net(torch.zeros(2, 1, 28, 28), torch.zeros(2), label=torch.tensor([7, -1])).shape
    torch.Size([2, 1, 28, 28])
    """

    name: ClassVar[str] = "dit"
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"width": 96, "depth": 4, "patch": 4, "head_channels": 32},
        "small": {"width": 128, "depth": 6, "patch": 4, "head_channels": 32},
        "base": {"width": 384, "depth": 12, "patch": 2},
        "large": {"width": 768, "depth": 12, "patch": 2},
    }
    channels: int
    dims: int = 2
    width: int = 192
    depth: int = 6
    head_channels: int = 64
    patch: int = 2
    positions: str = "rotary"
    classes: int = 0
    vector: int = 0
    tokens: int = 0
    image: int = 0
    variance: bool = False

    def __post_init__(self) -> None:
        super().__init__()
        self._check_options()
        width, values = self.width, self.patch**self.dims
        conditions = Conditions(self.classes, self.vector, self.tokens, self.image)
        context = width if self.tokens else None
        self.conditioning = Conditioning(width, conditions)
        self.stem = nn.Linear((self.channels + conditions.channels) * values, width)
        self.places = self._places()
        self.blocks = nn.ModuleList(
            Block(width, width, self.head_channels, context) for _ in range(self.depth)
        )
        self.head_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.head_modulation = zeroed(nn.Linear(width, 2 * width))
        self.head = zeroed(nn.Linear(width, self.channels * values * (1 + self.variance)))

    def takes(self) -> tuple[str | int, ...]:
        return self.channels, *axes(self.dims)

    def compute(self, x: Tensor, embedding: Tensor, encoded: Encoded) -> Tensor:
        size = x.shape[2:]
        x = self.conditioning.conditions.beside(x, encoded)
        x = patchify(pad_to_multiple(x, self.patch), self.patch)  # [B, C, *G]
        grid = x.shape[2:]
        h = self.places(self.stem(rows(x)), grid)  # [B, N, width]
        rotation = self.places.rotation(h, grid, self.width // self._heads())
        for block in self.blocks:
            h = block(h, embedding, rotation, encoded)
        shift, scale = self.head_modulation(embedding)[:, None].chunk(2, dim=2)
        h = self.head(modulated(self.head_norm(h), shift, scale))  # [B, N, values]
        return crop(unpatchify(from_rows(h, grid), self.patch), size)

    def _heads(self) -> int:
        return equal_parts(self.width, self.head_channels)

    def _places(self) -> Positions:
        if self.positions == "learned":
            return LearnedPlaces(self.dims, self.width)
        return Rotary() if self.positions == "rotary" else SinCos()

    def _check_options(self) -> None:
        check(whole(self.dims, 1) and self.dims <= 3, self, "dims", "1, 2 or 3")
        for field, least in (("channels", 1), ("width", 2), ("depth", 1), ("patch", 1)):
            check_whole(self, field, least)
        check_whole(self, "head_channels", least=1)
        known = {"rotary", "sincos", "learned"}
        check(self.positions in known, self, "positions", "rotary, sincos or learned")
        each = self.width // self._heads()
        check(each % 2 == 0, self, "width", "so that every head has an even number of channels")
        turned = self.positions != "rotary" or each >= 2 * self.dims
        rule = f"sincos or learned where a head has {each} channels: a pair turns along each axis"
        check(turned, self, "positions", rule)
        apart = self.positions != "sincos" or self.width >= 2 * self.dims
        check(apart, self, "width", f"at least {2 * self.dims} for sines and cosines of every axis")
        check_conditions(self)
        check_flag(self, "variance")


class Block(nn.Module):
    """Attention and a perceptron under adaLN-zero, for tokens h [B, N, width].

    With a `context`, the width of the encoded tokens, attention to them comes between.
    """

    def __init__(self, width: int, embedding: int, head_channels: int, context: int | None) -> None:
        super().__init__()
        self.heads = equal_parts(width, head_channels)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = zeroed(nn.Linear(embedding, 6 * width))
        self.qkv = nn.Linear(width, 3 * width)
        self.scale = nn.Parameter(torch.ones(width // self.heads))  # of normalised q and k
        self.project = nn.Linear(width, width)
        self.cross = CrossAttention(width, context, head_channels) if context else None
        self.perceptron = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width)
        )

    def forward(
        self, h: Tensor, embedding: Tensor, rotation: Rotation | None, encoded: Encoded
    ) -> Tensor:
        parts = self.modulation(embedding)[:, None].chunk(6, dim=2)  # [B, 1, width] each
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = parts
        y = self.attend(modulated(self.norm(h), shift_1, scale_1), rotation)
        h = torch.addcmul(h, gate_1, y)
        if self.cross is not None:
            h = self.cross(h, encoded["tokens"], encoded["token_mask"])
        y = self.perceptron(modulated(self.norm(h), shift_2, scale_2))
        return torch.addcmul(h, gate_2, y)

    def attend(self, h: Tensor, rotation: Rotation | None) -> Tensor:
        """Self-attention between the tokens, [B, N, width]."""
        qkv = self.qkv(h).unflatten(2, (3, self.heads, -1))  # [B, N, 3, heads, d]
        qk, v = qkv[:, :, :2], qkv[:, :, 2].transpose(1, 2)
        qk = F.layer_norm(qk, self.scale.shape, self.scale.to(qk.dtype))
        if rotation is not None:
            qk = rotated(qk, rotation)
        q, k = qk.to(v.dtype).permute(2, 0, 3, 1, 4)  # [B, heads, N, d] each
        y: Tensor = self.project(join_heads(F.scaled_dot_product_attention(q, k, v)))
        return y


def modulated(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """(1 + scale) h + shift, for h [B, N, C] and rows [B, 1, C]."""
    return torch.addcmul(shift, h, 1 + scale)
