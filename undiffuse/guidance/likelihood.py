r"""Guidance by any likelihood: the general form of which the others are cases.

    x0_hat(x_t | y) = x0_hat(x_t) + (sigma^2 / alpha) w grad log p(y | x_t).

p(y | x_t) = E[p(y | x_0) | x_t] is known exactly only in closed cases. Diffusion posterior sampling
puts the estimate in the place of x_0, p(y | x_t) ~ p(y | x_0 = x0_hat(x_t)), and differentiates
through the denoiser; any loss of x0_hat will do for -log p(y | x_0), with nothing to train.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.derivatives import gradient
from undiffuse.guidance.base import PREPARED, Guide, tilted

LogLikelihood = Callable[..., Tensor]


class LikelihoodGuide(Guide):
    r"""x0_hat(x_t) + (sigma^2 / alpha) w grad log p(y | x_t), the gradient by autograd.

    `log_likelihood(x_t, t, x0_hat, **observed)` gives log p(y | x_t), [B], up to a constant.
    x0_hat comes with its graph: using it differentiates through the denoiser, at no second call.
    With samples y [B, M] of y = A x_0 + s n, posterior sampling is

        def log_p(x_t, t, x0_hat, y):
            return -(y - x0_hat @ A.mT).square().sum(1) / (2 * s**2)

        sample(LikelihoodGuide(denoiser, log_p, ["y"]), y=y, ...)

    Args:
        denoiser: E[x_0 | x_t].
        log_likelihood: as above; its names are those of `observed`.
        observed: the conditions that are for `log_likelihood` and not for the denoiser, which gets
            all others.
        weight: w >= 0.

    Raises:
        UndiffuseError: weight out of range; in a call: alpha(t) = 0.

    Source: Chung et al. 2023 (arXiv 2209.14687) for posterior sampling; Song et al. 2023 ("Loss-
    guided diffusion models", ICML); Bansal et al. 2023 (arXiv 2302.07121).
    """

    name: ClassVar[str] = "likelihood"

    def __init__(
        self,
        denoiser: Denoiser,
        log_likelihood: LogLikelihood,
        observed: Sequence[str] = (),
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.denoiser, self.log_likelihood = denoiser, log_likelihood
        self.observed, self.weight = tuple(observed), weight
        check(finite(weight) and weight >= 0, self, "weight", "a finite number >= 0")

    def prepare(self, batch: int, **condition: Condition) -> dict[str, Any]:
        """What is observed as it is, all else for the denoiser."""
        ready = self.denoiser.prepare(batch, **self.beneath(condition))
        return {**condition, PREPARED: ready}

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        ready = condition.get(PREPARED, self.beneath(condition))
        seen = {k: condition[k] for k in self.observed if k in condition}
        estimates = []

        def log_likelihood(x: Tensor) -> Tensor:
            estimates.append(self.denoiser(x, t, **ready))
            found: Tensor = self.log_likelihood(x, t, estimates[0], **seen)
            return found

        pull = self.weight * gradient(log_likelihood, x_t)
        x0_hat = estimates[0] if torch.is_grad_enabled() else estimates[0].detach()
        return tilted(self.schedule, x0_hat, t, pull)

    def beneath(self, condition: dict[str, Condition]) -> dict[str, Condition]:
        """Without what is observed."""
        return {k: v for k, v in condition.items() if k not in self.observed}
