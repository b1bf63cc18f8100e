"""Gradients, Jacobians and traces against torch.func."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from undiffuse.derivatives import divergence, gradient, hutchinson, jacobian
from undiffuse.errors import UndiffuseError


def field(x: Tensor) -> Tensor:
    return torch.sin(x) * x.flatten(1).square().sum(1).reshape(-1, *[1] * (x.ndim - 1))


@pytest.mark.parametrize("shape", [(4, 3), (4, 1, 2, 2)])
def test_against_torch_func(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    size = x[0].numel()
    expected = torch.stack(
        [torch.func.jacrev(lambda y: field(y[None])[0])(one).reshape(size, size) for one in x]
    )
    torch.testing.assert_close(jacobian(field, x).detach(), expected)
    value, trace = divergence(field, x)
    torch.testing.assert_close(value.detach(), field(x))
    torch.testing.assert_close(trace.detach(), expected.diagonal(dim1=1, dim2=2).sum(1))
    probes = torch.randn(5, *shape, dtype=torch.float64)
    value, estimates = hutchinson(field, x, probes)
    flat = probes.flatten(2)
    torch.testing.assert_close(
        estimates.detach(), torch.einsum("mbi,bij,mbj->mb", flat, expected, flat)
    )
    slope = gradient(lambda y: (y**3).flatten(1).sum(1), x)
    torch.testing.assert_close(slope.detach(), 3 * x**2)


def test_the_graph_is_kept_only_where_gradients_are_recorded() -> None:
    weight = torch.tensor(2.0, requires_grad=True)
    x = torch.ones(2, 2)
    divergence(lambda y: weight * y**2, x)[1].sum().backward()
    assert weight.grad is not None
    assert weight.grad.item() == 8
    with torch.no_grad():
        results = [
            *divergence(lambda y: weight * y, x),
            *hutchinson(lambda y: weight * y, x, x[None]),
            jacobian(lambda y: weight * y, x),
            gradient(lambda y: weight * y.sum(1), x),
        ]
    assert not any(r.requires_grad for r in results)


def test_what_does_not_depend_on_x_has_no_divergence() -> None:
    x, bias = torch.ones(2, 3), torch.zeros(3, requires_grad=True)
    for constant in (torch.zeros_like, lambda y: bias.expand(2, 3)):
        assert divergence(constant, x)[1].tolist() == [0, 0]


def test_probes_of_another_shape_are_refused() -> None:
    x = torch.ones(2, 3)
    for probes in (x, torch.ones(5, 2, 2)):
        with pytest.raises(UndiffuseError, match=r"probes must be \[M, 2, 3\]"):
            hutchinson(lambda y: y, x, probes)
