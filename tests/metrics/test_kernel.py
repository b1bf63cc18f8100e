from __future__ import annotations

import torch

from undiffuse.metrics import kernel
from undiffuse.metrics.kernel import Kernel


def test_it_is_the_sum_over_pairs(normal, monkeypatch):
    x, y = normal(6, 3, 0), normal(8, 3, 1)

    def k(a: torch.Tensor, b: torch.Tensor) -> float:
        return (float(a @ b) / 3 + 1) ** 3

    def own(z: torch.Tensor) -> float:
        pairs = [k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]
        return sum(pairs) / len(pairs)

    exact = own(x) + own(y) - 2 * sum(k(a, b) for a in x for b in y) / 48
    for rows in (1, 5, 1000):
        monkeypatch.setattr(kernel, "ROWS", rows)
        assert abs(Kernel()(x, y) - exact) < 1e-12


def test_numbers_agree_with_the_moments(normal):
    """In one dimension E (x y + 1)^3 = 1 + 3 E[x] E[y] + 3 E[x^2] E[y^2] + E[x^3] E[y^3]."""
    shift = 0.5  # of N(shift, 1): E[x^2] = 1 + shift^2, E[x^3] = 3 shift + shift^3
    second, third = 1 + shift**2, 3 * shift + shift**3
    exact = 3 * shift**2 + 3 * (second - 1) ** 2 + third**2
    found = Kernel()(normal(4000, 1, 0) + shift, normal(4000, 1, 1))
    assert abs(found - exact) < 0.15 * exact


def test_it_has_no_bias(normal):
    """For equal distributions the mean is 0 however few the points, within 4 standard errors."""
    found = torch.tensor([Kernel()(normal(10, 2, 2 * i), normal(10, 2, 2 * i + 1))
                          for i in range(300)])  # fmt: skip
    assert abs(float(found.mean())) < 4 * float(found.std()) / 300**0.5
    assert float(found.min()) < 0 < float(found.max())
