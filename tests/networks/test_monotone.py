"""The learned schedule: it falls whatever its weights, learns a curve, and freezes into a value."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from undiffuse import catalogue
from undiffuse.errors import UndiffuseError
from undiffuse.networks.monotone import MonotoneLogSNR
from undiffuse.schedules import Cosine, Truncated

T = torch.linspace(0, 1, 201)


@pytest.mark.parametrize("spread", [0.1, 1.0, 5.0])
def test_it_falls_for_any_weights_and_has_its_ends(spread: float) -> None:
    torch.manual_seed(0)
    for _ in range(10):
        learned = MonotoneLogSNR(9.0, -7.0, width=16).double()
        for parameter in (p for p in learned.parameters() if p.ndim):
            nn.init.normal_(parameter, std=spread)
        values = learned(T).detach()
        assert values.shape == T.shape
        assert bool((values.diff() < 0).all())
        assert float(values[0]) == pytest.approx(9, abs=1e-5)
        assert float(values[-1]) == pytest.approx(-7, abs=1e-5)


def test_it_learns_a_given_curve_and_its_ends() -> None:
    torch.manual_seed(0)
    wished = Truncated.to_log_snr(Cosine(), -6.0, 6.0)
    learned = MonotoneLogSNR(4.0, -3.0, width=32)
    adam = torch.optim.Adam(learned.parameters(), lr=0.05)
    for _ in range(400):
        loss = (learned(T) - wished.log_snr(T).float()).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert float(loss.detach()) < 0.03
    frozen, t = learned.freeze(500), T[10:-10].double()
    assert float((frozen.log_snr(t) - wished.log_snr(t)).abs().max()) < 0.25
    assert float(frozen.alpha(0.5)) == pytest.approx(0.5**0.5, abs=0.01)


def test_what_is_frozen_is_a_schedule_and_stays() -> None:
    torch.manual_seed(0)
    learned = MonotoneLogSNR(width=32)
    frozen = learned.freeze(200)
    knots = torch.linspace(0, 1, 201, dtype=torch.float64)
    torch.testing.assert_close(frozen.log_snr(knots).float(), learned(knots), rtol=1e-4, atol=1e-4)
    assert catalogue.build(json.loads(json.dumps(catalogue.describe(frozen)))) == frozen
    with torch.no_grad():
        learned.highest.add_(1)
    assert frozen == frozen.__class__(frozen.log_snrs)
    assert learned.freeze(200) != frozen
    assert next(learned.parameters()).dtype == torch.float32


def test_all_weights_can_be_trained() -> None:
    torch.manual_seed(0)
    learned = MonotoneLogSNR(width=8).double()
    learned(T[1:-1]).square().mean().backward()
    moving = {name for name, p in learned.named_parameters() if float(p.grad.abs().max()) > 1e-9}
    assert moving == {name for name, _ in learned.named_parameters()} - {"linear_3.bias"}


def test_mistakes() -> None:
    with pytest.raises(UndiffuseError, match="highest = -5"):
        MonotoneLogSNR(-5.0, 5.0)
    with pytest.raises(UndiffuseError, match="width must be a whole number"):
        MonotoneLogSNR(width=0)
    with pytest.raises(UndiffuseError, match="knots must be a whole number"):
        MonotoneLogSNR(width=4).freeze(0)
