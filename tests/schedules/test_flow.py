"""Flow: the straight line."""

from __future__ import annotations

import torch

from undiffuse.schedules import Flow


def test_x_t_is_the_line_from_data_to_noise() -> None:
    schedule, t = Flow(), torch.linspace(0, 1, 11, dtype=torch.float64)
    assert bool((schedule.alpha(t) + schedule.sigma(t) == 1).all())
    assert bool((schedule.alpha_rate(t) == -1).all())
    assert bool((schedule.sigma_rate(t) == 1).all())
    assert schedule.alpha(1.0) == schedule.sigma(0.0) == 0


def test_the_noise_level_is_a_new_tensor() -> None:
    t = torch.tensor([0.5], dtype=torch.float64)
    Flow().sigma(t).zero_()
    assert t.item() == 0.5
