from __future__ import annotations

import pytest
import torch

from undiffuse.data.dataset import InMemory
from undiffuse.data.open import open_data
from undiffuse.errors import UndiffuseError
from undiffuse.evaluation import classifier


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


def bars(count: int, seed: int) -> InMemory:
    """Grey images of 20x40 with a bright upper or lower half in noise."""
    labels = torch.arange(count) % 2
    pixels = torch.rand(count, 20, 40, 1, generator=torch.Generator().manual_seed(seed)) * 100
    for half in (0, 1):
        pixels[labels == half, 10 * half : 10 * half + 10] += 60
    return InMemory(pixels.to(torch.uint8), labels=labels, class_names=("upper", "lower"))


def test_larger_images_go_to_a_network_that_the_seed_decides(monkeypatch):
    monkeypatch.setattr(classifier, "STEPS", 12)
    state = torch.get_rng_state()
    judges = [classifier.fit(bars(100, 0), bars(40, 1), seed=3) for _ in range(2)]
    assert torch.equal(state, torch.get_rng_state())
    assert judges[0].kind == "convolutional network"
    assert judges[0].accuracy == judges[1].accuracy >= 0.95
    x = bars(40, 2).batch(range(40)).x
    assert torch.equal(judges[0].predict(x), judges[1].predict(x))


def test_a_network_judge_learns_any_shape_of_image(monkeypatch):
    monkeypatch.setattr(classifier, "STEPS", 2)
    x = torch.randint(256, (30, 70, 17, 3), dtype=torch.uint8)
    dataset = InMemory(x, labels=torch.arange(30) % 3)
    judge = classifier.fit(dataset, None)
    assert set(judge.predict(dataset.batch(range(30)).x).tolist()) <= {0, 1, 2}


@pytest.mark.parametrize("labels", [None, torch.zeros(20, dtype=torch.int64)])
def test_labels_that_do_not_differ_are_refused(labels):
    with pytest.raises(UndiffuseError, match="no labels to tell apart"):
        classifier.fit(InMemory(torch.zeros(20, 2), labels=labels), None)


def test_spread_is_even_and_keeps_what_is_few():
    assert classifier.spread(torch.arange(10), 5).tolist() == [0, 2, 4, 6, 8]
    assert classifier.spread(torch.arange(3), 5).tolist() == [0, 1, 2]
    assert classifier.spread(torch.arange(0), 5).tolist() == []
