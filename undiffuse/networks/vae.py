r"""The two halves of a variational autoencoder: encoders and decoders, for vectors and pictures.

    encoder(x) -> (mean, log_var) of q(z | x) = N(mean, diag exp(log_var)),
    decoder(z) -> the mean of p(x | z).

Pictures are halved level by level, each block of 2^dims values becoming channels (nothing is thrown
away before the encoder decides), and the decoder goes the same way back. The code of a picture is a
smaller picture of `latent` channels, [B, latent, *S / 2^levels]; with as many levels as there are
halvings it is one vector. Any size goes in: it is padded to the next multiple of 2^levels, and what
comes out is to be cropped.

No noise level is told to them, and no class: they are no networks F(x, c_noise) of a denoiser.

Source: Kingma & Welling 2014 (arXiv 1312.6114); spatial codes as in Rombach et al. 2022
(arXiv 2112.10752).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import Tensor, nn

from undiffuse.catalogue import check
from undiffuse.networks.base import axes
from undiffuse.networks.checks import check_shape, check_whole, whole
from undiffuse.networks.layers import (
    convolution,
    group_norm,
    pad_to_multiple,
    patchify,
    unpatchify,
    zeroed,
)


class Encoder(nn.Module, ABC):
    """x [B, ...] to the mean and the log-variance of q(z | x), [B, *latent_shape] each."""

    if TYPE_CHECKING:  # nn.Module.__call__ has no types

        def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance."""

    @abstractmethod
    def latent_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of z for one sample of the given shape."""


class Residual(nn.Module):
    """y = x + branch(x), where the branch starts at zero: normalise, activate, map, twice."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    @classmethod
    def of_vectors(cls, width: int) -> Residual:
        """For h [B, width]: linear(silu(norm(linear(silu(norm(h)))))) beside h."""
        norms = [nn.LayerNorm(width) for _ in range(2)]
        return cls(_twice(norms, [nn.Linear(width, width), zeroed(nn.Linear(width, width))]))

    @classmethod
    def of_pictures(cls, dims: int, channels: int) -> Residual:
        """For h [B, channels, *S]: the same with convolutions."""
        norms = [group_norm(channels) for _ in range(2)]
        maps = [convolution(dims, channels, channels) for _ in range(2)]
        return cls(_twice(norms, [maps[0], zeroed(maps[1])]))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.branch(x)
        return y


def _twice(norms: Sequence[nn.Module], maps: Sequence[nn.Module]) -> nn.Sequential:
    return nn.Sequential(norms[0], nn.SiLU(), maps[0], norms[1], nn.SiLU(), maps[1])


@dataclass(eq=False)
class VectorEncoder(Encoder):
    """x [B, size] to the mean and log-variance of q(z | x), [B, latent] each.

    Options: `depth` residual blocks of `width` features; depth 0 is one linear map.

    Raises:
        UndiffuseError: an option out of range; in a call: x of another shape.

    >>> import torch
    >>> mean, log_var = VectorEncoder(size=8, latent=2)(torch.zeros(5, 8))
    >>> mean.shape, log_var.shape
    (torch.Size([5, 2]), torch.Size([5, 2]))
    """

    size: int
    latent: int
    width: int = 128
    depth: int = 2

    def __post_init__(self) -> None:
        super().__init__()
        _check_vectors(self)
        self.layers = _perceptron(self.size, self.width, self.depth, 2 * self.latent)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        check_shape("encoder", "x", x, ("B", self.size))
        mean, log_var = self.layers(x).chunk(2, dim=1)
        return mean, log_var

    def latent_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of z for one sample of the given shape."""
        return (self.latent,)


@dataclass(eq=False)
class VectorDecoder(nn.Module):
    """z [B, latent] to the mean of p(x | z), [B, size]. Options and errors as `VectorEncoder`."""

    size: int
    latent: int
    width: int = 128
    depth: int = 2

    def __post_init__(self) -> None:
        super().__init__()
        _check_vectors(self)
        self.layers = _perceptron(self.latent, self.width, self.depth, self.size)

    def forward(self, z: Tensor) -> Tensor:
        check_shape("decoder", "z", z, ("B", self.latent))
        x: Tensor = self.layers(z)
        return x


@dataclass(eq=False)
class PictureEncoder(Encoder):
    """x [B, channels, *S] to the mean and log-variance of q(z | x), [B, latent, *S / 2^levels].

    Options: `dims` axes of positions; one level for each of `multipliers`, with `blocks` residual
    blocks of `width * multiplier` channels, after which the size is halved; `latent` channels of z.

    Raises:
        UndiffuseError: an option out of range; in a call: x of another shape.

    >>> import torch
    >>> encoder = PictureEncoder(channels=1, latent=4, width=16)
    >>> encoder(torch.zeros(5, 1, 8, 7))[0].shape
    torch.Size([5, 4, 2, 2])
    """

    channels: int
    latent: int
    dims: int = 2
    width: int = 32
    multipliers: tuple[int, ...] = (1, 2)
    blocks: int = 1

    def __post_init__(self) -> None:
        super().__init__()
        self.widths = _check_pictures(self)
        dims, layers = self.dims, nn.ModuleList()
        for inner, outer in pairwise((*self.widths, self.widths[-1])):
            layers.extend(Residual.of_pictures(dims, inner) for _ in range(self.blocks))
            layers.append(_Halve(dims, inner, outer))
        self.stem = convolution(dims, self.channels, self.widths[0])
        self.layers = nn.Sequential(*layers)
        self.head = _head(dims, self.widths[-1], 2 * self.latent)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        check_shape("encoder", "x", x, ("B", self.channels, *axes(self.dims)))
        h = self.stem(pad_to_multiple(x, 2 ** len(self.widths)))
        mean, log_var = self.head(self.layers(h)).chunk(2, dim=1)
        return mean, log_var

    def latent_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of z for one sample of the given shape (C, *S)."""
        return (self.latent, *(-(-n // 2 ** len(self.widths)) for n in shape[1:]))


@dataclass(eq=False)
class PictureDecoder(nn.Module):
    """z [B, latent, *s] to the mean of p(x | z), [B, channels, *s 2^levels].

    Options and errors as `PictureEncoder`, whose way it goes back.
    """

    channels: int
    latent: int
    dims: int = 2
    width: int = 32
    multipliers: tuple[int, ...] = (1, 2)
    blocks: int = 1

    def __post_init__(self) -> None:
        super().__init__()
        widths = _check_pictures(self)
        dims, layers = self.dims, nn.ModuleList()
        for outer, inner in pairwise((widths[-1], *reversed(widths))):
            layers.append(_Double(dims, outer, inner))
            layers.extend(Residual.of_pictures(dims, inner) for _ in range(self.blocks))
        self.stem = convolution(dims, self.latent, widths[-1])
        self.layers = nn.Sequential(*layers)
        self.head = _head(dims, widths[0], self.channels)

    def forward(self, z: Tensor) -> Tensor:
        check_shape("decoder", "z", z, ("B", self.latent, *axes(self.dims)))
        x: Tensor = self.head(self.layers(self.stem(z)))
        return x


class _Halve(nn.Module):
    """[B, inputs, *S] to [B, outputs, *S / 2]: blocks of 2^dims become channels, then 1x1."""

    def __init__(self, dims: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.map = convolution(dims, inputs * 2**dims, outputs, kernel=1)

    def forward(self, h: Tensor) -> Tensor:
        y: Tensor = self.map(patchify(h, 2))
        return y


class _Double(nn.Module):
    """[B, inputs, *S] to [B, outputs, *S 2]: 1x1, then channels become blocks of 2^dims."""

    def __init__(self, dims: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.map = convolution(dims, inputs, outputs * 2**dims, kernel=1)

    def forward(self, h: Tensor) -> Tensor:
        return unpatchify(self.map(h), 2)


def _head(dims: int, inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(group_norm(inputs), nn.SiLU(), convolution(dims, inputs, outputs))


def _perceptron(inputs: int, width: int, depth: int, outputs: int) -> nn.Module:
    if depth == 0:
        return nn.Linear(inputs, outputs)
    blocks = [Residual.of_vectors(width) for _ in range(depth)]
    head = [nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, outputs)]
    return nn.Sequential(nn.Linear(inputs, width), *blocks, *head)


def _check_vectors(network: VectorEncoder | VectorDecoder) -> None:
    for field, least in (("size", 1), ("latent", 1), ("width", 2), ("depth", 0)):
        check_whole(network, field, least)


def _check_pictures(network: PictureEncoder | PictureDecoder) -> list[int]:
    """The channels of the levels, once the options have been looked at."""
    for field, least in (("channels", 1), ("latent", 1), ("width", 1), ("blocks", 0)):
        check_whole(network, field, least)
    check(network.dims in (1, 2, 3), network, "dims", "1, 2 or 3")
    given: object = network.multipliers
    some = isinstance(given, tuple | list) and len(given) > 0 and all(whole(m, 1) for m in given)
    check(some, network, "multipliers", "one or more whole numbers, 1 or more each")
    network.multipliers = tuple(network.multipliers)
    return [network.width * m for m in network.multipliers]
