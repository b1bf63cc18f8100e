"""What must hold for the EDM2 U-Net beyond what holds for every network."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from undiffuse.errors import UndiffuseError
from undiffuse.networks.edm2 import EDM2UNet


def test_parameters_are_as_counted_by_hand() -> None:
    # One level, one block: stem, encoder block, entrance and two blocks of the decoder, head.
    w, c, classes = 16, 3, 4
    conv, scale = 9 * w * w, w * w + 1
    block = conv + scale + conv
    wide = 2 * w * w + 9 * 2 * w * w + scale + conv
    ends = 9 * (c + 1) * w + 9 * w * c + 1
    embedding = 64 * w + (classes + 1) * w
    options: dict[str, Any] = {"multipliers": (1,), "attention": (False,), "blocks": 1}
    network = EDM2UNet(channels=c, width=w, classes=classes, **options)
    counted = sum(p.numel() for p in network.parameters())
    assert counted == embedding + ends + 2 * block + 2 * wide


def test_larger_weights_change_nothing() -> None:
    torch.manual_seed(0)
    network = EDM2UNet(channels=1, width=8, blocks=1).eval()
    torch.nn.init.ones_(network.gain)
    x, c_noise = torch.randn(2, 1, 8, 8), torch.zeros(2)
    before = network(x, c_noise)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim:
                parameter.mul_(5)
    torch.testing.assert_close(network(x, c_noise), before, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"multipliers": ()}, "multipliers"),
        ({"attention": (True,)}, "attention"),
        ({"blocks": 0}, "blocks"),
        ({"tokens": 3, "attention": (False, False)}, "tokens"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_options_that_cannot_work_are_refused_by_name(options: dict[str, Any], field: str) -> None:
    with pytest.raises(UndiffuseError, match=rf"^EDM2UNet: {field} must be"):
        EDM2UNet(**{"channels": 1, **options})
