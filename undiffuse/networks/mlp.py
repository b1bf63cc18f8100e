"""A multilayer perceptron: the network for vectors, such as points of the plane.

The blocks are those of the U-Net without positions: normalise, activate, a linear layer; the same
again with the modulation by noise level and conditions (FiLM); and all of it added to what came in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.networks.base import Network
from undiffuse.networks.checks import check_conditions, check_flag, check_whole
from undiffuse.networks.conditioning import Conditioning, Conditions, Encoded
from undiffuse.networks.layers import CrossAttention, FiLM, zeroed


@dataclass(eq=False)
class MLP(Network):
    """A residual MLP modulated by noise level and conditions.

    Options: `size` of the vectors; `depth` blocks of `width` features; `classes`, `vector` and
    `tokens` say which conditions it takes (0: not that one); with `variance` a second half of the
    output, v, for the variance of the reverse step. The last layer starts at zero, so F = 0 before
    training, and v = 0.

    Raises:
        UndiffuseError: an option out of range.

    Source: residual layers as in He et al., 2016, arXiv:1603.05027.

    >>> import torch
    >>> net = MLP(size=2)
    >>> sum(p.numel() for p in net.parameters())
    258434
    >>> net(torch.zeros(5, 2), torch.zeros(5)).shape
    torch.Size([5, 2])
    """

    name: ClassVar[str] = "mlp"
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"width": 64, "depth": 3},
        "small": {"width": 128, "depth": 3},
        "base": {"width": 512, "depth": 6},
        "large": {"width": 1024, "depth": 12},
    }
    size: int
    width: int = 128
    depth: int = 3
    classes: int = 0
    vector: int = 0
    tokens: int = 0
    variance: bool = False

    def __post_init__(self) -> None:
        super().__init__()
        check_whole(self, "size", least=1)
        check_whole(self, "width", least=2)
        check_whole(self, "depth", least=1)
        check_conditions(self)
        check_flag(self, "variance")
        context = self.width if self.tokens else None
        conditions = Conditions(self.classes, self.vector, self.tokens)
        self.conditioning = Conditioning(self.width, conditions)
        self.stem = nn.Linear(self.size, self.width)
        self.blocks = nn.ModuleList(
            Block(self.width, self.width, context) for _ in range(self.depth)
        )
        self.head_norm = nn.LayerNorm(self.width)
        self.head_film = FiLM(self.width, self.width)
        self.head = zeroed(nn.Linear(self.width, self.size * (1 + self.variance)))

    def takes(self) -> tuple[str | int, ...]:
        return (self.size,)

    def compute(self, x: Tensor, embedding: Tensor, encoded: Encoded) -> Tensor:
        h = self.stem(x)
        for block in self.blocks:
            h = block(h, embedding, encoded)
        out: Tensor = self.head(F.silu(self.head_film(self.head_norm(h), embedding)))
        return out


class Block(nn.Module):
    """h + linear(silu(FiLM(norm(linear(silu(norm(h)))), e))), for h [B, width] and e [B, E].

    With a `context`, the width of the encoded tokens, attention to them follows.
    """

    def __init__(self, width: int, embedding: int, context: int | None) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(width)
        self.linear_1 = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        self.film = FiLM(embedding, width)
        self.linear_2 = zeroed(nn.Linear(width, width))

        self.cross = CrossAttention(width, context) if context else None

    def forward(self, h: Tensor, embedding: Tensor, encoded: Encoded) -> Tensor:
        f = self.linear_1(F.silu(self.norm_1(h)))
        f = self.linear_2(F.silu(self.film(self.norm_2(f), embedding)))
        y: Tensor = h + f
        if self.cross is not None:
            y = self.cross(y[:, None], encoded["tokens"], encoded["token_mask"])[:, 0]
        return y
