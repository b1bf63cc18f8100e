r"""Score matching: fitting s(x) to grad log p(x) from samples of p, in five ways.

    explicit            1/2 |s - grad log p|^2                       needs the true score
    implicit            tr(ds/dx) + 1/2 |s|^2                        integration by parts
    sliced              v^T (ds/dx) v + 1/2 (v^T s)^2                along random directions
    finite difference   the same without derivatives in x
    denoising           1/2 |s(x + sigma n) + n / sigma|^2           the score of the noisy data

In expectation over x ~ p the first three differ by a constant, -1/2 E|grad log p|^2 from explicit,
and the fourth up to O(epsilon^2). The last differs by a constant from the explicit loss of the
noisy marginal p_sigma, not of p. Each gives one number per sample, [B], a sum over the dimensions,
and is differentiable in the parameters of s.

For an energy network take `Energy.score`: with s = -grad E the implicit loss is
-tr(hess E) + 1/2 |grad E|^2 (the lecture prints the trace with the opposite sign).

Sources: Hyvarinen 2005; Vincent 2011; Song et al. 2019 (arXiv 1905.07088); Pang et al. 2020
(arXiv 2007.03317); lecture 004.
"""

from __future__ import annotations

import torch
from torch import Tensor

from undiffuse.broadcast import over
from undiffuse.derivatives import Field, divergence, hutchinson
from undiffuse.errors import UndiffuseError


def explicit(score: Field, true_score: Field, x: Tensor) -> Tensor:
    """1/2 |s(x) - grad log p(x)|^2, [B]: half the Fisher divergence, where the answer is known.

    Args:
        score: s, [B, ...] -> [B, ...].
        true_score: grad log p, as `lambda x: oracle.score(x, t)`.
        x: samples of p, [B, ...].

    >>> explicit(lambda x: -x, lambda x: -2 * x, torch.tensor([[1.0, 2.0]])).tolist()
    [2.5]
    """
    return _half_square(score(x) - true_score(x))


def implicit(score: Field, x: Tensor) -> Tensor:
    """tr(ds/dx) + 1/2 |s(x)|^2, [B]: explicit up to a constant, with the trace in D derivatives.

    Args:
        score: s, [B, ...] -> [B, ...], each sample on its own.
        x: samples of p, [B, ...].

    Source: Hyvarinen 2005, theorem 1.

    >>> implicit(lambda x: -x, torch.tensor([[1.0, 2.0]])).tolist()
    [0.5]
    """
    value, trace = divergence(score, x)
    return trace + _half_square(value)


def implicit_hutchinson(score: Field, x: Tensor, probes: Tensor) -> Tensor:
    """mean_v v^T (ds/dx) v + 1/2 |s(x)|^2, [B]: `implicit` with an unbiased trace.

    It is also sliced score matching with reduced variance: the square is taken in full.

    Args:
        score: s, [B, ...] -> [B, ...], each sample on its own.
        x: samples of p, [B, ...].
        probes: v, [M, B, ...], with E[v v^T] = I.

    Raises:
        UndiffuseError: probes of another shape.

    Source: Hutchinson 1989; Song et al. 2019 (arXiv 1905.07088), equation 8.
    """
    value, estimates = hutchinson(score, x, probes)
    return estimates.mean(0) + _half_square(value)


def sliced(score: Field, x: Tensor, directions: Tensor) -> Tensor:
    """mean_v v^T (ds/dx) v + 1/2 (v^T s(x))^2, [B]: implicit score matching seen along v.

    Unbiased for `implicit` if E[v v^T] = I. `implicit_hutchinson` is its form of smaller variance.

    Args:
        score: s, [B, ...] -> [B, ...], each sample on its own.
        x: samples of p, [B, ...].
        directions: v, [M, B, ...].

    Raises:
        UndiffuseError: directions of another shape.

    Source: Song et al. 2019 (arXiv 1905.07088), equation 7.
    """
    value, estimates = hutchinson(score, x, directions)
    along = (value * directions).flatten(2).sum(2)  # [M, B]
    return (estimates + along.square() / 2).mean(0)


def finite_difference(score: Field, x: Tensor, directions: Tensor, epsilon: float = 0.05) -> Tensor:
    """`sliced` from two values of s along each v, without derivatives in x; error O(epsilon^2).

    With s_+ and s_- = v^T s(x +- epsilon v):
    mean_v (s_+ - s_-) / (2 epsilon) + (s_+ + s_-)^2 / 8, [B].

    Args:
        score: s, [B, ...] -> [B, ...].
        x: samples of p, [B, ...].
        directions: v, [M, B, ...], with E[v v^T] = I.
        epsilon: half the distance of the two points, > 0, in units of the data per unit of v.

    Raises:
        UndiffuseError: epsilon is not positive.

    Source: Pang et al. 2020 (arXiv 2007.03317).
    """
    _positive(epsilon)
    total = torch.zeros_like(x.flatten(1)[:, 0])
    for v in directions:
        ahead, behind = (
            (v * score(x + shift * v)).flatten(1).sum(1) for shift in (epsilon, -epsilon)
        )
        total = total + (ahead - behind) / (2 * epsilon) + (ahead + behind).square() / 8
    return total / len(directions)


def finite_difference_energy(
    energy: Field, x: Tensor, directions: Tensor, epsilon: float = 0.05
) -> Tensor:
    """`sliced` for s = -grad E from values of E alone; error O(epsilon^2).

    With E_+ and E_- = E(x +- epsilon v):
    mean_v -(E_+ + E_- - 2 E(x)) / epsilon^2 + (E_+ - E_-)^2 / (8 epsilon^2), [B].

    Args:
        energy: E, [B, ...] -> [B].
        x: samples of p, [B, ...].
        directions: v, [M, B, ...], with E[v v^T] = I.
        epsilon: the step along v, > 0; rounding costs about 1e-7 / epsilon^2 in float32.

    Raises:
        UndiffuseError: epsilon is not positive.

    Source: Pang et al. 2020 (arXiv 2007.03317), FD-SSM.
    """
    _positive(epsilon)
    middle = energy(x)
    total = torch.zeros_like(middle)
    for v in directions:
        ahead, behind = energy(x + epsilon * v), energy(x - epsilon * v)
        total = total - (ahead + behind - 2 * middle) + (ahead - behind).square() / 8
    return total / (epsilon**2 * len(directions))


def denoising(score: Field, x: Tensor, noise: Tensor, sigma: Tensor | float) -> Tensor:
    """1/2 |s(x + sigma n) + n / sigma|^2, [B]: regression on the score of N(x, sigma^2 I).

    Its minimiser is the score of p_sigma, the data smoothed by sigma. Times sigma^2 it is the
    simple loss of a noise prediction eps = -sigma s.

    Args:
        score: s at the noise level sigma, [B, ...] -> [B, ...].
        x: data [B, ...] (alpha x_0 under a schedule that shrinks).
        noise: n, standard normal [B, ...].
        sigma: > 0, a number or [B].

    Raises:
        UndiffuseError: sigma is not positive.

    Source: Vincent 2011, "A connection between score matching and denoising autoencoders".
    """
    if not bool((torch.as_tensor(sigma) > 0).all()):
        raise UndiffuseError(f"denoising score matching needs sigma > 0, not {sigma}")
    sigma = over(sigma, x)
    return _half_square(score(x + sigma * noise) + noise / sigma)


def _half_square(x: Tensor) -> Tensor:
    return x.flatten(1).square().sum(1) / 2


def _positive(epsilon: float) -> None:
    if not epsilon > 0:
        raise UndiffuseError(f"epsilon must be positive, not {epsilon}")
