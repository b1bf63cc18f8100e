"""What must hold for the transformer, and its positions, beyond what holds for every network."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from undiffuse.errors import UndiffuseError
from undiffuse.networks.dit import DiT
from undiffuse.networks.positions import LearnedPlaces, SinCos, angles, rotated, rotation


def test_parameters_are_as_counted_by_hand() -> None:
    w, depth, values, d = 32, 3, 2 * 4, 8
    embedding = (64 * w + w) + (w * w + w) + 6 * w  # five classes and "none"
    block = (w * 6 * w + 6 * w) + (w * 3 * w + 3 * w) + d + (w * w + w)
    block += (w * 4 * w + 4 * w) + (4 * w * w + w)
    ends = (values * w + w) + (w * 2 * w + 2 * w) + (w * values + values)
    network = DiT(channels=2, width=w, depth=depth, head_channels=d, classes=5)
    counted = sum(p.numel() for p in network.parameters())
    assert counted == embedding + depth * block + ends


@pytest.mark.parametrize("size", [(7,), (4, 5), (3, 2, 4)])
def test_rotations_keep_lengths_and_products_see_differences_alone(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    angle = angles(size, 7, torch.zeros(0)).double()
    q, k = (torch.randn(14, dtype=torch.float64).expand(1, len(angle), 14) for _ in range(2))
    one, two = (rotated(each, rotation(angle))[0] for each in (q, k))
    torch.testing.assert_close(one.norm(dim=1), q[0].norm(dim=1))
    products = (one @ two.T).reshape(*size, *size)
    for axis, n in enumerate(size):
        both = (axis, len(size) + axis)
        first, later = products, products
        for a in both:
            first, later = first.narrow(a, 0, n - 1), later.narrow(a, 1, n - 1)
        torch.testing.assert_close(first, later, atol=1e-5, rtol=0)
    flat = products.reshape(len(angle), -1)
    assert (flat[0, 1:] - flat[0, 0]).abs().min() > 1e-3  # no other place looks the same


@pytest.mark.parametrize("size", [(9,), (3, 4), (2, 3, 4)])
def test_added_positions_tell_all_places_apart(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    n = torch.Size(size).numel()
    for positions in (SinCos(), LearnedPlaces(len(size), 30)):
        added = positions(torch.zeros(1, n, 30), size)[0].detach()
        assert torch.pdist(added).min() > 0.01


def test_a_larger_grid_of_learned_places_is_a_finer_one() -> None:
    places = LearnedPlaces(2, 8)
    small = places(torch.zeros(1, 6, 8), (2, 3)).reshape(2, 3, 8)
    large = places(torch.zeros(1, 15, 8), (3, 5)).reshape(3, 5, 8)
    torch.testing.assert_close(large[::2, ::2], small)


@pytest.mark.parametrize("positions", ["rotary", "sincos", "learned"])
def test_it_knows_where_its_patches_are(positions: str) -> None:
    torch.manual_seed(0)
    network = DiT(channels=1, width=32, depth=2, head_channels=8, patch=1, positions=positions)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    x, c_noise = torch.randn(1, 1, 4, 4), torch.zeros(1)
    swapped = x.clone()
    swapped[..., 0, 0], swapped[..., 1, 0] = x[..., 1, 0], x[..., 0, 0]
    other = network(swapped, c_noise) - network(x, c_noise)
    assert other[..., 2:, :].abs().max() > 1e-3  # a bag of patches would not see the exchange


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dims": 4}, "dims must be 1, 2 or 3"),
        ({"depth": 0}, "depth must be a whole number"),
        ({"patch": 0}, "patch must be"),
        ({"positions": "fourier"}, "positions must be rotary, sincos or learned"),
        ({"width": 9, "head_channels": 3}, "even number"),
        ({"dims": 2.0}, "dims must be"),
        ({"dims": True}, "dims must be"),
        ({"width": 8, "head_channels": 2}, "positions must be sincos or learned"),
        ({"width": 8, "head_channels": 4, "dims": 3}, "positions must be sincos or learned"),
        ({"width": 4, "dims": 3, "positions": "sincos"}, "width must be at least 6"),
        ({"tokens": -1}, "tokens must be"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UndiffuseError, match=rf"^DiT: .*{message}"):
        DiT(**{"channels": 1, **options})
