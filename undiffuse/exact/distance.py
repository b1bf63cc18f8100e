r"""The geometry of the ideal denoiser: distance to a set of points, and its smooth version.

For a finite set K with N points, at alpha = 1,

    dist_K(x)^2         = min_i |x - x_i|^2,                   1/2 grad dist_K^2 = x - proj_K(x),
    dist_K^2(x, sigma)  = -2 sigma^2 log sum_i exp(-|x - x_i|^2 / (2 sigma^2)),

and the ideal denoiser follows the gradient of the smooth one:

    1/2 grad dist_K^2(x, sigma) = sigma eps*(x, sigma) = x - E[x_0 | x].

The lecture prints -sigma^2 log sum_i ... as a distance. That is half of the square above, so its
own gradient, not that of half its square, is sigma eps*. With another alpha, read x_t / alpha for x
and sigma / alpha for sigma.

Sources: lecture 003; Permenter & Yuan 2023 (arXiv 2306.04848).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from undiffuse.broadcast import over
from undiffuse.errors import UndiffuseError


class _SquareDistance(torch.autograd.Function):
    """torch.cdist squared, with second derivatives too, which torch.cdist lacks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, means: Tensor) -> Tensor:
        ctx.save_for_backward(x, means)
        mode = "donot_use_mm_for_euclid_dist"
        if means.ndim == 2:
            return torch.cdist(x, means, compute_mode=mode).square()
        return torch.cdist(x[:, None], means, compute_mode=mode)[:, 0].square()

    @staticmethod
    def backward(ctx: Any, *pulls: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (x, means), (pull,) = ctx.saved_tensors, pulls
        for_x = for_means = None
        if ctx.needs_input_grad[0]:
            towards = pull @ means if means.ndim == 2 else (pull[..., None] * means).sum(1)
            for_x = 2 * (pull.sum(1, keepdim=True) * x - towards)
        if ctx.needs_input_grad[1]:
            if means.ndim == 2:
                for_means = 2 * (pull.sum(0)[:, None] * means - pull.mT @ x)
            else:
                for_means = 2 * pull[..., None] * (means - x[:, None])
        return for_x, for_means


def square_distances(x: Tensor, points: Tensor) -> Tensor:
    """|x_b - x_i|^2, [B, N], without the cancellation of x^2 - 2 x x_i + x_i^2; any derivatives.

    Args:
        x: flat samples [B, D].
        points: [N, D], or [B, N, D] with points of its own for each sample.
    """
    squares: Tensor = _SquareDistance.apply(x, points)  # type: ignore[no-untyped-call]
    return squares


def distance_to(points: Tensor, x: Tensor) -> Tensor:
    """dist_K(x) = min_i |x - x_i| for points [N, ...] and x [B, ...]; [B], in the data's units.

    >>> distance_to(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([1.])
    """
    return _squares(points, x).amin(1).sqrt()


def projection(points: Tensor, x: Tensor) -> Tensor:
    """proj_K(x), the nearest of the points [N, ...] (the first of equals); x's shape [B, ...].

    1/2 grad dist_K(x)^2 = x - proj_K(x) wherever the nearest point is unique.
    """
    return points.to(x)[_squares(points, x).argmin(1)]


def smoothed_square_distance(
    points: Tensor, x: Tensor, sigma: Tensor | float, normalised: bool = False
) -> Tensor:
    r"""dist_K^2(x, sigma) = -2 sigma^2 log sum_i exp(-|x - x_i|^2 / (2 sigma^2)), [B].

    It lies in [dist^2 - 2 sigma^2 log N, dist^2], so it can be negative, and tends to dist^2 as
    sigma falls to 0. Normalised it has the mean in place of the sum, which adds 2 sigma^2 log N and
    makes it non-negative. The gradient is the same: 1/2 grad = x - E[x_0 | x].

    Args:
        points: K, [N, ...].
        x: samples [B, ...].
        sigma: noise level > 0, in the data's units; a number or [B].
        normalised: the mean over the points instead of the sum.

    Raises:
        UndiffuseError: sigma is not positive, or the shapes do not fit.

    Source: lecture 003, corrected; Permenter & Yuan 2023 (arXiv 2306.04848).

    >>> one = torch.zeros(1, 2)  # for a single point there is nothing to smooth
    >>> smoothed_square_distance(one, torch.tensor([[3.0, 4.0]]), sigma=0.5)
    tensor([25.])
    """
    sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    if not bool((sigma > 0).all()):
        raise UndiffuseError("a smoothed distance needs sigma > 0; at sigma = 0 use distance_to")
    squares = _squares(points, x)
    log_sum = (squares / over(-2 * sigma**2, squares)).logsumexp(1)
    return -2 * sigma**2 * (log_sum - math.log(len(points)) * normalised)


def _squares(points: Tensor, x: Tensor) -> Tensor:
    if points.shape[1:] != x.shape[1:] or len(points) == 0:
        raise UndiffuseError(
            f"points must be [N, {', '.join(map(str, x.shape[1:]))}] for these samples, not"
            f" {list(points.shape)}"
        )
    return square_distances(x.flatten(1), points.flatten(1).to(x))
