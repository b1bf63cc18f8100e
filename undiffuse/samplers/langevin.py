r"""Langevin dynamics: samples of one density from its score alone.

    unadjusted            x <- x + (h/2) grad log p(x) + sqrt(h) z,    z ~ N(0, I)
    Metropolis-adjusted   the same as a proposal, kept with probability
                          min(1, p(x') q(x | x') / (p(x) q(x' | x)))

The first needs no density, and its law is off by O(h): on N(0, v) it settles at the variance
v / (1 - h / (4 v)). The second has p as its exact law for any h. Both explore only what they can
reach: between modes that lie far apart the weights stay those of the start, which annealing cures
(`undiffuse.samplers.annealed_langevin`).

These are chains at one noise level, not samplers through time: for a denoiser the score is
`lambda x: denoiser.score(x, t)`.

Sources: Roberts & Tweedie 1996; Song & Ermon 2019 (arXiv 1907.05600); lecture 004.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from undiffuse.broadcast import over
from undiffuse.catalogue import finite
from undiffuse.derivatives import Field
from undiffuse.errors import UndiffuseError
from undiffuse.noise import Stream


class Chain(NamedTuple):
    """A run of Metropolis-adjusted Langevin dynamics."""

    x: Tensor  # the last states [B, ...], or all of them [steps + 1, B, ...]
    acceptance: Tensor  # the share of proposals that were kept, [B]


def unadjusted_langevin(
    score: Field,
    x: Tensor,
    step_size: float,
    steps: int,
    seed: int = 0,
    *,
    first_index: int = 0,
    trajectory: bool = False,
) -> Tensor:
    """Unadjusted Langevin dynamics: x <- x + (h/2) score(x) + sqrt(h) z.

    The noise of chain i depends on (seed, first_index + i) alone, not on the batch.

    Args:
        score: grad log p, [B, ...] -> [B, ...].
        x: the start [B, ...].
        step_size: h > 0, in the square of the data's units. Stable on N(0, v) for h < 4 v.
        steps: how many steps, >= 1.
        seed: the noise is a function of (seed, index, step).
        first_index: the index of the first chain.
        trajectory: return every state.

    Returns:
        The last states [B, ...], or [steps + 1, B, ...] with the start first.

    Raises:
        UndiffuseError: step_size or steps out of range.

    >>> unadjusted_langevin(lambda x: -x, torch.zeros(4, 2), step_size=0.1, steps=3).shape
    torch.Size([4, 2])
    """
    _check(step_size, steps)
    stream = _stream(x, seed, first_index)
    states = [x]
    with torch.no_grad():
        for n in range(steps):
            z = stream.draw(x.shape[1:], n, "langevin").to(x)
            x = x + step_size / 2 * score(x) + math.sqrt(step_size) * z
            states = [*states, x] if trajectory else [x]
    return torch.stack(states) if trajectory else x


def metropolis_langevin(
    log_prob: Field,
    score: Field,
    x: Tensor,
    step_size: float,
    steps: int,
    seed: int = 0,
    *,
    first_index: int = 0,
    trajectory: bool = False,
) -> Chain:
    """Metropolis-adjusted Langevin dynamics (MALA): Langevin proposals, kept so that p is exact.

    With q(x' | x) = N(x + (h/2) score(x), h I) a proposal is kept with probability
    min(1, p(x') q(x | x') / (p(x) q(x' | x))); otherwise the chain stays. p needs no constant: an
    energy serves as log_prob = -E. Rates of acceptance near 0.57 are best in high dimension.

    Args:
        log_prob: log p up to a constant, [B, ...] -> [B].
        score: its gradient, [B, ...] -> [B, ...]; one that is not costs only acceptance.
        x: the start [B, ...].
        step_size: h > 0, in the square of the data's units.
        steps: how many proposals, >= 1.
        seed: the noise is a function of (seed, index, step).
        first_index: the index of the first chain.
        trajectory: keep every state.

    Raises:
        UndiffuseError: step_size or steps out of range.

    Source: Roberts & Tweedie 1996; Roberts & Rosenthal 1998.
    """
    _check(step_size, steps)
    stream = _stream(x, seed, first_index)
    states, kept = [x], torch.zeros(len(x), dtype=torch.float64, device=x.device)
    with torch.no_grad():
        log_p, pull = log_prob(x), score(x)
        for n in range(steps):
            z = stream.draw(x.shape[1:], n, "langevin").to(x)
            proposal = x + step_size / 2 * pull + math.sqrt(step_size) * z
            new_log_p, new_pull = log_prob(proposal), score(proposal)
            back = (x - proposal - step_size / 2 * new_pull).flatten(1).square().sum(1)
            there = step_size * z.flatten(1).square().sum(1)
            log_ratio = new_log_p - log_p + (there - back) / (2 * step_size)  # [B]
            log_u = torch.special.log_ndtr(stream.draw((), n, "accept").to(log_ratio))
            accept = log_u < log_ratio  # u = Phi(normal) is uniform; NaN is never kept
            x = torch.where(over(accept, x).bool(), proposal, x)
            pull = torch.where(over(accept, x).bool(), new_pull, pull)
            log_p = torch.where(accept, new_log_p, log_p)
            kept += accept
            states = [*states, x] if trajectory else [x]
    return Chain(torch.stack(states) if trajectory else x, kept / steps)


def _stream(x: Tensor, seed: int, first_index: int) -> Stream:
    return Stream(seed, tuple(range(first_index, first_index + len(x))))


def _check(step_size: float, steps: int) -> None:
    if not finite(step_size) or step_size <= 0:
        raise UndiffuseError(f"step_size must be a positive number, not {step_size!r}")
    if not steps >= 1 or steps % 1 != 0:
        raise UndiffuseError(f"steps must be a whole number, at least 1, not {steps!r}")
