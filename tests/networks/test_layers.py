"""The layers against independent formulae, in one, two and three dimensions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from undiffuse.networks.layers import (
    ResidualBlock,
    SelfAttention,
    crop,
    downsample,
    equal_parts,
    group_norm,
    pad_to_multiple,
    patchify,
    unpatchify,
    upsample,
)

sizes = st.lists(st.integers(1, 5), min_size=1, max_size=3)


def randomise(module: torch.nn.Module) -> None:
    """Give every parameter a value, so that no branch is silent."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)


@given(size=sizes, patch=st.integers(1, 3), channels=st.integers(1, 3))
def test_unpatchify_undoes_patchify(size: list[int], patch: int, channels: int) -> None:
    x = torch.randn(2, channels, *(patch * n for n in size))
    rows = patchify(x, patch)
    assert rows.shape == (2, channels * patch ** len(size), *size)
    assert torch.equal(unpatchify(rows, patch), x)


def test_patchify_is_pixel_unshuffle_in_two_dimensions() -> None:
    x = torch.randn(2, 3, 6, 4)
    assert torch.equal(patchify(x, 2), F.pixel_unshuffle(x, 2))
    assert torch.equal(unpatchify(patchify(x, 2), 2), F.pixel_shuffle(F.pixel_unshuffle(x, 2), 2))


@given(size=sizes, multiple=st.integers(1, 9))
def test_padding_repeats_the_edge_and_crops_back(size: list[int], multiple: int) -> None:
    x = torch.randn(2, 1, *size)
    padded = pad_to_multiple(x, multiple)
    assert list(padded.shape[2:]) == [-(-n // multiple) * multiple for n in size]
    assert torch.equal(crop(padded, size), x)
    corner = padded[(..., *[-1] * len(size))]
    assert torch.equal(corner, x[(..., *[-1] * len(size))])


@given(size=sizes)
def test_downsample_keeps_the_mean_and_undoes_upsample(size: list[int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(downsample(upsample(x)), x)
    large = torch.randn(2, 3, *(2 * n for n in size), dtype=torch.float64)
    torch.testing.assert_close(downsample(large).mean(), large.mean())


@given(channels=st.integers(1, 300), least=st.integers(1, 64))
def test_equal_parts_divide_and_are_as_many_as_allowed(channels: int, least: int) -> None:
    parts = equal_parts(channels, least)
    assert channels % parts == 0
    assert parts == 1 or channels // parts >= least
    assert not any(channels % n == 0 and channels // n >= least for n in range(parts + 1, channels))


def test_group_norm_makes_each_group_of_each_sample_standard() -> None:
    h = group_norm(48)(5 + 3 * torch.randn(4, 48, 7, 7)).detach().reshape(4, 3, -1)
    torch.testing.assert_close(h.mean(-1), torch.zeros(4, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(h.std(-1, correction=0), torch.ones(4, 3), atol=1e-4, rtol=0)


def naive_attention(layer: SelfAttention, x: Tensor) -> Tensor:
    """The formula with loops over samples and heads."""
    channels, rows = x.shape[1], layer.qkv(layer.norm(x)).flatten(2)  # [B, 3C, N]
    d = channels // layer.heads
    out = torch.empty_like(rows[:, :channels])
    for sample in range(len(x)):
        for head in range(layer.heads):
            q, k, v = (
                rows[sample, part * channels + head * d : part * channels + (head + 1) * d]
                for part in range(3)
            )  # [d, N] each
            weights = torch.softmax(q.T @ k / d**0.5, dim=1)  # [N, N]
            out[sample, head * d : (head + 1) * d] = v @ weights.T
    return x + layer.project(out.reshape(x.shape))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_attention_is_the_formula(dims: int) -> None:
    torch.manual_seed(0)
    layer = SelfAttention(dims, 24, head_channels=8).double()
    randomise(layer)
    x = torch.randn(2, 24, *(3, 2, 4)[:dims], dtype=torch.float64)
    assert layer.heads == 3
    torch.testing.assert_close(layer(x), naive_attention(layer, x))


def test_attention_takes_channels_last_memory() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(2, 24, head_channels=8)
    randomise(layer)
    x = torch.randn(2, 24, 4, 3)
    quick = layer(x.to(memory_format=torch.channels_last))
    assert quick.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(quick, layer(x))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_fresh_blocks_are_identities(dims: int) -> None:
    x = torch.randn(2, 16, *(3, 2, 4)[:dims])
    assert torch.equal(ResidualBlock(dims, 16, 16, embedding=8)(x, torch.randn(2, 8)), x)
    assert torch.equal(SelfAttention(dims, 16)(x), x)


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(2, 16, 16, embedding=8, dropout=0.5)
    randomise(block)
    x, e = torch.randn(2, 16, 4, 4), torch.randn(2, 8)
    assert not torch.equal(block(x, e), block(x, e))
    block.eval()
    assert torch.equal(block(x, e), block(x, e))
