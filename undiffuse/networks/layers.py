"""The layers that networks are put together from, in one, two or three dimensions.

Every layer takes x of shape [B, C, *S] with one to three axes of positions S; only `convolution`
and `downsample` know that torch has one of theirs for each number of them. Nothing mixes the
samples of a batch. Axes stay where they are and the channels may lie last in memory
(`torch.channels_last`): no layer breaks that order, which is the quick one for convolutions on
CPUs, but for patchify and unpatchify, before the first convolution and after the last.

A residual branch ends in a layer of zeros, so a fresh network starts as a chain of identities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.broadcast import over

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Module = TypeVar("Module", bound=nn.Module)


def convolution(dims: int, inputs: int, outputs: int, kernel: int = 3) -> Convolution:
    """A convolution over `dims` axes that keeps the size (odd kernel, padded with zeros)."""
    classes: tuple[type[Convolution], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return classes[dims - 1](inputs, outputs, kernel, padding=kernel // 2)


def equal_parts(channels: int, least: int) -> int:
    """The largest number of equal parts of the channels that each have at least `least`.

    >>> equal_parts(96, 32), equal_parts(50, 16), equal_parts(8, 16)
    (3, 2, 1)
    """
    return next(n for n in range(max(1, channels // least), 0, -1) if channels % n == 0)


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation over groups of 16 channels, or the next larger size that divides.

    Sixteen floats are one vector register; with groups of four it takes five times as long.
    Source: Wu and He, 2018, arXiv:1803.08494.
    """
    return nn.GroupNorm(equal_parts(channels, 16), channels)


def zeroed(module: Module) -> Module:
    """The module with all its parameters set to zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class FiLM(nn.Module):
    """Feature-wise modulation by an embedding e: h (1 + scale(e)) + shift(e), per channel.

    h is [B, C, *S] (S may be empty), e is [B, E]. Source: Perez et al., 2017, arXiv:1709.07871.
    """

    def __init__(self, embedding: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(embedding, 2 * channels)

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.linear(embedding).chunk(2, dim=1)  # [B, C] each
        return torch.addcmul(over(shift, h), h, over(1 + scale, h))


class ResidualBlock(nn.Module):
    """Two convolutions under an identity, the second modulated by the embedding e.

        y = skip(x) + conv(dropout(silu(FiLM(norm(conv(silu(norm(x)))), e))))

    x is [B, inputs, *S], y is [B, outputs, *S]; skip is a 1x1 convolution where the channels
    change. Sources: He et al., 2016, arXiv:1603.05027; Dhariwal and Nichol, 2021, arXiv:2105.05233.
    """

    def __init__(
        self, dims: int, inputs: int, outputs: int, embedding: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm_1 = group_norm(inputs)
        self.conv_1 = convolution(dims, inputs, outputs)
        self.norm_2 = group_norm(outputs)
        self.film = FiLM(embedding, outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv_2 = zeroed(convolution(dims, outputs, outputs))
        changes = inputs != outputs
        self.skip = convolution(dims, inputs, outputs, kernel=1) if changes else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv_1(F.silu(self.norm_1(x)))
        h = self.dropout(F.silu(self.film(self.norm_2(h), embedding)))
        y: Tensor = self.skip(x) + self.conv_2(h)
        return y


class SelfAttention(nn.Module):
    """Every position looks at every other: y = x + project(softmax(q k^T / sqrt(d)) v).

    x is [B, C, *S]; q, k, v are linear in norm(x). The heads have d channels each, the smallest
    divisor of C that is at least `head_channels`. Memory grows with the positions, time with their
    square. Source: Vaswani et al., 2017, arXiv:1706.03762.
    """

    def __init__(self, dims: int, channels: int, head_channels: int = 32) -> None:
        super().__init__()
        self.heads = equal_parts(channels, head_channels)
        self.norm = group_norm(channels)
        self.qkv = convolution(dims, channels, 3 * channels, kernel=1)
        self.project = zeroed(convolution(dims, channels, channels, kernel=1))

    def forward(self, x: Tensor) -> Tensor:
        qkv = rows(self.qkv(self.norm(x))).chunk(3, dim=2)  # [B, N, C] each
        q, k, v = (split_heads(part, self.heads) for part in qkv)
        h = join_heads(F.scaled_dot_product_attention(q, k, v))
        y: Tensor = x + self.project(from_rows(h, x.shape[2:]))
        return y


class CrossAttention(nn.Module):
    """Every row looks at tokens: y = h + project(softmax(q k^T / sqrt(d)) v).

    h is [B, N, C], and q is linear in norm(h); k and v are linear in the tokens [B, L, context], of
    which mask [B, L] tells those that are there, at least one for each sample.
    Source: Rombach et al., 2022, arXiv:2112.10752.
    """

    def __init__(self, channels: int, context: int, head_channels: int = 32) -> None:
        super().__init__()
        self.heads = equal_parts(channels, head_channels)
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(context, 2 * channels)
        self.project = zeroed(nn.Linear(channels, channels))

    def forward(self, h: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        q = split_heads(self.query(self.norm(h)), self.heads)
        k, v = (split_heads(part, self.heads) for part in self.key_value(tokens).chunk(2, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, mask[:, None, None])  # [B, heads, N, d]
        out: Tensor = h + self.project(join_heads(y))
        return out


def rows(x: Tensor) -> Tensor:
    """[B, C, *S] to [B, N, C]: a view, and one without gaps if the channels lie last in memory."""
    return x.flatten(2).transpose(1, 2)


def from_rows(h: Tensor, size: Sequence[int]) -> Tensor:
    """[B, N, C] to [B, C, *size]: undoes `rows`; the channels lie last in memory."""
    x: Tensor = h.transpose(1, 2).unflatten(2, tuple(size))
    return x


def split_heads(h: Tensor, heads: int) -> Tensor:
    """[B, N, C] to [B, heads, N, C / heads], a view."""
    split: Tensor = h.unflatten(2, (heads, -1))
    return split.transpose(1, 2)


def join_heads(h: Tensor) -> Tensor:
    """[B, heads, N, d] to [B, N, heads d]: undoes `split_heads`."""
    return h.transpose(1, 2).flatten(2)


def downsample(x: Tensor) -> Tensor:
    """Half the size along every axis of positions (which must be even), by means over 2^dims."""
    pools = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)  # "area" does not compile for any size
    y: Tensor = pools[x.ndim - 3](x, 2)
    return y


def upsample(x: Tensor) -> Tensor:
    """Twice the size along every axis of positions, by repetition."""
    y: Tensor = F.interpolate(x, scale_factor=2.0, mode="nearest")
    return y


def patchify(x: Tensor, patch: int) -> Tensor:
    """Space to depth: [B, C, *S] to [B, C p^dims, *(S / p)], each block of p^dims becomes channels.

    In two dimensions this is `torch.nn.functional.pixel_unshuffle`.
    """
    if patch == 1:
        return x
    dims = x.ndim - 2
    split = [n for size in x.shape[2:] for n in (size // patch, patch)]
    blocks = x.reshape(*x.shape[:2], *split)  # [B, C, S1 / p, p, S2 / p, p, ...]
    inside, outside = range(3, 3 + 2 * dims, 2), range(2, 2 + 2 * dims, 2)
    return blocks.permute(0, 1, *inside, *outside).flatten(1, 1 + dims)


def unpatchify(x: Tensor, patch: int) -> Tensor:
    """Depth to space, the inverse of `patchify`: [B, C p^dims, *S] to [B, C, *(S p)]."""
    if patch == 1:
        return x
    dims = x.ndim - 2
    blocks: Tensor = x.unflatten(1, (-1, *[patch] * dims))  # [B, C, p, p, ..., S1, S2, ...]
    pairs = [axis for k in range(dims) for axis in (2 + dims + k, 2 + k)]
    size = [patch * n for n in x.shape[2:]]
    return blocks.permute(0, 1, *pairs).reshape(x.shape[0], blocks.shape[1], *size)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Lengthen every axis of positions to the next multiple, repeating the last value.

    >>> pad_to_multiple(torch.ones(1, 1, 7, 1), 4).shape
    torch.Size([1, 1, 8, 4])
    """
    missing = [-(-size // multiple) * multiple - size for size in x.shape[2:]]
    if not any(missing):
        return x
    ends = [n for amount in reversed(missing) for n in (0, amount)]  # the last axis comes first
    return F.pad(x, ends, mode="replicate")


def crop(x: Tensor, size: Sequence[int]) -> Tensor:
    """The first `size` positions along every axis: undoes `pad_to_multiple`."""
    window: tuple[slice, ...] = tuple(slice(n) for n in size)
    return x[(slice(None), slice(None), *window)]
