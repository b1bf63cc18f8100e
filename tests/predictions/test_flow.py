"""u = eps - x_0 is the velocity of the straight line."""

from __future__ import annotations

import torch

from undiffuse.exact import Gaussian
from undiffuse.predictions import FlowVelocity
from undiffuse.schedules import Flow


def test_under_the_flow_schedule_u_is_the_velocity_of_the_ode() -> None:
    oracle, t = Gaussian(torch.tensor([0.4, -1.0]), Flow(), std=0.6), torch.tensor([0.2, 0.9])
    x = torch.randn(2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    alpha, sigma = Flow().alpha(t)[:, None], Flow().sigma(t)[:, None]
    u = FlowVelocity().target(oracle(x, t), oracle.noise(x, t), alpha, sigma)
    torch.testing.assert_close(oracle.velocity(x, t), u)
