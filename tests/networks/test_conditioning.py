"""What the embedding of noise level and class must do."""

from __future__ import annotations

import math

import pytest
import torch

from undiffuse.errors import UndiffuseError
from undiffuse.networks.conditioning import Conditioning, fourier_features


def test_features_are_the_sines_of_the_documented_periods() -> None:
    c = torch.tensor([-2.0, 0.3], dtype=torch.float64)
    periods = [16.0, 2.0, 0.25]
    angles = [[2 * math.pi * v / p for p in periods] for v in c.tolist()]
    expected = [[*map(math.cos, row), *map(math.sin, row)] for row in angles]
    torch.testing.assert_close(fourier_features(c, 3), torch.tensor(expected, dtype=torch.float64))


def test_features_tell_all_noise_levels_apart() -> None:
    features = fourier_features(torch.linspace(-4, 4, 200))  # log-SNR from -32 to 32
    distances = torch.cdist(features, features) + 10 * torch.eye(200)
    assert distances.min() > 0.5


def test_no_label_is_minus_one_and_differs_from_every_class() -> None:
    torch.manual_seed(0)
    conditioning = Conditioning(16, classes=3)
    c = torch.full((4,), 0.2)
    none = conditioning(c)
    assert torch.equal(none, conditioning(c, torch.full((4,), -1)))
    mixed = conditioning(c, torch.tensor([-1, 0, 1, 2]))
    assert torch.equal(mixed[0], none[0])
    assert torch.pdist(mixed).min() > 0.1


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (torch.tensor([0, 3]), "no label 3"),
        (torch.tensor([-2, 0]), "no label -2"),
        (torch.tensor([0]), r"\[2\]"),
        (torch.tensor([0.0, 1.0]), "float32"),
    ],
)
def test_wrong_labels_are_refused(label: torch.Tensor, message: str) -> None:
    with pytest.raises(UndiffuseError, match=message):
        Conditioning(16, classes=3)(torch.zeros(2), label)


def test_a_label_without_classes_is_refused() -> None:
    with pytest.raises(UndiffuseError, match="no classes"):
        Conditioning(16)(torch.zeros(2), torch.tensor([0, 1]))
