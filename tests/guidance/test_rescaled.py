"""Rescaled guidance: the contrast of the conditional estimate."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.errors import UndiffuseError
from undiffuse.guidance import ClassifierFree, Rescaled

LABEL = torch.tensor([0, 1, 2, 0, 1, 2])


def stds(x: Tensor) -> Tensor:
    return x.flatten(1).std(1)


@pytest.mark.parametrize("t", [0.05, 0.4, 0.9])
def test_phi_goes_from_the_contrast_of_guidance_to_that_of_the_condition(
    t: float, x: Tensor, labelled: Any
) -> None:
    """The standard deviation over a sample is phi s_c + (1 - phi) s_w, and the direction stays."""
    given, guided = (
        labelled()(x, t, label=LABEL),
        ClassifierFree(labelled(), 5.0)(x, t, label=LABEL),
    )
    for phi in (0.0, 0.3, 1.0):
        found = Rescaled(labelled(), 5.0, phi)(x, t, label=LABEL)
        expected = phi * stds(given) + (1 - phi) * stds(guided)
        torch.testing.assert_close(stds(found), expected, rtol=1e-10, atol=1e-12)
        turned = torch.nn.functional.cosine_similarity(found, guided)
        torch.testing.assert_close(turned, torch.ones(6).double())
    torch.testing.assert_close(Rescaled(labelled(), 5.0, 0.0)(x, t, label=LABEL), guided)


def test_weight_one_is_the_condition_at_any_phi(x: Tensor, labelled: Any) -> None:
    for phi in (0.0, 0.7, 1.0):
        found = Rescaled(labelled(), 1.0, phi)(x, 0.4, label=LABEL)
        torch.testing.assert_close(found, labelled()(x, 0.4, label=LABEL))


def test_samples_without_contrast_stay_finite(shifted: Any) -> None:
    """One number has no standard deviation; nothing is rescaled then."""
    model = shifted(torch.tensor([[1.0], [-1.0]]), 0.5, ud.schedules.VP())
    x, label = torch.zeros(2, 1).double(), torch.tensor([0, 0])
    found = Rescaled(model, 3.0)(x, 0.5, label=label)
    torch.testing.assert_close(found, ClassifierFree(model, 3.0)(x, 0.5, label=label))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, "weight must be a finite number >= 0"),
        ({"weight": 2.0, "phi": 1.1}, r"phi must be in \[0, 1\]"),
        ({"weight": 2.0, "phi": float("nan")}, "phi must be in"),
    ],
)
def test_options_out_of_range(options: dict[str, float], message: str, labelled: Any) -> None:
    with pytest.raises(UndiffuseError, match=message):
        Rescaled(labelled(), **options)


def test_a_label_is_needed(x: Tensor, labelled: Any) -> None:
    with pytest.raises(UndiffuseError, match="needs a label"):
        Rescaled(labelled(), 2.0)(x, 0.5)
