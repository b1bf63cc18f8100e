r"""The Frechet distance: that of the two normal distributions with the clouds' moments.

    d^2 = |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1^(1/2) C_2 C_1^(1/2))^(1/2))

It is the squared 2-Wasserstein distance of N(m_1, C_1) and N(m_2, C_2), and sees nothing beyond
the first two moments. From finitely many points it is too large by about K/M + K/N, with a K that
depends on the distributions: compare only figures of equal M.

Sources: Dowson and Landau 1982; Heusel et al. 2017 (arXiv 1706.08500), with features of a network;
on the bias Chong and Forsyth 2020 (arXiv 1911.07023).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from undiffuse.metrics.base import Metric


@dataclass(frozen=True)
class Frechet(Metric):
    """Squared Frechet distance of the normal distributions with the points' means and covariances.

    Source: Heusel et al. 2017 (arXiv 1706.08500).

    >>> x = torch.tensor([[0.0], [2.0]])
    >>> Frechet()(x, x + 3.0)
    9.0
    """

    name: ClassVar[str] = "frechet"
    better: ClassVar[Literal["lower", "higher"]] = "lower"
    reference: ClassVar[int | None] = 100_000

    def measure(self, generated: Tensor, real: Tensor) -> float:
        return frechet_distance(*moments(generated), *moments(real))


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [D] and unbiased covariance [D, D] of points [N, D], N >= 2, float64."""
    x = x.double()
    mean = x.mean(0)
    centred = x - mean
    return mean, centred.T @ centred / (len(x) - 1)


def frechet_distance(mean_1: Tensor, cov_1: Tensor, mean_2: Tensor, cov_2: Tensor) -> float:
    """d^2 of two normal distributions with means [D] and covariances [D, D], never negative.

    >>> one, eye = torch.ones(3), torch.eye(3)
    >>> round(frechet_distance(0 * one, eye, 0 * one, 4 * eye), 12)
    3.0
    """
    mean_1, cov_1, mean_2, cov_2 = (v.double() for v in (mean_1, cov_1, mean_2, cov_2))
    half = square_root(cov_1)
    # the eigenvalues of C_1^(1/2) C_2 C_1^(1/2) are those of C_1 C_2
    cross = torch.linalg.eigvalsh(half @ cov_2 @ half).clamp(min=0).sqrt().sum()
    distance = (mean_1 - mean_2).square().sum() + cov_1.trace() + cov_2.trace() - 2 * cross
    return max(0.0, float(distance))


def square_root(cov: Tensor) -> Tensor:
    """The symmetric square root of a covariance [D, D], which may be singular."""
    values, vectors = torch.linalg.eigh(cov)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
