"""Several conditions composed: exact on Gaussians, a sum of scores on mixtures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.errors import UndiffuseError
from undiffuse.guidance import ClassifierFree, Composed

LABEL = torch.tensor([[0, 1], [1, 2], [2, 0], [0, -1], [-1, 1], [-1, -1]])
MEANS = torch.tensor([[1.0, 0.0], [0.2, 1.5], [-0.4, -0.3]]).double()  # the last: no label


@pytest.mark.parametrize("weights", [(1.0, 1.0), (2.0, -0.5), (0.0, 3.0)])
def test_on_gaussians_it_is_the_product_of_experts(weights: Any, shifted: Any, x: Tensor) -> None:
    """p(x) prod (p(x | c_i) / p(x))^w_i is the Gaussian of mean m + sum w_i (m_i - m)."""
    for schedule in (ud.schedules.VP(), ud.schedules.EDM(), ud.schedules.Flow()):
        model = shifted(MEANS, 0.5, schedule)
        null = MEANS[-1]
        product = model.with_mean(
            null + weights[0] * (MEANS[0] - null) + weights[1] * (MEANS[1] - null)
        )
        label = torch.tensor([[0, 1]]).expand(6, 2)
        for t in (0.2, 0.7, 1.0):
            found = Composed(model, weights)(x, t, label=label)
            torch.testing.assert_close(found, product(x, t), rtol=1e-9, atol=1e-9)


def test_the_samples_of_a_product_of_gaussians(shifted: Any) -> None:
    """Mean and width of 4,096 samples, within four standard errors."""
    model = shifted(MEANS, 0.5, ud.schedules.VP())
    label = torch.tensor([[0, 1]]).expand(4096, 2)
    x = ud.sample(Composed(model, (1.0, 1.0)), (4096, 2), steps=30, label=label).double()
    mean = MEANS[0] + MEANS[1] - MEANS[2]
    assert float((x.mean(0) - mean).abs().max()) < 4 * 0.5 / 64
    assert float((x.std(0) / 0.5 - 1).abs().max()) < 4 / (2 * 4096) ** 0.5


def test_on_mixtures_it_is_a_sum_of_scores(labelled: Any, x: Tensor) -> None:
    w = (1.5, -0.7)
    for t in (0.1, 0.5, 0.9):
        null = labelled().score(x, t)
        expected = null
        for weight, column in zip(w, LABEL.unbind(1), strict=True):
            expected = expected + weight * (labelled().score(x, t, label=column) - null)
        found = Composed(labelled(), w).score(x, t, label=LABEL)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_one_condition_is_classifier_free_guidance(labelled: Any, x: Tensor) -> None:
    label = torch.tensor([0, 1, 2, 0, 1, 2])
    found = Composed(labelled(), [2.5])(x, 0.4, label=label[:, None])
    torch.testing.assert_close(found, ClassifierFree(labelled(), 2.5)(x, 0.4, label=label))


def test_one_batched_call(labelled: Any, recording: Any, x: Tensor) -> None:
    model = recording(labelled())
    Composed(model, (1.0, 2.0))(x, 0.5, label=LABEL)
    ((asked, _, condition),) = model.asked
    assert asked.shape == (18, 2)
    expected = torch.cat([torch.full((6,), -1), LABEL[:, 0], LABEL[:, 1]])
    assert torch.equal(condition["label"], expected)


@pytest.mark.parametrize("weights", [(), (1.0, float("inf")), (float("nan"),)])
def test_impossible_weights_are_refused(weights: Any, labelled: Any) -> None:
    with pytest.raises(UndiffuseError, match="weights must be finite numbers"):
        Composed(labelled(), weights)


@pytest.mark.parametrize("label", [None, LABEL[:, 0], LABEL[:4], LABEL[:, :1]])
def test_labels_of_another_shape_are_refused(label: Any, labelled: Any, x: Tensor) -> None:
    with pytest.raises(UndiffuseError, match=r"label must be \[6, 2\] here, one column for each"):
        Composed(labelled(), (1.0, 1.0))(x, 0.5, label=label)
