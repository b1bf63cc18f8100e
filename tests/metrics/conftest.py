from __future__ import annotations

from collections.abc import Callable

import pytest
import torch


@pytest.fixture
def normal() -> Callable[..., torch.Tensor]:
    """Standard normal points [N, D], float64, a function of the seed."""

    def draw(count: int, size: int, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(count, size, generator=generator, dtype=torch.float64)

    return draw
