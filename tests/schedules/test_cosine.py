"""Cosine: the circle between data and noise."""

from __future__ import annotations

import math

import torch

from undiffuse.schedules import Cosine


def test_it_is_a_quarter_circle_with_exact_ends() -> None:
    schedule, t = Cosine(), torch.linspace(0, 1, 101, dtype=torch.float64)
    assert schedule.alpha(torch.tensor([0.0, 1.0])).tolist() == [1, 0]
    assert schedule.sigma(torch.tensor([0.0, 1.0])).tolist() == [0, 1]
    ones = torch.ones_like(t)
    torch.testing.assert_close(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, ones)
    torch.testing.assert_close(schedule.alpha(t), torch.cos(math.pi / 2 * t), rtol=0, atol=1e-15)


def test_log_snr_is_accurate_close_to_noise() -> None:
    gap = torch.tensor([1e-3, 2**-30], dtype=torch.float64)
    expected = 2 * torch.tan(math.pi / 2 * gap).log()
    torch.testing.assert_close(Cosine().log_snr(1 - gap), expected, rtol=1e-12, atol=0)
