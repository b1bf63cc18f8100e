"""v is the velocity along the circle, in the sense of Salimans & Ho 2022."""

from __future__ import annotations

import math

import torch

from undiffuse.predictions import V
from undiffuse.schedules import Cosine


def test_v_is_the_derivative_of_x_t_by_the_angle() -> None:
    schedule, t = Cosine(), torch.linspace(0, 1, 21, dtype=torch.float64)
    x_0, eps = torch.randn(2, 21, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    by_t = schedule.alpha_rate(t) * x_0 + schedule.sigma_rate(t) * eps
    v = V().target(x_0, eps, schedule.alpha(t), schedule.sigma(t))
    torch.testing.assert_close(v, by_t / (math.pi / 2))
