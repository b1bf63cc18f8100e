"""What the embedding of noise level and class must do."""

from __future__ import annotations

import math

import pytest
import torch

from undiffuse.errors import UndiffuseError
from undiffuse.networks.conditioning import (
    Conditioning,
    Conditions,
    fourier_features,
    without,
)


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
    conditioning = Conditioning(16, Conditions(classes=3))

    def embed(label: torch.Tensor | None) -> torch.Tensor:
        return conditioning(torch.full((4,), 0.2), conditioning.encode(4, {"label": label}))

    none = embed(None)
    assert torch.equal(none, embed(torch.full((4,), -1)))
    mixed = embed(torch.tensor([-1, 0, 1, 2]))
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
        Conditioning(16, Conditions(classes=3)).encode(2, {"label": label})


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32])
def test_labels_may_be_of_any_whole_numbers(kind: torch.dtype) -> None:
    embedder = Conditioning(16, Conditions(classes=3))
    label = torch.tensor([0, 2, 1])
    encoded = embedder.encode(3, {"label": label.to(kind)})
    assert torch.equal(encoded["embedding"], embedder.encode(3, {"label": label})["embedding"])


def test_none_of_a_vector_is_not_a_vector_of_zeros() -> None:
    torch.manual_seed(0)
    conditioning = Conditioning(16, Conditions(vector=3))
    zeros, nan = torch.zeros(1, 3), torch.full((1, 3), float("nan"))
    encoded = [conditioning.encode(1, {"vector": v})["embedding"] for v in (zeros, nan, None)]
    assert torch.equal(encoded[1], encoded[2])
    assert (encoded[0] - encoded[1]).abs().max() > 0.01


def test_one_missing_number_makes_a_vector_none_and_gradients_stay_finite() -> None:
    torch.manual_seed(0)
    conditioning = Conditioning(16, Conditions(vector=3, tokens=2))
    condition = {
        "vector": torch.tensor([[1.0, float("nan"), 0.0], [1.0, 2.0, 3.0]]),
        "tokens": torch.full((2, 4, 2), float("nan")),
    }
    encoded = conditioning.encode(2, condition)
    torch.testing.assert_close(encoded["embedding"][:1], conditioning.encode(1, {})["embedding"])
    assert encoded["token_mask"].tolist() == [[True, False, False, False, False]] * 2
    sum(encoded[k].square().sum() for k in ("embedding", "tokens")).backward()
    slopes = [p.grad for p in conditioning.parameters() if p.grad is not None]
    assert slopes
    assert all(slope.isfinite().all() for slope in slopes)


def test_without_marks_the_samples_asked_for() -> None:
    condition = {
        "label": torch.tensor([1, 2]),
        "tokens": torch.ones(2, 3, 4),
        "token_mask": torch.ones(2, 3, dtype=torch.bool),
    }
    made = without(condition, torch.tensor([True, False]))
    assert made["label"].tolist() == [-1, 2]
    assert made["tokens"][0].isnan().all()
    assert not made["token_mask"][0].any()
    for name, value in condition.items():
        assert torch.equal(made[name][1], value[1])
        assert made[name].dtype == value.dtype


def test_an_image_of_another_size_than_x_is_refused() -> None:
    conditions = Conditions(image=2)
    encoded = Conditioning(16, conditions).encode(1, {"image": torch.zeros(1, 2, 4, 4)})
    assert conditions.beside(torch.zeros(1, 1, 4, 4), encoded).shape == (1, 4, 4, 4)
    with pytest.raises(UndiffuseError, match=r"as large as x, \[4, 5\], not \[4, 4\]"):
        conditions.beside(torch.zeros(1, 1, 4, 5), encoded)
