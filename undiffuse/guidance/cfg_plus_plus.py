r"""CFG++: classifier-free guidance whose new noise is the unconditional one.

The paper changes a step of DDIM. With x0_w = x0(null) + w (x0(c) - x0(null)), 0 <= w <= 1,

    x_s = alpha_s x0_w + sigma_s eps(null)        instead of  alpha_s x0_w + sigma_s eps_w.

eps(null) is x0(null) in other words, and both forms are affine in the two estimates, so this is
plain DDIM under classifier-free guidance of another weight, one that depends on the step:

    w(t) = w / (1 - alpha_t sigma_s / (alpha_s sigma_t)).

That is a denoiser once it knows the times of the sampler. It also tells what the method is: where
sigma / alpha falls by the same factor at each step, as on the log-SNR grid, w(t) is a constant
until the last step, and it grows without bound as the steps get finer, so w has no meaning apart
from the times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.broadcast import over
from undiffuse.catalogue import check, finite
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.errors import UndiffuseError
from undiffuse.guidance.base import Combination
from undiffuse.guidance.cfg import given_and_null
from undiffuse.schedules.base import Schedule, Time


class ClassifierFreePlusPlus(Combination):
    """x0(null) + w(t) (x0(c) - x0(null)), w(t) = w / (1 - alpha_t sigma_s / (alpha_s sigma_t)).

    s is the next of `times` below t; from the last one on, where the next is data, w(t) = w. With
    the sampler "ddim" on the same times this is the paper's algorithm; other first-order samplers
    come near it. One batched call.

        times = LogSNR().times(schedule, 20)
        guide = ClassifierFreePlusPlus(denoiser, 0.6, times)
        x = sample(guide, (16, 3, 32, 32), "ddim", times=times, label=label)

    Args:
        denoiser: as for `ClassifierFree`.
        weight: w >= 0; up to 1 the new estimate lies between the two.
        times: those of the sampler, falling, in [0, 1].

    Raises:
        UndiffuseError: weight or times out of range; in a call: no condition.

    Source: Chung et al. 2024 (arXiv 2406.08070), algorithm 2.
    """

    name: ClassVar[str] = "classifier-free-plus-plus"
    times: Tensor

    def __init__(self, denoiser: Denoiser, weight: float, times: Tensor | Sequence[float]) -> None:
        super().__init__()
        self.denoiser, self.weight = denoiser, weight
        check(finite(weight) and weight >= 0, self, "weight", "a finite number >= 0")
        moments = torch.as_tensor(times, dtype=torch.float64)
        inside = moments.ndim == 1 and bool(((moments >= 0) & (moments <= 1)).all())
        if not inside or len(moments) == 0 or not bool((moments.diff() < 0).all()):
            raise UndiffuseError("times must be the falling times of the sampler, in [0, 1]")
        self.register_buffer("times", moments, persistent=False)

    def weight_at(self, t: Time) -> Tensor:
        """w(t), of t's shape, float64.

        >>> from undiffuse.exact.gaussian import Gaussian
        >>> from undiffuse.schedules.flow import Flow
        >>> oracle = Gaussian(torch.zeros(2), Flow(), std=1.0)
        >>> guide = ClassifierFreePlusPlus(oracle, 0.5, [0.8, 0.5, 0.0])
        >>> [guide.weight_at(t).item() for t in (0.8, 0.5)]  # sigma / alpha: 4, 1, 0
        [0.666..., 0.5]
        """
        rising = self.times.flip(0)
        t = torch.as_tensor(t, dtype=torch.float64, device=rising.device)
        below = torch.searchsorted(rising, t.contiguous()) - 1  # the last one that is < t
        s = rising[below.clamp(min=0)]
        gap = self.schedule.log_snr(t) - self.schedule.log_snr(s)
        last = (below < 0) | (self.schedule.sigma(s) == 0)
        return self.weight / -torch.where(last, -torch.inf, gap / 2).expm1()

    def conditions(
        self, batch: int, condition: dict[str, Condition]
    ) -> Sequence[dict[str, Condition]]:
        return given_and_null(condition)

    def combine(self, t: Tensor, estimates: Sequence[Tensor]) -> Tensor:
        given, null = estimates
        return null + over(self.weight_at(t), null) * (given - null)

    def with_schedule(self, schedule: Schedule) -> Denoiser:
        """The same guide under another schedule, with the times of equal log-SNR."""
        times = schedule.t_from_log_snr(self.schedule.log_snr(self.times))
        return ClassifierFreePlusPlus(self.denoiser.with_schedule(schedule), self.weight, times)
