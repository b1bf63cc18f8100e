"""Expectations over x_0 ~ N(MEAN, STD^2) and eps ~ N(0, 1) without sampling."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

MEAN, STD = 0.5, 0.6
NLL = math.log(2 * math.pi * math.e * STD**2) / 2  # entropy: the least that any model can pay


class Quadrature(NamedTuple):
    """Nodes of x_0 and eps, [9, 1] each, and their weights [9]: exact for polynomials to degree 5.

    With a Gaussian's denoiser every term of a bound is a polynomial of degree 2 in them.
    """

    x_0: Tensor
    noise: Tensor
    weights: Tensor

    def mean(self, values: Tensor) -> float:
        """E of values [..., 9]."""
        return float((values * self.weights).sum(-1).sum())


@pytest.fixture(scope="session")
def exact() -> Quadrature:
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(3))
    weights = weights / weights.sum()
    a, b = (v.reshape(-1, 1) for v in torch.meshgrid(nodes, nodes, indexing="ij"))
    return Quadrature(MEAN + STD * a, b, torch.outer(weights, weights).flatten())
