"""Magnitudes: what comes in with a mean square of 1 goes out with one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from undiffuse.networks.conditioning import Conditions
from undiffuse.networks.edm2 import EDM2UNet
from undiffuse.networks.magnitude import (
    MPAttention,
    MPBlock,
    MPConditioning,
    MPConv,
    mp_cat,
    mp_silu,
    mp_sum,
    normalised,
    pixel_norm,
)

WITHIN = 0.05
COUNT = 32  # networks to average over


def magnitude(x: Tensor) -> float:
    """The root mean square of all values."""
    return float(x.detach().double().square().mean().sqrt())


def test_parts_keep_magnitudes() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(8, 64, 16, 16), torch.randn(8, 32, 16, 16)
    assert magnitude(mp_silu(a)) == pytest.approx(1, abs=0.01)
    for t in (0.1, 0.3, 0.5):
        assert magnitude(mp_sum(a, torch.randn_like(a), t)) == pytest.approx(1, abs=0.01)
    joint = mp_cat(a, b)
    assert magnitude(joint) == pytest.approx(1, abs=0.01)
    halves = joint[:, :64].square().sum(), joint[:, 64:].square().sum()
    assert float(halves[0] / halves[1]) == pytest.approx(1, abs=0.02)  # both weigh the same


def test_pixel_norm_makes_every_position_a_unit() -> None:
    x = pixel_norm(3 * torch.randn(2, 48, 5, 7))
    torch.testing.assert_close(x.square().mean(1), torch.ones(2, 5, 7), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("dims", "shape"), [(0, (64,)), (1, (64, 90)), (2, (64, 30, 30))])
def test_layers_keep_magnitudes(dims: int, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = MPConv(dims, 64, 128)
    assert magnitude(layer(torch.randn(256 if dims == 0 else 8, *shape))) == pytest.approx(
        1, abs=WITHIN
    )


@pytest.mark.parametrize("encoder", [True, False])
@pytest.mark.parametrize("inputs", [64, 96])
def test_blocks_keep_magnitudes(inputs: int, encoder: bool) -> None:
    torch.manual_seed(0)
    block = MPBlock(2, inputs, 64, 32, 0.0, encoder)
    for gain in (0.0, 0.2):
        torch.nn.init.constant_(block.gain, gain)
        out = block(torch.randn(8, inputs, 24, 24), torch.randn(8, 32))
        assert magnitude(out) == pytest.approx(1, abs=WITHIN)


def test_attention_keeps_the_magnitude_of_values_that_agree_and_never_adds() -> None:
    torch.manual_seed(0)
    attention = MPAttention(2, 64, 32)
    same = torch.randn(16, 64, 1, 1).expand(-1, -1, 8, 8)
    assert magnitude(attention(same)) == pytest.approx(1, abs=WITHIN)
    assert 0.85 < magnitude(attention(torch.randn(16, 64, 8, 8))) < 1 + WITHIN


def test_embeddings_have_magnitude_one_whatever_is_told() -> None:
    torch.manual_seed(0)
    conditioning = MPConditioning(512, Conditions(classes=10, vector=4, tokens=6))
    n = 400
    given = {
        "label": torch.randint(-1, 10, (n,)),
        "vector": torch.randn(n, 4),
        "tokens": torch.randn(n, 3, 6),
    }
    for condition in ({}, given):
        encoded = conditioning.encode(n, condition)
        assert magnitude(encoded["embedding"]) == pytest.approx(1, abs=WITHIN)
        assert magnitude(encoded["tokens"]) == pytest.approx(1, abs=WITHIN)
        out = conditioning(torch.linspace(-1, 1, n), encoded)
        assert magnitude(out) == pytest.approx(1, abs=0.1)


def test_through_the_whole_network_no_stage_grows_or_fades() -> None:
    """Averaged over fresh networks; zeros at the edges take a little away."""
    squares: dict[str, list[float]] = {}
    for seed in range(COUNT):
        torch.manual_seed(seed)
        network = EDM2UNet(channels=3, width=32, blocks=1, attention=(False, False)).eval()
        for name, module in network.named_modules():
            if name.startswith(("stem", "encoder.", "decoder.")) and name.count(".") < 2:

                def keep(_: object, __: object, out: Tensor, name: str = name) -> None:
                    squares.setdefault(name, []).append(magnitude(out) ** 2)

                module.register_forward_hook(keep)
        with torch.no_grad():
            network(torch.randn(1, 3, 48, 48), torch.zeros(1))
    assert len(squares) == 10
    for name, values in squares.items():
        assert math.sqrt(sum(values) / COUNT) == pytest.approx(1, abs=WITHIN), name


def test_attention_averages_and_so_fades_a_little() -> None:
    """Where a decoder attends, its stages have 0.86 to 1, as docs/networks.md says."""
    squares: dict[str, list[float]] = {}
    for seed in range(COUNT):
        torch.manual_seed(seed)
        network = EDM2UNet(channels=3, width=32, blocks=1).eval()
        for name, module in network.decoder.named_children():

            def keep(_: object, __: object, out: Tensor, name: str = name) -> None:
                squares.setdefault(name, []).append(magnitude(out) ** 2)

            module.register_forward_hook(keep)
        with torch.no_grad():
            network(torch.randn(1, 3, 48, 48), torch.zeros(1))
    found = [math.sqrt(sum(values) / COUNT) for values in squares.values()]
    assert 0.82 < min(found) < 0.95
    assert max(found) < 1 + WITHIN


def test_two_passes_in_training_share_one_backward() -> None:
    torch.manual_seed(0)
    network = EDM2UNet(channels=1, width=8, blocks=1).double().train()
    torch.nn.init.ones_(network.gain)
    x, levels = torch.randn(2, 1, 8, 8).double(), torch.tensor([0.0, 0.5]).double()
    network(x, levels)  # the first pass normalises what was drawn
    (network(x, levels).sum() + network(2 * x, levels).sum()).backward()
    both = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    network.zero_grad()
    network(x, levels).sum().backward()
    network(2 * x, levels).sum().backward()
    apart = [p.grad for p in network.parameters() if p.grad is not None]
    torch.testing.assert_close(both, apart, rtol=1e-3, atol=1e-4)


def test_training_keeps_the_stored_weights_normalised_and_evaluation_leaves_them() -> None:
    torch.manual_seed(0)
    layer = MPConv(1, 8, 4)
    before = layer.weight.clone()
    layer.eval()
    layer(torch.randn(2, 8, 5))
    assert torch.equal(layer.weight, before)
    layer.train()
    layer(torch.randn(2, 8, 5))
    lengths = layer.weight.detach().flatten(1).square().mean(1)
    torch.testing.assert_close(lengths, torch.ones(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(layer.weight, normalised(before, (1, 2)), atol=0, rtol=0)


def test_gradients_are_at_right_angles_to_the_weights() -> None:
    torch.manual_seed(0)
    layer = MPConv(0, 16, 4).double()
    layer(torch.randn(8, 16, dtype=torch.float64)).pow(3).sum().backward()
    assert layer.weight.grad is not None
    along = (layer.weight.grad * layer.weight).sum(1)
    # Not quite zero: the small number in the norm leaves 1e-4 of the slope.
    assert along.abs().max() < 1e-3 * layer.weight.grad.norm(dim=1).max() * 4


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit() -> None:
    def fresh() -> tuple[EDM2UNet, torch.optim.Optimizer]:
        torch.manual_seed(0)
        network = EDM2UNet(channels=1, width=8, blocks=1)
        return network, torch.optim.AdamW(network.parameters(), lr=0.01)

    def learn(network: EDM2UNet, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            torch.manual_seed(100 + step)
            x = torch.randn(2, 1, 8, 8)
            optimizer.zero_grad()
            (network(x, torch.zeros(2)) - x).square().mean().backward()
            optimizer.step()

    whole, optimizer = fresh()
    learn(whole, optimizer, range(6))
    first, optimizer = fresh()
    learn(first, optimizer, range(3))
    resumed, twin = fresh()
    resumed.load_state_dict({k: v.clone() for k, v in first.state_dict().items()})
    twin.load_state_dict(optimizer.state_dict())
    learn(resumed, twin, range(3, 6))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
