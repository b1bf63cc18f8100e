"""What must hold for the U-Net beyond what holds for every network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from undiffuse.errors import UndiffuseError
from undiffuse.networks.unet import UNet


def opened(network: UNet) -> UNet:
    """The network with random values in place of the zeros, so that every branch counts."""
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return network


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("patch", [1, 2, 3])
@pytest.mark.parametrize(
    "size", [(1,), (7,), (1, 1), (7, 7), (28, 28), (33, 20), (1, 1, 1), (5, 2, 9)]
)
def test_any_size_goes_in_and_comes_out(size: tuple[int, ...], patch: int, channels: int) -> None:
    torch.manual_seed(0)
    network = opened(UNet(channels=channels, dims=len(size), width=16, blocks=1, patch=patch))
    out = network(torch.randn(2, channels, *size), torch.zeros(2))
    assert out.shape == (2, channels, *size)
    assert out.isfinite().all()
    assert out.std() > 0


def test_many_levels_fit_a_single_pixel() -> None:
    network = opened(
        UNet(channels=1, width=8, multipliers=(1, 2, 3, 4), attention=(False,) * 4, patch=2)
    )
    assert network(torch.randn(1, 1, 1, 1), torch.zeros(1)).isfinite().all()


@pytest.mark.parametrize("training", [True, False])
def test_memory_order_does_not_change_the_result(training: bool) -> None:
    torch.manual_seed(0)
    network = opened(UNet(channels=3, width=16, patch=2)).train(training)
    x, c_noise = torch.randn(2, 3, 15, 12), torch.randn(2)
    reference = network(x, c_noise)
    network = network.to(memory_format=torch.channels_last)
    for memory in (torch.contiguous_format, torch.channels_last):
        out = network(x.contiguous(memory_format=memory), c_noise)
        torch.testing.assert_close(out, reference, atol=1e-5, rtol=1e-4)


def test_padding_repeats_the_edge_to_a_size_that_fits() -> None:
    torch.manual_seed(0)
    network = opened(UNet(channels=1, width=16, patch=2))
    x, c_noise = torch.randn(2, 1, 6, 7), torch.zeros(2)
    by_hand = torch.nn.functional.pad(x, (0, 1, 0, 2), mode="replicate")
    out = network(by_hand, c_noise)[:, :, :6, :7]
    torch.testing.assert_close(network(x, c_noise), out)


def test_parameters_are_as_counted_by_hand() -> None:
    # One level, one block, no attention, no patches: every layer of the definition, written out.
    w, c, e = 16, 3, 64
    conv, film, norm = 9 * w * w + w, e * 2 * w + 2 * w, 2 * w
    block = norm + conv + norm + film + conv
    wide = 2 * (2 * w) + (9 * 2 * w * w + w) + norm + film + conv + (2 * w * w + w)
    embedding = 64 * e + e + e * e + e
    ends = (9 * c * w + w) + norm + film + (9 * w * c + c)
    network = UNet(channels=c, width=w, multipliers=(1,), attention=(False,), blocks=1)
    assert count(network) == embedding + ends + 2 * block + wide


def test_options_cost_what_they_say() -> None:
    def small(**options: Any) -> int:
        return count(UNet(channels=1, width=16, blocks=1, **options))

    assert small(classes=10) - small() == 11 * 64
    attention = 2 * 32 + (32 * 96 + 96) + (32 * 32 + 32)
    assert small() - small(attention=(False, False)) == 3 * attention  # encoder, middle, decoder
    assert small(patch=2) - small() == 3 * (9 * 16 + 9 * 16 + 1)
    assert small(dropout=0.3) == small(head_channels=8) == small()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"channels": 0}, "channels"),
        ({"channels": 1.0}, "channels"),
        ({"dims": 0}, "dims"),
        ({"dims": 4}, "dims"),
        ({"width": 1}, "width"),
        ({"multipliers": ()}, "multipliers"),
        ({"multipliers": (1, 0)}, "multipliers"),
        ({"multipliers": (1, 2, 2)}, "attention"),
        ({"attention": (True,)}, "attention"),
        ({"attention": (0, 1)}, "attention"),
        ({"blocks": 0}, "blocks"),
        ({"head_channels": 0}, "head_channels"),
        ({"patch": 0}, "patch"),
        ({"classes": -1}, "classes"),
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": -0.1}, "dropout"),
        ({"dropout": float("nan")}, "dropout"),
    ],
)
def test_options_that_cannot_work_are_refused_by_name(options: dict[str, Any], field: str) -> None:
    with pytest.raises(UndiffuseError, match=rf"^UNet: {field} must be"):
        UNet(**{"channels": 1, **options})


def test_a_picture_without_pixels_is_refused() -> None:
    with pytest.raises(UndiffuseError, match=r"\[B, 1, H, W\], not \[2, 1, 0, 4\]"):
        UNet(channels=1, width=16)(torch.zeros(2, 1, 0, 4), torch.zeros(2))
