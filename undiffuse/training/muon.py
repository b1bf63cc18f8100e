r"""Muon: matrices move along the orthogonal part of their momentum, all directions equally far.

    m_n = beta m_{n-1} + (1 - beta) g_n,    u_n = (1 - beta) g_n + beta m_n,
    W_n = W_{n-1} - lr 0.2 sqrt(max(rows, columns)) orthogonal(u_n)

A gradient is mostly a few large singular directions; the many small ones, which take Adam a long
time, get here as much as those. The factor gives an update the root mean square of Adam's, about
0.2, so a rate for one serves for the other. A convolution is the matrix [outputs, inputs * kernel].

Sources: Jordan et al., 2024, kellerjordan.github.io/posts/muon; the factor: Liu et al., 2025,
arXiv:2502.16982.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from undiffuse.errors import UndiffuseError

STEPS, SIZE = 5, 0.2  # of the iteration; root mean square of an update


def orthogonal(x: Tensor) -> Tensor:
    r"""U V^T, roughly, of matrices x = U S V^T, [N, rows, columns].

    Every singular value s of x / |x| goes through f(s) = a s + b s^3 + c s^5, five times. It ends
    near 1, within about 0.3, unless it was below 0.002; more steps do not bring it nearer, nor is
    that of use. The steps are done on the Gram matrix, which is smaller:

        G <- G P^2, Q <- P Q  with  P = a I + b G + c G^2,  and in the end Q x.

    Matrices of zeros stay zeros, and those of norms below 1e-12 come near them.
    """
    if x.shape[-2] > x.shape[-1]:
        return orthogonal(x.mT).mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-12)
    gram = torch.bmm(x, x.mT)
    a, b, c = 3.4445, -4.7750, 2.0315
    product: Tensor | None = None
    for step in range(STEPS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        product = factor if product is None else torch.bmm(factor, product)
        if step < STEPS - 1:
            gram = torch.bmm(torch.bmm(factor, gram), factor)
    assert product is not None
    return torch.bmm(product, x)


class Muon(torch.optim.Optimizer):
    """Muon for parameters of two axes or more; other parameters need another optimiser.

    Args:
        parameters: matrices, or kernels of convolutions.
        lr: about the root mean square by which weights move in a step, times five.
        momentum: beta, in [0, 1).
        weight_decay: weights shrink by lr * weight_decay in a step.

    Raises:
        UndiffuseError: a parameter of one axis or none, a negative rate or decay, momentum not in
            [0, 1).
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
    ) -> None:
        if lr < 0 or weight_decay < 0 or not 0 <= momentum < 1:
            raise UndiffuseError(
                "Muon needs a rate and a decay of at least 0 and a momentum in [0, 1), not"
                f" {lr}, {weight_decay} and {momentum}"
            )
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for shape in (p.shape for group in self.param_groups for p in group["params"]):
            if len(shape) < 2:
                raise UndiffuseError(f"Muon moves matrices; {list(shape)} is for another optimiser")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move the parameters that have a gradient; what `closure`, called first, returned."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            rate, beta = group["lr"], group["momentum"]
            moved: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            if not moved:
                continue
            for p in moved:
                if p not in self.state:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            gradients = [p.grad for p in moved if p.grad is not None]
            momenta = [self.state[p]["momentum"] for p in moved]
            torch._foreach_lerp_(momenta, gradients, 1 - beta)
            ahead = torch._foreach_lerp(gradients, momenta, beta)
            if group["weight_decay"]:
                torch._foreach_mul_(moved, 1 - rate * group["weight_decay"])
            shapes = [p.flatten(1).shape for p in moved]
            for shape in dict.fromkeys(shapes):  # those alike are turned together
                alike = [k for k, other in enumerate(shapes) if other == shape]
                turned = orthogonal(torch.stack([ahead[k].flatten(1) for k in alike]))
                updates = [u.view_as(moved[k]) for k, u in zip(alike, turned, strict=True)]
                factor = SIZE * max(shape) ** 0.5
                torch._foreach_add_([moved[k] for k in alike], updates, alpha=-rate * factor)
        return loss
