"""Asking together, and Tweedie's formula after Bayes' rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.errors import UndiffuseError
from undiffuse.guidance.base import Combination, tilted


class Three(Combination):
    """The sum of what is said under the labels 0, 2 and -1."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def conditions(
        self, batch: int, condition: dict[str, Condition]
    ) -> Sequence[dict[str, Condition]]:
        return [{**condition, "label": torch.full((batch,), k)} for k in (0, 2, -1)]

    def combine(self, t: Tensor, estimates: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(estimates)).sum(0)


@pytest.mark.parametrize("t", [torch.tensor(0.3), torch.linspace(0.1, 0.9, 6)])
def test_one_call_for_several_conditions(
    t: Tensor, x: Tensor, labelled: Any, recording: Any
) -> None:
    model = recording(labelled())
    found = Three(model)(x, t.double(), mask=None)
    ((asked, times, condition),) = model.asked
    assert asked.shape == (18, 2)
    assert condition["mask"] is None
    assert times.shape == (() if t.ndim == 0 else (18,))
    alone = [labelled()(x, t, label=torch.full((6,), k)) for k in (0, 2, -1)]
    torch.testing.assert_close(found, torch.stack(alone).sum(0))


def test_tilted_is_the_denoiser_of_the_tilted_density(x: Tensor) -> None:
    """exp(b . x_t) times a Gaussian p_t has the mean moved by V b, whose denoiser is known."""
    for schedule in (ud.schedules.VP(), ud.schedules.EDM(), ud.schedules.Flow()):
        t, b = torch.tensor(0.4, dtype=torch.float64), torch.tensor([0.7, -0.2]).double()
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        oracle = ud.exact.Gaussian(torch.zeros(2), schedule, std=0.5)
        width = alpha**2 * 0.25 + sigma**2
        score = -(x - width * b) / width
        expected = (x + sigma**2 * score) / alpha
        found = tilted(schedule, oracle(x, t), t, b.expand(6, 2))
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_a_gradient_cannot_guide_pure_noise(x: Tensor) -> None:
    flow = ud.schedules.Flow()
    with pytest.raises(UndiffuseError, match=r"at t = 1\.0 of flow alpha is 0"):
        tilted(flow, x, torch.ones((), dtype=torch.float64), x)
