"""Classifier guidance with the exact classifier: Bayes' rule, to rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.errors import UndiffuseError
from undiffuse.guidance import ClassifierFree, ClassifierGuided, LikelihoodGuide
from undiffuse.schedules.base import Schedule

LABEL = torch.tensor([0, 1, 2, 0, 1, 2])


def test_the_exact_classifier_gives_the_exact_conditional_score(
    schedule: Schedule, labelled: Any, classifier: Any, x: Tensor
) -> None:
    """grad log p(x_t) + grad log p(y | x_t) = grad log p(x_t | y), under every schedule."""
    oracle = labelled(schedule)
    guide = ClassifierGuided(oracle, classifier(schedule))
    for log_snr in (4.0, 0.0, -4.0):
        t = schedule.t_from_log_snr(log_snr)
        scale = torch.hypot(schedule.alpha(t), schedule.sigma(t))
        found = guide.score(scale * x, t, label=LABEL)
        expected = oracle.score(scale * x, t, label=LABEL)
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(
            guide(scale * x, t, label=LABEL), oracle(scale * x, t, label=LABEL)
        )


@pytest.mark.parametrize("w", [0.0, 1.0, 4.0])
def test_any_weight_is_classifier_free_guidance_of_that_weight(
    w: float, labelled: Any, classifier: Any, x: Tensor
) -> None:
    """log p(y | x_t) = log p(x_t | y) - log p(x_t) + constant: an implicit classifier."""
    for t in (0.1, 0.5, torch.linspace(0.1, 1.0, 6)):
        found = ClassifierGuided(labelled(), classifier(), w)(x, t, label=LABEL)
        expected = ClassifierFree(labelled(), w)(x, t, label=LABEL)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_samples_are_those_of_the_label(labelled: Any, classifier: Any) -> None:
    for sampler in ("exponential-adams", "ddpm"):
        guided = ud.sample(
            ClassifierGuided(labelled(), classifier()), (6, 2), sampler, steps=15, label=LABEL
        )
        exact = ud.sample(labelled(), (6, 2), sampler, steps=15, label=LABEL)
        torch.testing.assert_close(guided, exact, rtol=0, atol=1e-6)


def test_no_label_guides_nowhere_and_the_denoiser_never_sees_one(
    labelled: Any, classifier: Any, recording: Any, x: Tensor
) -> None:
    model = recording(labelled())
    label = torch.tensor([-1, 1, -1, 0, -1, 2])
    found = ClassifierGuided(model, classifier(), 3.0)(x, 0.4, label=label)
    torch.testing.assert_close(found[::2][:2], labelled()(x, 0.4)[::2][:2])
    assert [condition for _, _, condition in model.asked] == [{}]


def test_a_conditional_model_with_a_classifier(labelled: Any, classifier: Any, x: Tensor) -> None:
    """Through the general form: p(x | y) p(y | x)^w, so classifier-free guidance of w + 1."""
    judge = classifier()

    def log_p(x_t: Tensor, t: Tensor, x0_hat: Tensor) -> Tensor:
        return judge(x_t, t).gather(1, LABEL[:, None])[:, 0]

    found = LikelihoodGuide(labelled(), log_p, weight=1.5)(x, 0.4, label=LABEL)
    torch.testing.assert_close(found, ClassifierFree(labelled(), 2.5)(x, 0.4, label=LABEL))


def test_mistakes(labelled: Any, classifier: Any, x: Tensor) -> None:
    with pytest.raises(UndiffuseError, match="weight must be a finite number >= 0"):
        ClassifierGuided(labelled(), classifier(), -1.0)
    guide = ClassifierGuided(labelled(), classifier())
    with pytest.raises(UndiffuseError, match="classifier guidance needs a label"):
        guide(x, 0.5)
    with pytest.raises(UndiffuseError, match="the classifier knows labels 0 to 2, not 3"):
        guide(x, 0.5, label=LABEL + 1)
    flow = ud.schedules.Flow()
    with pytest.raises(UndiffuseError, match="a gradient cannot guide"):
        ClassifierGuided(labelled(flow), classifier(flow))(x, 1.0, label=LABEL)
