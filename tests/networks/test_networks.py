"""What must hold for every network: the U-Net in one, two and three dimensions, and the MLP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from undiffuse.catalogue import build, describe, names
from undiffuse.errors import UndiffuseError
from undiffuse.networks.mlp import MLP
from undiffuse.networks.unet import UNet


@dataclass(frozen=True)
class Case:
    """A small network and the shape of one sample for it."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]


CASES = {
    "mlp": Case(lambda: MLP(size=3, width=16, depth=2, classes=2), (3,)),
    "unet-1d": Case(lambda: UNet(channels=2, dims=1, width=16, blocks=1, classes=2), (2, 11)),
    "unet-2d": Case(lambda: UNet(channels=1, width=16, patch=2, classes=2), (1, 7, 10)),
    "unet-3d": Case(
        lambda: UNet(
            channels=1, dims=3, width=16, multipliers=(1, 1, 2), attention=(True,) * 3, classes=2
        ),
        (1, 5, 4, 3),
    ),
}


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(0)
    return CASES[request.param]


def batch(case: Case, n: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, noise levels and labels; among the labels all classes and "no label"."""
    return torch.randn(n, *case.shape), torch.linspace(-1, 1, n), torch.arange(n) % 3 - 1


def train(network: nn.Module, case: Case, steps: int) -> nn.Module:
    """A few steps towards a target that depends on the noise level and the label."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.01)
    x, c_noise, label = batch(case)
    target = (c_noise + label).reshape(-1, *[1] * len(case.shape)) + x.flip(0)
    for _ in range(steps):
        optimiser.zero_grad()
        (network(x, c_noise, label=label) - target).square().mean().backward()
        optimiser.step()
    return network


def test_a_fresh_network_returns_zeros_of_the_shape_of_x(case: Case) -> None:
    x, c_noise, label = batch(case)
    assert torch.equal(case.make()(x, c_noise, label=label), torch.zeros_like(x))


def test_conditions_matter_after_one_step(case: Case) -> None:
    network = train(case.make(), case, steps=1)
    x, c_noise, label = batch(case)
    reference = network(x, c_noise, label=label)
    assert (network(x, c_noise + 0.5, label=label) - reference).abs().max() > 1e-4
    assert (network(x, c_noise, label=1 - label.clamp(0)) - reference).abs().max() > 1e-4
    assert (network(-x, c_noise, label=label) - reference).abs().max() > 1e-4


def test_minus_one_is_no_label(case: Case) -> None:
    network = train(case.make(), case, steps=3)
    x, c_noise, label = batch(case)
    none = network(x, c_noise)
    assert torch.equal(none, network(x, c_noise, label=None))
    assert torch.equal(none, network(x, c_noise, label=torch.full_like(label, -1)))
    assert not torch.equal(none, network(x, c_noise, label=torch.zeros_like(label)))


def test_samples_of_a_batch_do_not_see_each_other(case: Case) -> None:
    network = train(case.make(), case, steps=3)
    x, c_noise, label = batch(case)
    together = network(x, c_noise, label=label)
    for i in range(len(x)):
        alone = network(x[i : i + 1], c_noise[i : i + 1], label=label[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=0)


def test_gradients_reach_every_parameter(case: Case) -> None:
    # The zeros at the ends of the branches open one after the other: the head first, then the
    # branches, and only then what stands before them.
    network = train(case.make(), case, steps=3)
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_gradients_reach_the_input(case: Case) -> None:
    network = train(case.make(), case, steps=3)
    x, c_noise, label = batch(case)
    (slope,) = torch.autograd.grad(network(x.requires_grad_(), c_noise, label=label).sum(), x)
    assert slope.isfinite().all()
    assert slope.flatten(1).any(1).all()


def test_weights_carry_everything(case: Case) -> None:
    network = train(case.make(), case, steps=3)
    twin = case.make()
    twin.load_state_dict({k: v.clone() for k, v in network.state_dict().items()})
    x, c_noise, label = batch(case)
    assert torch.equal(twin(x, c_noise, label=label), network(x, c_noise, label=label))


def test_describe_and_build_are_inverse(case: Case) -> None:
    network = case.make()
    description = describe(network)
    assert description["kind"].removeprefix("networks.") in names("networks")
    twin = build(description, "networks")
    assert type(twin) is type(network)
    assert repr(twin) == repr(network)
    shapes = {k: v.shape for k, v in network.state_dict().items()}
    assert {k: v.shape for k, v in twin.state_dict().items()} == shapes


def test_another_shape_is_refused_in_words(case: Case) -> None:
    network = case.make()
    x, c_noise, _ = batch(case)
    with pytest.raises(UndiffuseError, match=r"takes x of shape \[B, .*not \[6, 1"):
        network(x[:, None], c_noise)  # a rank too many
    with pytest.raises(UndiffuseError, match=rf"not \[6, {2 * case.shape[0]}"):
        network(torch.cat((x, x), dim=1), c_noise)  # twice the channels
    with pytest.raises(UndiffuseError, match=r"c_noise .*\[6\], not \[2\]"):
        network(x, c_noise[:2])
