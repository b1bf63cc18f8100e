"""EDM's network: table 1 of Karras et al. 2022, and unit variance on both sides."""

from __future__ import annotations

import pytest
import torch

from undiffuse.predictions import EDMNetwork, V

SIGMA = torch.logspace(-3, 3, 25, dtype=torch.float64)
ONE = torch.ones_like(SIGMA)


def test_the_coefficients_printed_by_karras() -> None:
    s, d = 0.5, EDMNetwork()
    torch.testing.assert_close(d.skip(ONE, SIGMA), s**2 / (SIGMA**2 + s**2))
    torch.testing.assert_close(d.out(ONE, SIGMA), SIGMA * s / torch.sqrt(s**2 + SIGMA**2))
    torch.testing.assert_close(d.scale(ONE, SIGMA), 1 / torch.sqrt(s**2 + SIGMA**2))


@pytest.mark.parametrize("sigma_data", [0.1, 0.5, 1.0, 3.0])
def test_the_target_has_unit_variance(sigma_data: float) -> None:
    """x_0 and eps are independent with variances sigma_data^2 and 1."""
    d = EDMNetwork(sigma_data=sigma_data)
    for alpha, sigma in ((ONE, SIGMA), (0.3 * ONE, SIGMA), (SIGMA / 1e3, ONE)):
        zero = torch.zeros_like(sigma)
        on_x_0, on_eps = d.target(ONE, zero, alpha, sigma), d.target(zero, ONE, alpha, sigma)
        variance = (on_x_0 * sigma_data) ** 2 + on_eps**2
        torch.testing.assert_close(variance, ONE, rtol=1e-12, atol=0)


def test_with_sigma_data_1_it_is_minus_v() -> None:
    x_0, eps = torch.randn(2, 25, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    edm = EDMNetwork(sigma_data=1.0).target(x_0, eps, 0.4 * ONE, SIGMA)
    torch.testing.assert_close(edm, -V().target(x_0, eps, 0.4 * ONE, SIGMA))
