"""The halves of a VAE: any size, channels and number of axes, and codes that are told apart."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from undiffuse.errors import UndiffuseError
from undiffuse.networks import PictureDecoder, PictureEncoder, VectorDecoder, VectorEncoder

Halves = tuple[VectorEncoder | PictureEncoder, VectorDecoder | PictureDecoder]


def pictures(channels: int, dims: int, multipliers: tuple[int, ...]) -> Halves:
    torch.manual_seed(0)
    return (
        PictureEncoder(channels, 3, dims, width=8, multipliers=multipliers),
        PictureDecoder(channels, 3, dims, width=8, multipliers=multipliers),
    )


@pytest.mark.parametrize(
    ("shape", "multipliers", "code"),
    [
        ((1, 8, 8), (1, 2, 2), (3, 1, 1)),  # as many levels as halvings: a vector
        ((3, 5, 9), (1, 2), (3, 2, 3)),
        ((2, 1, 1), (1,), (3, 1, 1)),
        ((2, 11), (1, 1), (3, 3)),
        ((1, 3, 4, 5), (2,), (3, 2, 2, 3)),
    ],
)
def test_any_picture_goes_in(
    shape: tuple[int, ...], multipliers: tuple[int, ...], code: tuple[int, ...]
) -> None:
    encoder, decoder = pictures(shape[0], len(shape) - 1, multipliers)
    mean, log_var = encoder(torch.randn(4, *shape))
    assert mean.shape == log_var.shape == (4, *code)
    assert encoder.latent_shape(shape) == code
    out = decoder(mean)
    assert out.shape[:2] == (4, shape[0])
    assert all(n >= wanted for n, wanted in zip(out.shape[2:], shape[1:], strict=True))


def test_vectors() -> None:
    encoder, decoder = VectorEncoder(5, 2, width=16), VectorDecoder(5, 2, width=16)
    mean, log_var = encoder(torch.randn(4, 5))
    assert mean.shape == log_var.shape == (4, *encoder.latent_shape((5,)))
    assert decoder(mean).shape == (4, 5)
    linear = VectorEncoder(5, 2, depth=0)
    x, y = torch.randn(2, 3, 5)
    together = linear(x)[0] + linear(y)[0] - linear(torch.zeros(3, 5))[0]
    torch.testing.assert_close(linear(x + y)[0], together)


@pytest.mark.parametrize("kind", ["vectors", "pictures"])
def test_every_weight_learns_and_samples_do_not_mix(kind: str) -> None:
    torch.manual_seed(0)
    if kind == "vectors":
        encoder, decoder = VectorEncoder(4, 2, width=16), VectorDecoder(4, 2, width=16)
        x = torch.randn(6, 4)
    else:
        encoder, decoder = pictures(2, 2, (1, 2))
        x = torch.randn(6, 2, 8, 8)
    module = nn.ModuleList([encoder, decoder])
    optimiser = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(2):  # the branches open in the first step
        optimiser.zero_grad()
        mean, log_var = encoder(x)
        ((decoder(mean + log_var) - x) ** 2).mean().backward()
        optimiser.step()
    assert all(float(p.grad.abs().sum()) > 0 for p in module.parameters())
    alone = torch.cat([decoder(encoder(one[None])[0]) for one in x])
    torch.testing.assert_close(decoder(encoder(x)[0]), alone, rtol=1e-4, atol=1e-5)


def test_mistakes_are_one_sentence() -> None:
    for options, message in (
        ({"size": 0}, "size must be a whole number from 1"),
        ({"latent": 0}, "latent must be"),
        ({"depth": -1}, "depth must be a whole number from 0"),
    ):
        for half in (VectorEncoder, VectorDecoder):
            with pytest.raises(UndiffuseError, match=message):
                half(**{"size": 4, "latent": 2, **options})
    for options, message in (
        ({"dims": 4}, "dims must be 1, 2 or 3"),
        ({"multipliers": ()}, "multipliers must be one or more"),
        ({"multipliers": 2}, "multipliers must be one or more"),
        ({"multipliers": (1, 0)}, "multipliers must be one or more"),
        ({"blocks": True}, "blocks must be a whole number"),
    ):
        for half in (PictureEncoder, PictureDecoder):
            with pytest.raises(UndiffuseError, match=message):
                half(**{"channels": 1, "latent": 2, **options})
    with pytest.raises(UndiffuseError, match=r"encoder takes x of shape \[B, 4\], not \[2, 5\]"):
        VectorEncoder(4, 2)(torch.zeros(2, 5))
    with pytest.raises(UndiffuseError, match=r"encoder takes x of shape \[B, 1, H, W\]"):
        PictureEncoder(1, 2)(torch.zeros(2, 3, 8, 8))
    with pytest.raises(UndiffuseError, match=r"decoder takes z of shape \[B, 2\], not \[5, 3\]"):
        VectorDecoder(4, 2)(torch.zeros(5, 3))
    with pytest.raises(UndiffuseError, match=r"decoder takes z of shape \[B, 2, H, W\]"):
        PictureDecoder(1, 2)(torch.zeros(5, 3, 2, 2))
    with pytest.raises(UndiffuseError, match="encoder takes x of floats, not of int64"):
        VectorEncoder(4, 2)(torch.zeros(2, 4, dtype=torch.int64))
