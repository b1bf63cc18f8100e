"""What holds for every metric of the catalogue."""

from __future__ import annotations

import math

import pytest
import torch

from undiffuse import catalogue
from undiffuse.errors import UndiffuseError
from undiffuse.metrics.base import Metric

NAMES = catalogue.names("metrics")


@pytest.fixture(params=NAMES)
def metric(request) -> Metric:
    return catalogue.build(request.param, "metrics")


def rotation(size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    q, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    return q


def test_the_family_is_whole():
    assert {"frechet", "kernel", "precision", "recall", "density", "coverage"} <= set(NAMES)


def test_it_survives_json(metric):
    assert catalogue.build(catalogue.describe(metric)) == metric


def test_neither_order_nor_rotation_matters(metric, normal):
    a, b = normal(60, 3, 0) + 0.3, normal(80, 3, 1)
    found, q = metric(a, b), rotation(3)
    assert math.isfinite(found)
    assert abs(metric(a.flip(0), b.roll(5, 0)) - found) < 1e-9
    assert abs(metric(a @ q, b @ q) - found) < 1e-9


def test_samples_far_away_are_worse_than_real_ones(metric, normal):
    real, other, far = normal(100, 4, 0), normal(100, 4, 1), normal(100, 4, 2) + 2.0
    worse = metric(far, real) - metric(other, real)
    assert worse > 0.1 if metric.better == "lower" else worse < -0.1


def test_any_shape_and_type_of_samples_is_taken(metric, normal):
    a, b = normal(12, 12, 0), normal(12, 12, 1)
    shaped = metric(a.reshape(12, 3, 2, 2).float(), b.float())
    assert abs(shaped - metric(a.float().double(), b.float().double())) < 1e-12


def test_what_cannot_be_measured_is_refused(metric, normal):
    few = normal(metric.least - 1, 2, 0)
    with pytest.raises(UndiffuseError, match=f"at least {metric.least} generated"):
        metric(few, normal(9, 2, 1))
    with pytest.raises(UndiffuseError, match=f"at least {metric.least} real"):
        metric(normal(9, 2, 1), few)
    with pytest.raises(UndiffuseError, match="both must be equal"):
        metric(normal(9, 2, 0), normal(9, 3, 0))
    broken = normal(9, 2, 0)
    broken[3, 1] = math.nan
    with pytest.raises(UndiffuseError, match="not finite"):
        metric(broken, normal(9, 2, 1))
