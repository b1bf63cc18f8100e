from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from undiffuse.reports import charts

SPACE = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1))


@given(st.lists(st.floats(1e-12, 1e12), min_size=1, max_size=50))
def test_any_losses_make_a_chart_that_stays_inside_its_frame(losses):
    root = parsed(charts.loss_chart(range(1, len(losses) + 1), losses))
    lines = root.findall(f"{SPACE}polyline")
    assert len(lines) == 2
    for line in lines:
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert charts.LEFT <= x <= charts.WIDTH - charts.RIGHT
            assert charts.TOP <= y <= charts.HEIGHT - charts.BOTTOM


def test_a_smaller_loss_lies_lower_and_what_has_no_logarithm_is_left_out():
    root = parsed(charts.loss_chart([1, 2, 3, 4], [1.0, math.nan, 0.0, 0.1]))
    raw = root.findall(f"{SPACE}polyline")[0].attrib["points"].split()
    heights = [float(point.split(",")[1]) for point in raw]
    assert len(heights) == 2
    assert heights[0] < heights[1]  # SVG counts downwards
    assert charts.loss_chart([1], [0.0]) == ""


def test_long_curves_are_drawn_with_few_points():
    svg = charts.loss_chart(range(50_000), np.linspace(1, 0.1, 50_000).tolist())
    assert len(svg) < 40_000


@given(st.floats(1e-9, 1e9), st.floats(1.11, 1e6))
def test_logarithmic_ticks_lie_inside_and_rise(low, factor):
    found = charts.log_ticks(low, low * factor)
    assert 1 <= len(found) <= 12
    assert all(low * (1 - 1e-6) <= v <= low * factor * (1 + 1e-6) for v in found)
    assert found == sorted(set(found))


def test_moving_average_of_a_constant_is_the_constant():
    np.testing.assert_allclose(charts.moving_average(np.full(30, 2.5), 7), 2.5)
