from __future__ import annotations

import math

import pytest
import torch

from undiffuse.data.dataset import InMemory
from undiffuse.data.open import open_data
from undiffuse.evaluation import neighbours


def test_training_images_are_their_own_nearest_neighbours():
    digits = open_data("digits")
    at = torch.arange(0, len(digits), 40)
    found = neighbours.nearest(digits.batch(at).x, digits)
    assert float(found.distance.max()) == 0
    assert torch.equal(found.index, at)


def test_distances_are_root_mean_squares_whatever_the_size_of_the_parts(monkeypatch):
    known = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    every = (x[:, None] - known[None]).double().square().mean(-1).sqrt()
    for chunk in (3, 50, 10**6):
        monkeypatch.setattr(neighbours, "CHUNK", chunk)
        found = neighbours.nearest(x, InMemory(known))
        assert torch.equal(found.index, every.argmin(1))
        torch.testing.assert_close(found.distance, every.min(1).values, atol=1e-7, rtol=0)


def test_quartiles_of_known_distances():
    found = neighbours.Neighbours(torch.arange(5.0, dtype=torch.float64), torch.arange(5))
    assert found.quartiles() == {
        "smallest": 0,
        "first_quartile": 1,
        "median": 2,
        "third_quartile": 3,
    }


def test_a_copy_machine_is_seen():
    digits = open_data("digits")
    which, real = neighbours.unseen(digits, 100)
    copies = digits.batch(range(100)).x + 0.01
    copied = neighbours.nearest(copies.clamp(-1, 1), digits).quartiles()
    assert which == "held_out"
    assert copied["third_quartile"] < 0.02 < 0.1 < real.quartiles()["first_quartile"]


def test_without_held_out_data_training_samples_are_compared_with_the_others():
    line = InMemory(torch.tensor([[0.0], [1.0], [3.0]]))
    which, found = neighbours.unseen(line, 10)
    assert which == "training"
    assert found.distance.tolist() == [1, 1, 2]


def test_a_single_training_sample_has_no_neighbour():
    _, found = neighbours.unseen(InMemory(torch.zeros(1, 2)), 5)
    assert math.isinf(float(found.distance))
    assert found.quartiles() is None


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 5), (2,)])
def test_every_rank_of_data(shape):
    dataset = InMemory(torch.linspace(-1, 1, 6 * math.prod(shape)).reshape(6, *shape))
    assert neighbours.nearest(dataset.batch([2, 4]).x, dataset).index.tolist() == [2, 4]
