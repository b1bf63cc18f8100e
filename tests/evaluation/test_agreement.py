"""How well samples agree that were made in two ways."""

from __future__ import annotations

import pytest
import torch

from undiffuse.evaluation.agreement import Agreement


def test_images_are_compared_as_pixels_too() -> None:
    """Of 200 values one moves by less than half a pixel's width, and one by half a unit."""
    reference = torch.arange(200).div(127.5).sub(1).reshape(2, 1, 10, 10)  # in the middle of pixels
    x = reference.clone()
    x[0, 0, 3, 3] += 0.3 / 127.5
    assert Agreement.of(x, reference).pixels == 1.0
    x[1, 0, 2, 2] -= 0.5
    found = Agreement.of(x, reference)
    assert found.count == 2
    assert found.largest == pytest.approx(0.5)
    assert found.pixels == pytest.approx(199 / 200)
    assert str(found) == "at most 0.5 apart, 99.50 % of pixels equal"


def test_vectors_have_no_pixels() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    found = Agreement.of(x + 1e-3, x)
    assert found.pixels is None
    assert str(found) == "at most 0.001 apart"
