"""Precision and recall, density and coverage: each sees what the others do not."""

from __future__ import annotations

import math

import pytest
import torch

from undiffuse.errors import UndiffuseError
from undiffuse.metrics.coverage import Coverage
from undiffuse.metrics.density import Density
from undiffuse.metrics.precision import Precision
from undiffuse.metrics.recall import Recall

FOUR = [Precision, Recall, Density, Coverage]


def test_copies_of_all_samples_are_perfect(normal):
    real = normal(100, 3, 0)
    assert Precision()(real, real) == Recall()(real, real) == Coverage()(real, real) == 1


def test_samples_elsewhere_are_worth_nothing(normal):
    real, far = normal(100, 3, 0), normal(100, 3, 1) + 50
    assert [kind()(far, real) for kind in FOUR] == [0, 0, 0, 0]


def test_one_good_sample_again_and_again_is_precise_without_recall(normal):
    real = normal(200, 3, 0)
    collapsed = real[:1] + 1e-3 * normal(200, 3, 1)
    assert Precision()(collapsed, real) == 1
    assert Recall()(collapsed, real) <= 0.01
    assert Coverage()(collapsed, real) < 0.1


def test_half_of_the_data_has_half_of_the_recall(normal):
    left, right = normal(100, 2, 0) - 20, normal(100, 2, 1) + 20
    real, made = torch.cat([left, right]), normal(200, 2, 2) - 20
    assert Precision()(made, real) > 0.9
    assert 0.45 <= Recall()(made, real) <= 0.5
    assert Coverage()(made, real) <= 0.5


def test_recall_is_precision_with_the_clouds_exchanged(normal):
    a, b = normal(50, 3, 0), normal(70, 3, 1) * 1.5
    assert Recall()(a, b) == Precision()(b, a)


def test_an_outlier_raises_recall_and_not_coverage(normal):
    """The ball of a far generated point is wide: it may hold all real points."""
    real, far = normal(100, 2, 0), normal(100, 2, 1) * 0.01 + 1000
    far[0] = -1000
    assert Recall(k=1)(far, real) == 1
    assert Coverage(k=1)(far, real) == 0


def test_the_means_for_equal_distributions_are_those_of_the_paper(normal):
    n, k, runs = 40, 5, 200
    pairs = [(normal(n, 3, 2 * i), normal(n, 3, 2 * i + 1)) for i in range(runs)]
    covered = torch.tensor([Coverage(k)(a, b) for a, b in pairs])
    dense = torch.tensor([Density(k)(a, b) for a, b in pairs])
    exact = 1 - math.prod((n - i) / (2 * n - i) for i in range(1, k + 1))
    assert abs(float(covered.mean()) - exact) < 4 * float(covered.std()) / runs**0.5
    assert abs(float(dense.mean()) - 1) < 4 * float(dense.std()) / runs**0.5


@pytest.mark.parametrize("kind", FOUR)
@pytest.mark.parametrize("k", [0, -1, 1.5])
def test_a_neighbour_that_cannot_be_counted_is_refused(kind, k):
    with pytest.raises(UndiffuseError, match="k must be a whole number"):
        kind(k=k)
