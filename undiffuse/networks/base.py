"""What every denoising network is: F(x, c_noise, **condition), of x's shape.

A network sees x of about unit variance, the noise level as c_noise = -log_snr / 8, and conditions
by name (`undiffuse.networks.conditioning`). It is a dataclass of plain options, the weights apart,
so it can be written down and built again; each has the four sizes

    tiny    seconds to a minute on a laptop     small   minutes on a laptop
    base    an hour or more on a GPU            large   a day or more on a GPU

as rows of options, which any option may overrule: `UNet.sized("small", channels=1)` in Python, and
`name = "unet.small"` in the table `network` of a recipe.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from undiffuse.errors import UndiffuseError, unknown
from undiffuse.networks.checks import check_input
from undiffuse.networks.conditioning import Embedder, Encoded


class Network(nn.Module, ABC):
    """F(x, c_noise, **condition): the function that a learned denoiser trains.

    Attributes:
        conditioning: what makes noise level and conditions an embedding.
        sizes: the options of each size.
    """

    sizes: ClassVar[Mapping[str, Mapping[str, Any]]]
    conditioning: Embedder

    def encode(self, batch: int, **condition: Tensor | None) -> dict[str, Tensor]:
        """All that a call does with its conditions and that needs neither x nor c_noise.

        `network(x, c_noise, encoded=network.encode(len(x), **condition))` is
        `network(x, c_noise, **condition)`, bit for bit. Every tensor has the batch first.

        Raises:
            UndiffuseError: a condition that the network does not take, or of another shape or kind.
        """
        return self.conditioning.encode(batch, condition)

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        encoded: Encoded | None = None,
        **condition: Tensor | None,
    ) -> Tensor:
        """F(x, c_noise, **condition), of x's shape; with `variance` F and v, twice the channels.

        Args:
            x: of about unit variance, [B, *shape].
            c_noise: -log_snr / 8, [B].
            encoded: what `encode` made of the conditions, in place of them.
            **condition: label, vector, tokens, token_mask, image, as far as the network takes them.

        Raises:
            UndiffuseError: x or c_noise of another shape, or x of integers; a condition of another
                shape or kind, or one that the network does not take.
        """
        check_input(x, c_noise, ("B", *self.takes()))
        if encoded is None:
            encoded = self.encode(len(x), **condition)
        elif any(value is not None for value in condition.values()):
            raise UndiffuseError("give a network conditions or what it encoded them to, not both")
        return self.compute(x, self.conditioning(c_noise, encoded), encoded)

    @abstractmethod
    def takes(self) -> tuple[str | int, ...]:
        """The shape of one sample, with names for sizes that are free: (3, "H", "W")."""

    @abstractmethod
    def compute(self, x: Tensor, embedding: Tensor, encoded: Encoded) -> Tensor:
        """F from x, the embedding of noise level and conditions, and the encoded conditions."""

    @classmethod
    def sized(cls, size: str, **options: Any) -> Self:
        """The network of a size; what `options` say overrules it.

        Raises:
            UndiffuseError: no such size, or an option out of range.
        """
        if size not in cls.sizes:
            raise unknown(f"size of {cls.__name__}", size, cls.sizes)
        return cls(**{**cls.sizes[size], **options})


def axes(dims: int) -> tuple[str, ...]:
    """Names for the axes of positions.

    >>> axes(2)
    ('H', 'W')
    """
    return tuple(("L", "HW", "DHW")[dims - 1])
