"""Muon beside the singular value decomposition, and beside torch's own for matrices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from undiffuse.errors import UndiffuseError
from undiffuse.training.muon import STEPS, Muon, orthogonal

torch.manual_seed(0)


def polished(s: Tensor) -> Tensor:
    """What becomes of a singular value."""
    for _ in range(STEPS):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return s


@pytest.mark.parametrize("shape", [(1, 5, 5), (3, 4, 9), (2, 9, 4), (2, 1, 7), (1, 64, 576)])
def test_singular_values_go_through_the_polynomial(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    wanted = u * polished(s / x.norm(dim=(-2, -1))[:, None])[:, None] @ vh
    assert torch.allclose(orthogonal(x), wanted, atol=1e-6)
    assert torch.allclose(orthogonal(x.float()).double(), wanted, atol=1e-3)


def test_all_but_the_smallest_directions_come_near_one() -> None:
    s = torch.logspace(-2.5, 0, 2000, dtype=torch.float64)
    assert 0.68 < float(polished(s).min()) < float(polished(s).max()) < 1.21


def test_zeros_stay_zeros() -> None:
    assert torch.equal(orthogonal(torch.zeros(2, 3, 5)), torch.zeros(2, 3, 5))


@pytest.mark.parametrize("size", [1e-10, 1e-14, 1e-20, 1e-25, 1e-30, 1e-44])
def test_small_ones_never_overflow(size: float) -> None:
    made = orthogonal(torch.randn(1, 64, 576, generator=torch.Generator().manual_seed(2)) * size)
    assert float(made.norm()) < 1.21 * 8  # the square root of 64, and a little


def test_a_weight_whose_gradient_vanishes_comes_to_rest() -> None:
    weight = nn.Parameter(torch.ones(8, 16))
    optimizer = Muon([weight], lr=0.01)
    weight.grad = torch.full((8, 16), 1e-3)
    for _ in range(1000):
        optimizer.step()
        weight.grad.zero_()
    rest = weight.detach().clone()
    optimizer.step()
    assert torch.equal(weight, rest)
    assert bool(rest.isfinite().all())


def test_a_closure_is_called_with_gradients_and_what_it_returns_is_returned() -> None:
    weight = nn.Parameter(torch.eye(3))
    optimizer = Muon([weight], lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return loss

    assert float(optimizer.step(closure).detach()) == 3
    assert float(closure().detach()) < 3


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((3,), {}),
        ((3, 3), {"lr": -1.0}),
        ((3, 3), {"momentum": 1.0}),
        ((3, 3), {"weight_decay": -1}),
    ],
)
def test_mistakes(shape: tuple[int, ...], options: dict[str, float]) -> None:
    with pytest.raises(UndiffuseError, match="Muon"):
        Muon([nn.Parameter(torch.zeros(shape))], **{"lr": 0.1, **options})


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (16, 16)])
def test_as_torch_does_it(shape: tuple[int, int], decay: float) -> None:
    start, gradients = torch.randn(shape), torch.randn(4, *shape)
    mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    more = {"adjust_lr_fn": "match_rms_adamw", "nesterov": True}
    optimizers = (
        Muon([mine], lr=0.01, momentum=0.8, weight_decay=decay),
        torch.optim.Muon([theirs], lr=0.01, momentum=0.8, weight_decay=decay, **more),
    )
    for gradient in gradients:
        mine.grad, theirs.grad = gradient.clone(), gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    moved = (mine - start).norm()
    assert (mine - theirs).norm() < 0.03 * moved  # theirs turns in bfloat16


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_kernel_is_a_matrix(layout: torch.memory_format) -> None:
    start, gradient = torch.randn(6, 3, 3, 3), torch.randn(6, 3, 3, 3)
    kernel = nn.Parameter(start.clone(memory_format=layout))
    matrix = nn.Parameter(start.flatten(1).clone())
    kernel.grad, matrix.grad = gradient.clone(memory_format=layout), gradient.flatten(1).clone()
    optimizer = Muon([kernel, matrix], lr=0.1)
    optimizer.step()
    assert torch.allclose(kernel.flatten(1), matrix, atol=1e-6)
    assert optimizer.state[kernel]["momentum"].stride() == kernel.stride()


def test_an_update_is_as_large_as_adams() -> None:
    for shape in ((64, 64), (32, 288), (256, 16)):
        parameter = nn.Parameter(torch.zeros(shape))
        parameter.grad = 1e-4 * torch.randn(shape)
        Muon([parameter], lr=1.0).step()
        assert 0.13 < float(parameter.detach().square().mean().sqrt()) < 0.23


def test_a_parameter_without_a_gradient_stays() -> None:
    idle, moved = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    moved.grad = torch.eye(2)
    optimizer = Muon([idle, moved], lr=0.1)
    optimizer.step()
    assert torch.equal(idle, torch.ones(2, 2))
    assert not torch.equal(moved, torch.ones(2, 2))
    assert idle not in optimizer.state
