from __future__ import annotations

import math

from undiffuse.metrics.energy import Energy


def test_equal_clouds_have_no_distance_and_it_is_symmetric(normal):
    x, y = normal(20, 1, 0), normal(25, 1, 1) + 0.3
    assert abs(Energy()(x, x)) < 1e-12
    assert abs(Energy()(x, y) - Energy()(y, x)) < 1e-12
    assert Energy()(x, y) > 0


def test_shifted_normals_agree_with_the_closed_form(normal):
    shift = 2.0  # E|Z| for Z ~ N(m, 2) is 2/sqrt(pi) exp(-m^2/4) + m erf(m/2)
    between = 2 / math.sqrt(math.pi) * math.exp(-(shift**2) / 4) + shift * math.erf(shift / 2)
    exact = 2 * between - 4 / math.sqrt(math.pi)
    found = Energy()(normal(4000, 1, 0), normal(4000, 1, 1) + shift)
    assert abs(found - exact) < 0.05 * exact
