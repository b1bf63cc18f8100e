r"""Derivatives of functions of samples: gradients, Jacobians and their traces.

The functions here map samples to samples, f: [B, ...] -> [B, ...], each sample on its own, or to
numbers, [B, ...] -> [B]. A trace is exact by D pulls through the function, or an estimate by
Hutchinson's identity

    tr(J) = E[v^T J v],    E[v v^T] = I,

for which the caller brings the v. Results keep their graph where gradients are recorded, so a
parameter of f can be trained through them; under `torch.no_grad()` they do not.

Source: Hutchinson 1989, "A stochastic estimator of the trace of the influence matrix".
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from undiffuse.errors import UndiffuseError

Field = Callable[[Tensor], Tensor]


def gradient(f: Field, x: Tensor) -> Tensor:
    """grad f(x) of a function that gives one number per sample; x and the result [B, ...].

    >>> gradient(lambda x: (x**3).sum(1), torch.tensor([[1.0, 2.0]])).tolist()
    [[3.0, 12.0]]
    """
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        x = _leaf(x)
        return _pulled(f(x).sum(), x, keep)


def jacobian(f: Field, x: Tensor) -> Tensor:
    """J_ij = d f_i / d x_j of each sample, [B, D, D], over the flattened dimensions of x [B, ...].

    >>> matrix = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> jacobian(lambda x: x @ matrix.T, torch.zeros(1, 2)).tolist()
    [[[1.0, 2.0], [3.0, 4.0]]]
    """
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        x = _leaf(x)
        value = f(x).flatten(1)
        rows = [_pulled(value[:, i].sum(), x, keep).flatten(1) for i in range(value.shape[1])]
    return torch.stack(rows, 1)  # [B, D, D]


def divergence(f: Field, x: Tensor) -> tuple[Tensor, Tensor]:
    """f(x) [B, ...] and its divergence tr(df/dx) [B], exactly, by D pulls.

    >>> divergence(lambda x: x**2, torch.tensor([[1.0, 2.0]]))[1].tolist()
    [6.0]
    """
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        x = _leaf(x)
        value = f(x)
        flat = value.flatten(1)
        trace = torch.zeros_like(flat[:, 0])
        for i in range(flat.shape[1]):
            trace = trace + _pulled(flat[:, i].sum(), x, keep).flatten(1)[:, i]
    return (value, trace) if keep else (value.detach(), trace.detach())


def hutchinson(f: Field, x: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
    """f(x) [B, ...] and the estimates v^T (df/dx) v of its divergence, [M, B], one for each probe.

    Args:
        f: the function.
        x: samples [B, ...].
        probes: v, [M, B, ...], with E[v v^T] = I: standard normal, random signs, or points of the
            sphere of radius sqrt(D).

    Raises:
        UndiffuseError: the probes are not M times the shape of x.
    """
    if probes.ndim != x.ndim + 1 or probes.shape[1:] != x.shape:
        raise UndiffuseError(
            f"probes must be [M, {', '.join(map(str, x.shape))}] for these samples, not"
            f" {list(probes.shape)}"
        )
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        x = _leaf(x)
        value = f(x)
        pulled = [_pulled((value * v).sum(), x, keep) for v in probes]
    estimates = torch.stack(
        [(p * v).flatten(1).sum(1) for p, v in zip(pulled, probes, strict=True)]
    )
    return (value, estimates) if keep else (value.detach(), estimates)


def _leaf(x: Tensor) -> Tensor:
    return x if x.requires_grad else x.detach().requires_grad_()


def _pulled(value: Tensor, x: Tensor, keep: bool) -> Tensor:
    """d value / dx; zero where value does not depend on x."""
    if not value.requires_grad:
        return torch.zeros_like(x)
    (pulled,) = torch.autograd.grad(
        value, x, create_graph=keep, retain_graph=True, materialize_grads=True
    )
    return pulled
