"""Thresholds: the range of the data, kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import undiffuse as ud
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.errors import UndiffuseError
from undiffuse.guidance import ClassifierFree, DynamicThreshold, StaticThreshold


class Fixed(Denoiser):
    """Answers x_t itself, times a factor."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.schedule, self.factor = ud.schedules.VP(), factor

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        return self.factor * x_t


def pictures(count: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, 4, 4, generator=generator).double() * torch.linspace(
        0.1, 4, count
    ).reshape(-1, 1, 1, 1)


def test_static() -> None:
    x = pictures()
    found = StaticThreshold(Fixed(), -0.5, 0.8)(x, 0.5)
    assert torch.equal(found, x.clamp(-0.5, 0.8))
    inside = (x > -0.5) & (x < 0.8)
    assert torch.equal(found[inside], x[inside])


@given(q=st.floats(0.01, 1), bound=st.floats(0.1, 3))
def test_dynamic_is_the_formula_of_imagen(q: float, bound: float) -> None:
    x = pictures()
    s = np.maximum(np.quantile(x.abs().flatten(1).numpy(), q, axis=1), bound).reshape(-1, 1, 1, 1)
    expected = np.clip(x.numpy(), -s, s) / s * bound
    found = DynamicThreshold(Fixed(), q, bound)(x, 0.5)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-12)
    assert float(found.abs().max()) <= bound * (1 + 1e-12)


def test_dynamic_leaves_alone_what_is_in_range() -> None:
    x = torch.rand(3, 2, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(DynamicThreshold(Fixed(), 0.9)(x, 0.5), x)


def test_dynamic_pulls_inwards_where_static_flattens() -> None:
    x = pictures()[-1:]
    static, dynamic = (g(x, 0.5) for g in (StaticThreshold(Fixed()), DynamicThreshold(Fixed())))
    at_the_edge = [float((v.abs() > 0.999).double().mean()) for v in (static, dynamic)]
    assert at_the_edge[0] > 0.5
    assert at_the_edge[1] < 0.1


def test_half_precision_keeps_its_type() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        x = pictures().to(dtype)
        assert DynamicThreshold(Fixed())(x, 0.5).dtype == dtype


def test_guided_samples_stay_in_range(labelled: Any) -> None:
    """Of weight 8, in a box that the mixture itself hardly leaves."""
    label = torch.tensor([0, 1, 2]).repeat(40)
    guide = ClassifierFree(labelled(), 8.0)
    free = ud.sample(guide, (120, 2), steps=20, label=label)
    assert float(free.abs().max()) > 2
    for threshold in (StaticThreshold(guide, -1.5, 1.5), DynamicThreshold(guide, 0.9, 1.5)):
        x = ud.sample(threshold, (120, 2), "exponential-adams", 20, label=label)  # ends with x0_hat
        assert float(x.abs().max()) <= 1.5 + 1e-6
        assert float(ud.sample(threshold, (120, 2), steps=20, label=label).abs().max()) < 1.6


def test_an_exact_denoiser_never_needs_a_threshold() -> None:
    oracle = ud.exact.FiniteSet(torch.tensor([[-1.0, 0.3], [1.0, -0.2]]), ud.schedules.VP())
    x = 3 * pictures(8)[:, 0, 0, :2]
    for t in (0.1, 0.5, 1.0):
        torch.testing.assert_close(StaticThreshold(oracle)(x, t), oracle(x, t))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StaticThreshold(Fixed(), 1.0, 1.0), "high must be larger than low"),
        (lambda: StaticThreshold(Fixed(), float("nan")), "low must be a finite number"),
        (lambda: DynamicThreshold(Fixed(), 0.0), r"quantile must be in \(0, 1\]"),
        (lambda: DynamicThreshold(Fixed(), 1.1), r"quantile must be in \(0, 1\]"),
        (lambda: DynamicThreshold(Fixed(), 0.9, 0.0), "bound must be a positive number"),
    ],
)
def test_options_out_of_range(make: Any, message: str) -> None:
    with pytest.raises(UndiffuseError, match=message):
        make()
