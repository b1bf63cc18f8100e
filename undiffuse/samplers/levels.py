"""Noise levels as a sampler needs them: as plain numbers, and the first-order step between two."""

from __future__ import annotations

import torch
from torch import Tensor

from undiffuse.schedules.levels import Level, level

__all__ = ["Level", "first_order", "inner", "level", "noise_of"]


def inner(now: Level, then: Level) -> bool:
    """Whether a step joins two finite log-SNRs: rules of higher order work only there."""
    return now.alpha * then.alpha * then.sigma > 0


def noise_of(x: Tensor, x0_hat: Tensor, now: Level) -> Tensor:
    """eps_hat = (x - alpha x0_hat) / sigma, [B, ...]."""
    return torch.sub(x, x0_hat, alpha=now.alpha) / now.sigma


def first_order(x: Tensor, x0_hat: Tensor, now: Level, then: Level) -> Tensor:
    """alpha_s x0_hat + sigma_s eps_hat: the step of DDIM, which every rule takes at either end.

    Written as (sigma_s / sigma_t) x + (alpha_s - alpha_t sigma_s / sigma_t) x0_hat; [B, ...].
    """
    shrink = then.sigma / now.sigma
    return torch.add(shrink * x, x0_hat, alpha=then.alpha - now.alpha * shrink)
