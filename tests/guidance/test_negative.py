"""A negative condition: the line from the unwanted estimate through the wanted one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.errors import UndiffuseError
from undiffuse.guidance import ClassifierFree, Negative

LABEL = torch.tensor([0, 1, 2, 0, 1, 2])
OTHER = torch.tensor([1, 2, 0, 2, 0, 1])


@pytest.mark.parametrize("w", [0.0, 1.0, 3.5])
def test_the_formula(w: float, x: Tensor, labelled: Any) -> None:
    for t in (0.1, 0.6, 1.0):
        found = Negative(labelled(), w)(x, t, label=LABEL, negative_label=OTHER)
        given, unwanted = (labelled()(x, t, label=k) for k in (LABEL, OTHER))
        torch.testing.assert_close(found, unwanted + w * (given - unwanted))


def test_no_label_as_the_negative_is_classifier_free_guidance(x: Tensor, labelled: Any) -> None:
    null = torch.full_like(LABEL, -1)
    found = Negative(labelled(), 2.5)(x, 0.4, label=LABEL, negative_label=null)
    assert torch.equal(found, ClassifierFree(labelled(), 2.5)(x, 0.4, label=LABEL))


def test_on_gaussians_of_one_covariance_it_is_the_gaussian_beyond(shifted: Any) -> None:
    """The guided denoiser is that of the mean m_n + w (m_c - m_n), and so are its samples."""
    means = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]).double()
    model = shifted(means, 0.5, ud.schedules.VP())
    beyond = model.with_mean(means[1] + 2.5 * (means[0] - means[1]))
    label, other = torch.zeros(8, dtype=torch.int64), torch.ones(8, dtype=torch.int64)
    found = ud.sample(Negative(model, 2.5), (8, 2), steps=10, label=label, negative_label=other)
    torch.testing.assert_close(found, ud.sample(beyond, (8, 2), steps=10))


def test_one_batched_call(x: Tensor, labelled: Any, recording: Any) -> None:
    """What has no negative is the same for both; weight 1 asks for the condition alone."""
    model = recording(labelled())
    text = torch.arange(6.0)
    Negative(model, 2.0)(x, 0.5, label=LABEL, negative_label=OTHER, text=text)
    ((asked, _, condition),) = model.asked
    assert asked.shape == (12, 2)
    assert torch.equal(condition["label"], torch.cat([LABEL, OTHER]))
    assert torch.equal(condition["text"], torch.cat([text, text]))
    assert set(condition) == {"label", "text"}
    Negative(model, 1.0)(x, 0.5, label=LABEL, negative_label=OTHER)
    assert len(model.asked[1][0]) == 6


@pytest.mark.parametrize(
    "condition",
    [
        {},
        {"label": LABEL},
        {"negative_label": LABEL},
        {"label": LABEL, "negative_label": None},
        {"label": LABEL, "negative_text": LABEL},
    ],
)
def test_a_negative_stands_beside_a_positive(condition: Any, x: Tensor, labelled: Any) -> None:
    with pytest.raises(UndiffuseError, match=r"give (label|text) and negative_\1$"):
        Negative(labelled(), 2.0)(x, 0.5, **condition)


def test_impossible_weights_are_refused(labelled: Any) -> None:
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UndiffuseError, match="weight must be a finite number >= 0"):
            Negative(labelled(), weight)
