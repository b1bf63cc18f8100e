"""Weights as functions of log-SNR."""

from __future__ import annotations

import math

import pytest
import torch

from undiffuse import catalogue
from undiffuse.errors import UndiffuseError
from undiffuse.objectives.weights.base import Weight
from undiffuse.objectives.weights.edm import EDM
from undiffuse.objectives.weights.simple import Simple
from undiffuse.predictions.edm import EDMNetwork


def test_simple_is_one() -> None:
    log_snr = torch.linspace(-60, 60, 7, dtype=torch.float64)
    assert torch.equal(Simple().log_weight(log_snr), torch.zeros_like(log_snr))


@pytest.mark.parametrize("sigma_data", [0.1, 0.5, 3.0])
def test_edm_is_the_papers_weight_of_the_data_error(sigma_data: float) -> None:
    """w sigma^-2 |x0_hat - x_0|^2 = lambda(sigma) |x0_hat - x_0|^2, with alpha = 1."""
    sigma = torch.logspace(-3, 3, 13, dtype=torch.float64)
    w = EDM(sigma_data).log_weight(-2 * sigma.log()).exp()
    table_1 = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
    torch.testing.assert_close(w / sigma**2, table_1, rtol=1e-12, atol=0)


def test_edm_is_the_plain_loss_of_edm_s_network() -> None:
    log_snr = torch.linspace(-60, 60, 25, dtype=torch.float64)
    gain = EDMNetwork(0.3).log_gain(log_snr, torch.ones_like(log_snr))
    total = EDM(0.3).log_weight(log_snr) + 2 * gain
    torch.testing.assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-12)


def test_weights_are_finite_where_the_objective_asks(weights: list[Weight]) -> None:
    log_snr = torch.tensor([-60.0, 0.0, 60.0], dtype=torch.float64)
    for weight in weights:
        assert bool(weight.log_weight(log_snr).isfinite().all()), weight
        assert weight.log_weight(log_snr).shape == (3,)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, True])
def test_sigma_data_is_positive(value: float) -> None:
    with pytest.raises(UndiffuseError, match=r"sigma_data must be (positive|a number)"):
        catalogue.build({"name": "edm", "sigma_data": value}, "objectives.weights")
