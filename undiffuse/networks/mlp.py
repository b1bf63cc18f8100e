"""A multilayer perceptron: the network for vectors, such as points of the plane.

The blocks are those of the U-Net without positions: normalise, activate, a linear layer; the same
again with the modulation by noise level and class (FiLM); and all of it added to what came in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.networks.checks import check_flag, check_input, check_whole
from undiffuse.networks.conditioning import Conditioning
from undiffuse.networks.layers import FiLM, zeroed


@dataclass(eq=False)
class MLP(nn.Module):
    """A residual MLP told the noise level and the class: F(x, c_noise, label), of x's shape.

    Options: `size` of the vectors; `depth` blocks of `width` features; `classes` labels beside "no
    label" (0: no labels); with `variance` a second half of the output, v, for the variance of the
    reverse step. The last layer starts at zero, so F = 0 before training, and v = 0.

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
    size: int
    width: int = 128
    depth: int = 3
    classes: int = 0
    variance: bool = False

    def __post_init__(self) -> None:
        super().__init__()
        check_whole(self, "size", least=1)
        check_whole(self, "width", least=2)
        check_whole(self, "depth", least=1)
        check_whole(self, "classes", least=0)
        check_flag(self, "variance")
        self.conditioning = Conditioning(self.width, self.classes)
        self.stem = nn.Linear(self.size, self.width)
        self.blocks = nn.ModuleList(Block(self.width, self.width) for _ in range(self.depth))
        self.head_norm = nn.LayerNorm(self.width)
        self.head_film = FiLM(self.width, self.width)
        self.head = zeroed(nn.Linear(self.width, self.size * (1 + self.variance)))

    def forward(self, x: Tensor, c_noise: Tensor, label: Tensor | None = None) -> Tensor:
        """F(x, c_noise, label).

        x is [B, size] of about unit variance; c_noise is [B] = -log_snr/8; label is int64 [B], -1
        for "no label", or None for no labels at all. F is of x's shape; with `variance` F and v
        come as [B, 2 size].

        Raises:
            UndiffuseError: x, c_noise or label of another shape, or labels that the network lacks.
        """
        check_input(x, c_noise, ("B", self.size))
        embedding = self.conditioning(c_noise, label)
        h = self.stem(x)
        for block in self.blocks:
            h = block(h, embedding)
        out: Tensor = self.head(F.silu(self.head_film(self.head_norm(h), embedding)))
        return out


class Block(nn.Module):
    """h + linear(silu(FiLM(norm(linear(silu(norm(h)))), e))), for h [B, width] and e [B, E]."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(width)
        self.linear_1 = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        self.film = FiLM(embedding, width)
        self.linear_2 = zeroed(nn.Linear(width, width))

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        f = self.linear_1(F.silu(self.norm_1(h)))
        f = self.linear_2(F.silu(self.film(self.norm_2(f), embedding)))
        y: Tensor = h + f
        return y
