"""What must hold for the MLP beyond what holds for every network."""

from __future__ import annotations

import pytest
import torch

from undiffuse.errors import UndiffuseError
from undiffuse.networks.mlp import MLP


def test_parameters_are_as_counted_by_hand() -> None:
    d, w, depth, classes = 5, 16, 3, 4
    linear, film, norm = w * w + w, w * 2 * w + 2 * w, 2 * w
    embedding = (64 * w + w) + linear + (classes + 1) * w
    ends = (d * w + w) + norm + film + (w * d + d)
    blocks = depth * (2 * norm + 2 * linear + film)
    network = MLP(size=d, width=w, depth=depth, classes=classes)
    assert sum(p.numel() for p in network.parameters()) == embedding + ends + blocks


def test_it_learns_a_function_of_input_noise_level_and_label() -> None:
    torch.manual_seed(0)
    network = MLP(size=2, width=32, depth=2, classes=2)
    optimiser = torch.optim.AdamW(network.parameters(), 5e-3)
    for _ in range(300):
        x, c, label = torch.randn(128, 2), torch.randn(128), torch.randint(0, 2, (128,))
        target = torch.sin(2 * x).flip(1) * c[:, None] + label[:, None]
        loss = (network(x, c, label=label) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.05 * target.var().item()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"size": 0}, "size"),
        ({"size": 2, "width": 1}, "width"),
        ({"size": 2, "depth": 0}, "depth"),
        ({"size": 2, "classes": -1}, "classes"),
        ({"size": 2, "classes": True}, "classes"),
    ],
)
def test_options_that_cannot_work_are_refused_by_name(options: dict[str, int], field: str) -> None:
    with pytest.raises(UndiffuseError, match=rf"^MLP: {field} must be"):
        MLP(**options)
