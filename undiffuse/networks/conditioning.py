"""What a network is told beside x: how noisy it is, and what it should show.

The noise level comes as one number per sample, c_noise = -log_snr / 8 (a quarter of the logarithm
of sigma/alpha), never as the index of a step: a network then serves every schedule and every number
of steps. Sines and cosines of it at fixed frequencies make differences between levels visible to a
small network that turns them into the embedding.

A class is a row of a table, added to the embedding. "No class" is a row of its own, which is what
classifier-free guidance compares with (Ho and Salimans, 2022, arXiv:2207.12598).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.errors import UndiffuseError
from undiffuse.networks.checks import check_labels

LONGEST, SHORTEST = 16.0, 0.25  # periods in c_noise: all log-SNRs in use, and a step of 2 in them


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


class Conditioning(nn.Module):
    """The embedding of noise level and class: silu(mlp(features(c_noise)) + row(label)).

    c_noise is [B]; label is int64 [B] in -1 ... classes - 1, where -1, or no label at all, means
    "no class". The result is [B, width].
    """

    def __init__(self, width: int, classes: int = 0, frequencies: int = 32) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.linear_1 = nn.Linear(2 * frequencies, width)
        self.linear_2 = nn.Linear(width, width)
        self.rows = nn.Embedding(classes + 1, width) if classes else None  # row 0 is "no class"

    def forward(self, c_noise: Tensor, label: Tensor | None = None) -> Tensor:
        """Embed the noise levels and the labels.

        Raises:
            UndiffuseError: a label for a network without classes, or labels that are not integers
                of shape [B] in range.
        """
        features = fourier_features(c_noise, self.frequencies).to(self.linear_1.weight.dtype)
        embedding: Tensor = self.linear_2(F.silu(self.linear_1(features)))  # [B, width]
        if self.rows is not None:
            if label is None:
                label = c_noise.new_full(c_noise.shape, -1, dtype=torch.int64)
            check_labels(label, self.rows.num_embeddings - 1, len(c_noise))
            embedding = embedding + self.rows(label + 1)
        elif label is not None:
            raise UndiffuseError("this network has no classes (classes=0): leave the label away")
        return F.silu(embedding)
