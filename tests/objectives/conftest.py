"""A network in float64 whose output depends on all that it is told, and the parts of the losses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from undiffuse import catalogue
from undiffuse.objectives.times.base import Times
from undiffuse.objectives.weights.base import Weight


class Toy(nn.Module):
    """F = tanh(w x + c_noise), of x's shape."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(0.8, dtype=torch.float64))

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        return torch.tanh(self.w * x + c_noise.reshape(-1, *(1,) * (x.ndim - 1)))


@pytest.fixture
def toy() -> nn.Module:
    return Toy()


TIMES = [*catalogue.names("objectives.times"), "uniform(steps=50)"]


@pytest.fixture(params=TIMES)
def times(request: pytest.FixtureRequest) -> Times:
    """Every distribution of times."""
    made: Times = catalogue.parse("objectives.times", request.param)
    return made


@pytest.fixture
def weights() -> list[Weight]:
    """Every weight."""
    known = catalogue.names("objectives.weights")
    return [catalogue.parse("objectives.weights", name) for name in known]
