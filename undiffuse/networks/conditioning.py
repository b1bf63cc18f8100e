"""What a network is told beside x: how noisy it is, and what it should show.

The noise level comes as one number per sample, c_noise = -log_snr / 8 (a quarter of the logarithm
of sigma/alpha), never as the index of a step: a network then serves every schedule and every number
of steps. Sines and cosines of it at fixed frequencies make differences between levels visible to a
small network that turns them into the embedding.

What to show comes by name, and every sample of a batch may go without it, which is what
classifier-free guidance compares with (Ho and Salimans, 2022, arXiv:2207.12598):

    label       int64 [B], a class             -1 is "none"
    vector      [B, V], any numbers            NaN is "none"
    tokens      [B, L, D], a sequence          NaN, or False in token_mask [B, L], is "none"
    image       [B, C', *S], as large as x     NaN is "none"

What "none" means is learned: a row of its own for the label, and for the others a flag beside the
values, whose weights are the learned "none"; the first token of every sequence is that flag alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.errors import UndiffuseError, unknown
from undiffuse.networks.checks import check_labels, check_numbers

Encoded = Mapping[str, Tensor]
LONGEST, SHORTEST = 16.0, 0.25  # periods in c_noise: all log-SNRs in use, and a step of 2 in them
OPTIONS = {
    "label": "classes",
    "vector": "vector",
    "tokens": "tokens",
    "token_mask": "tokens",
    "image": "image",
}


def fourier_features(c_noise: Tensor, frequencies: int = 32) -> Tensor:
    """Cosines and sines of 2 pi c / period, the periods log-spaced from 16 to 1/4.

    c_noise is [B]; the result is [B, 2 frequencies], in [-1, 1].
    Source: Tancik et al., 2020, arXiv:2006.10739; fixed instead of random frequencies.

    >>> fourier_features(torch.zeros(1), 2)
    tensor([[1., 1., 0., 0.]])
    """
    ends = math.log(1 / LONGEST), math.log(1 / SHORTEST)
    frequency = torch.linspace(*ends, frequencies, device=c_noise.device, dtype=c_noise.dtype).exp()
    angle = 2 * math.pi * c_noise[:, None] * frequency  # [B, frequencies]
    return torch.cat((angle.cos(), angle.sin()), dim=1)


def without(condition: Encoded, samples: Tensor | None = None) -> dict[str, Tensor]:
    """The conditions with "none" in their place, for all samples or for those marked in bool [B].

    Whole numbers become -1, other numbers NaN, masks False.

    >>> without({"label": torch.tensor([3, 4])}, torch.tensor([False, True]))
    {'label': tensor([ 3, -1])}
    """
    made = {}
    for name, value in condition.items():
        none = float("nan") if value.is_floating_point() else -(value.dtype != torch.bool)
        marked = torch.ones(len(value), dtype=torch.bool) if samples is None else samples
        marked = marked.to(value.device).reshape(-1, *[1] * (value.ndim - 1))
        made[name] = value.masked_fill(marked, none)
    return made


@dataclass(frozen=True)
class Conditions:
    """Which conditions a network takes, and how large: 0 for those that it does not take.

    Attributes:
        classes: labels beside "none".
        vector: numbers in a vector.
        tokens: numbers in a token.
        image: channels of an image that lies beside x.
    """

    classes: int = 0
    vector: int = 0
    tokens: int = 0
    image: int = 0

    def complete(
        self, batch: int, like: Tensor, condition: Mapping[str, Tensor | None]
    ) -> dict[str, Tensor]:
        """All that the network takes, "none" where it is not given, numbers as `like`.

        Returns:
            label [B]; vector [B, V + 1] and tokens [B, 1 + L, D + 1] with their flags last, and
            token_mask [B, 1 + L]; and image [B, C' + 1, *S] with its flag, but only if given.

        Raises:
            UndiffuseError: a condition that this network does not take, or of another shape or
                kind.
        """
        given = {name: value for name, value in condition.items() if value is not None}
        for name in given:
            if name not in OPTIONS:
                raise unknown("condition of a network", name, OPTIONS)
            if not getattr(self, OPTIONS[name]):
                what = "classes" if name == "label" else name.removesuffix("_mask")
                raise UndiffuseError(
                    f"this network has no {what} ({OPTIONS[name]}=0): leave the {name} away"
                )
        made: dict[str, Tensor] = {}
        if self.classes:
            none = torch.full((batch,), -1, device=like.device)
            label = given.get("label", none)
            check_labels(label, self.classes, batch)
            made["label"] = label.long()
        if self.vector:
            vector = given.get("vector", like.new_full((batch, self.vector), float("nan")))
            check_numbers("vector", vector, (batch, self.vector))
            made["vector"] = _flagged(vector.to(like), vector.isnan().any(-1))
        if self.tokens:
            tokens = given.get("tokens", like.new_empty(batch, 0, self.tokens))
            check_numbers("tokens", tokens, (batch, "L", self.tokens))
            tokens = torch.cat((tokens.new_full((batch, 1, self.tokens), float("nan")), tokens), 1)
            none = tokens.isnan().any(-1)  # [B, 1 + L]
            made["tokens"] = _flagged(tokens.to(like), none)
            present = ~none
            if (mask := given.get("token_mask")) is not None:
                check_numbers("token_mask", mask, (batch, tokens.shape[1] - 1), torch.bool)
                present = present & F.pad(mask, (1, 0))
            made["token_mask"] = present | (torch.arange(present.shape[1], device=like.device) == 0)
        if "image" in given:
            image = given["image"]
            check_numbers("image", image, (batch, self.image, *image.shape[2:]))
            none = image.flatten(1).isnan().any(1).reshape(-1, *[1] * (image.ndim - 2))  # [B, 1...]
            flagged = _flagged(image.movedim(1, -1).to(like), none.expand(batch, *image.shape[2:]))
            made["image"] = flagged.movedim(-1, 1)
        return made

    def beside(self, x: Tensor, encoded: Encoded) -> Tensor:
        """x [B, C, *S] with the image and its flag as further channels, if the network takes one.

        Raises:
            UndiffuseError: the image is not as large as x.
        """
        if not self.image:
            return x
        image = encoded.get("image")
        if image is None:
            image = x.new_zeros(len(x), self.channels, *x.shape[2:])
            image[:, -1] = 1  # the flag
        if image.shape[2:] != x.shape[2:]:
            raise UndiffuseError(
                f"the image must be as large as x, {list(x.shape[2:])}, not {list(image.shape[2:])}"
            )
        return torch.cat((x, image.to(x)), dim=1)

    @property
    def channels(self) -> int:
        """How many channels `beside` adds."""
        return self.image + 1 if self.image else 0


def _flagged(values: Tensor, none: Tensor) -> Tensor:
    """[..., n] to [..., n + 1]: the values and a 0, or where there are none, zeros and a 1."""
    none = none[..., None]
    return torch.cat((values.masked_fill(none, 0), none.to(values)), dim=-1)


def _perceptron(inputs: int, width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width))


class Embedder(nn.Module, ABC):
    """Noise level and conditions to the embedding that modulates a network.

    `encode` does all that needs neither x nor the noise level, so a sampler does it once.
    """

    conditions: Conditions

    def encode(self, batch: int, condition: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
        """The conditions as the network uses them, [B, ...] each: embedding, tokens, image, ...

        Raises:
            UndiffuseError: a condition that does not fit.
        """
        like = next(self.parameters())
        return self.project(self.conditions.complete(batch, like, condition))

    @abstractmethod
    def project(self, complete: dict[str, Tensor]) -> dict[str, Tensor]:
        """The complete conditions in the widths of the network."""

    @abstractmethod
    def forward(self, c_noise: Tensor, encoded: Encoded) -> Tensor:
        """The embedding [B, width] of the noise levels [B] and the encoded conditions."""


class Conditioning(Embedder):
    """The embedding silu(mlp(features(c_noise)) + row(label) + mlp(vector)), [B, width].

    Tokens are brought to the same width, for attention to them.

    >>> conditioning = Conditioning(16, Conditions(classes=3))
    >>> conditioning(torch.zeros(2), conditioning.encode(2, {})).shape
    torch.Size([2, 16])
    """

    def __init__(
        self, width: int, conditions: Conditions = Conditions(), frequencies: int = 32
    ) -> None:
        super().__init__()
        self.conditions, self.frequencies = conditions, frequencies
        self.linear_1 = nn.Linear(2 * frequencies, width)
        self.linear_2 = nn.Linear(width, width)
        classes, vector, tokens = conditions.classes, conditions.vector, conditions.tokens
        self.rows = nn.Embedding(classes + 1, width) if classes else None  # row 0 is "none"
        self.vector = _perceptron(vector + 1, width) if vector else None
        self.tokens = nn.Linear(tokens + 1, width) if tokens else None

    def project(self, complete: dict[str, Tensor]) -> dict[str, Tensor]:
        """embedding [B, width]; tokens [B, 1 + L, width] with their mask; the image as it is."""
        made = {k: v for k, v in complete.items() if k in {"token_mask", "image"}}
        parts: list[Tensor] = []
        if self.rows is not None:
            parts.append(self.rows(complete["label"] + 1))
        if self.vector is not None:
            parts.append(self.vector(complete["vector"]))
        if parts:
            made["embedding"] = torch.stack(parts).sum(0) if parts[1:] else parts[0]
        if self.tokens is not None:
            made["tokens"] = self.tokens(complete["tokens"])
        return made

    def forward(self, c_noise: Tensor, encoded: Encoded) -> Tensor:
        features = fourier_features(c_noise, self.frequencies).to(self.linear_1.weight.dtype)
        embedding: Tensor = self.linear_2(F.silu(self.linear_1(features)))  # [B, width]
        if "embedding" in encoded:
            embedding = embedding + encoded["embedding"]
        return F.silu(embedding)
