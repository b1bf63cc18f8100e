from __future__ import annotations

import pytest
import torch

from undiffuse.data.dataset import InMemory
from undiffuse.data.open import open_data
from undiffuse.errors import UndiffuseError
from undiffuse.evaluation import classifier, features


def test_real_held_out_digits_are_recognised():
    digits = open_data("digits")
    judge = classifier.fit(digits, digits.held_out)
    assert judge.accuracy >= 0.95
    batch = digits.held_out.batch(range(50))
    assert judge.predict(batch.x).shape == (50,)
    assert (judge.predict(batch.x) == batch.label).float().mean() >= 0.9


def test_without_held_out_data_a_part_of_the_training_data_is_kept_for_the_measurement():
    x = torch.cat([torch.full((50, 2), -1.0), torch.full((50, 2), 1.0)])
    labels = torch.arange(100) // 50
    assert classifier.fit(InMemory(x, labels=labels), None).accuracy == 1
    assert classifier.fit(InMemory(x, labels=torch.arange(100) % 2), None).accuracy < 0.7


def test_larger_images_go_to_the_network(bars, monkeypatch):
    monkeypatch.setattr(features, "STEPS", 12)
    judge = classifier.fit(bars(100, 0), bars(40, 1), seed=3)
    assert judge.kind == "convolutional network"
    assert judge.accuracy >= 0.95
    x = bars(40, 2).batch(range(40)).x
    known = features.learn(bars(100, 0), bars(40, 1), seed=3)
    assert torch.equal(judge.predict(x), known.predict(x))
    given = classifier.fit(bars(100, 0), bars(40, 1), seed=4, features=known)
    assert torch.equal(given.predict(x), known.predict(x))


@pytest.mark.parametrize(
    "labels",
    [
        None,
        torch.zeros(20, dtype=torch.int64),
        (torch.arange(20) == 9).long(),  # the other class is among those kept back
    ],
)
def test_labels_that_do_not_differ_are_refused(labels):
    with pytest.raises(UndiffuseError, match="no labels to tell apart"):
        classifier.fit(InMemory(torch.zeros(20, 2), labels=labels), None)
