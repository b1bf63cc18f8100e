"""Guidance in an interval of noise levels: a choice between two denoisers."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.catalogue import check
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.guidance.base import Guide, same_schedule
from undiffuse.schedules.base import Schedule, Time


class Interval(Guide):
    """guided(x_t) where noise_min < sigma / alpha <= noise_max, denoiser(x_t) elsewhere.

    At high noise guidance takes variety away, and at low noise it does nothing but cost: what
    helps lies between. Each sample asks one of the two only, so steps outside of the interval have
    the price of the plain denoiser.

    Args:
        guided: any guide around `denoiser`; it takes the same conditions.
        denoiser: the plain one.
        noise_min: sigma / alpha, >= 0, in the data's units.
        noise_max: larger; infinity for no upper end.

    Raises:
        UndiffuseError: the interval is empty, or the two have different schedules.

    Source: Kynkaanniemi et al. 2024 (arXiv 2404.07724), where alpha = 1.
    """

    name: ClassVar[str] = "interval"

    def __init__(
        self, guided: Denoiser, denoiser: Denoiser, noise_min: float, noise_max: float
    ) -> None:
        super().__init__()
        self.guided, self.denoiser = guided, denoiser
        self.noise_min, self.noise_max = noise_min, noise_max
        check(noise_min >= 0, self, "noise_min", "at least 0")
        check(noise_max > noise_min, self, "noise_max", "larger than noise_min")
        same_schedule(guided, denoiser)

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        inside = self._inside(t)
        if bool(inside.all()):
            return self.guided(x_t, t, **condition)
        if not bool(inside.any()):
            return self.denoiser(x_t, t, **condition)
        x0_hat = torch.empty_like(x_t)
        for denoiser, rows in ((self.guided, inside), (self.denoiser, ~inside)):
            part = {k: None if v is None else v[rows] for k, v in condition.items()}
            x0_hat[rows] = denoiser(x_t[rows], t[rows], **part)
        return x0_hat

    def _inside(self, t: Time) -> Tensor:
        noise = self.schedule.sigma(t) / self.schedule.alpha(t)
        return (noise > self.noise_min) & (noise <= self.noise_max)

    def with_schedule(self, schedule: Schedule) -> Denoiser:
        """The same choice under another schedule."""
        pair = self.guided.with_schedule(schedule), self.denoiser.with_schedule(schedule)
        return Interval(*pair, self.noise_min, self.noise_max)
