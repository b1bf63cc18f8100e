"""Guidance in an interval of noise levels: a guide that is switched off elsewhere."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from undiffuse.catalogue import check
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.errors import UndiffuseError
from undiffuse.guidance.base import PREPARED, Guide
from undiffuse.schedules.base import Time


class Interval(Guide):
    """guide(x_t) where noise_min < sigma / alpha <= noise_max; elsewhere what lies beneath it.

    At high noise guidance takes variety away, and at low noise it does nothing but cost: what
    helps lies between. Each sample asks one of the two only, so steps outside of the interval have
    the price of the denoiser underneath: the plain one, for a single guide around it.

    Args:
        denoiser: the guide to limit.
        noise_min: sigma / alpha, >= 0, in the data's units.
        noise_max: larger; infinity for no upper end.

    Raises:
        UndiffuseError: the interval is empty, or there is no guide to limit.

    Source: Kynkaanniemi et al. 2024 (arXiv 2404.07724), where alpha = 1.
    """

    name: ClassVar[str] = "interval"
    denoiser: Guide

    def __init__(self, denoiser: Denoiser, noise_min: float, noise_max: float) -> None:
        super().__init__()
        if not isinstance(denoiser, Guide):
            raise UndiffuseError(
                "an interval switches a guide on and off, and there is none: put it around one,"
                " such as classifier-free guidance"
            )
        self.denoiser, self.noise_min, self.noise_max = denoiser, noise_min, noise_max
        check(_number(noise_min) and noise_min >= 0, self, "noise_min", "at least 0")
        higher = _number(noise_max) and noise_max > noise_min
        check(higher, self, "noise_max", f"larger than noise_min, {noise_min}")

    def prepare(self, batch: int, **condition: Condition) -> dict[str, Any]:
        """For the guide, and for what lies beneath it."""
        guide = self.denoiser
        plain = guide.denoiser.prepare(batch, **guide.beneath(condition))
        return {**condition, PREPARED: (guide.prepare(batch, **condition), plain)}

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        inside = self._inside(t)
        raw = condition, self.denoiser.beneath(condition)
        guided, plain = condition.pop(PREPARED, raw)
        if bool(inside.all()):
            return self.denoiser(x_t, t, **guided)
        if not bool(inside.any()):
            return self.denoiser.denoiser(x_t, t, **plain)
        x0_hat = torch.empty_like(x_t)
        for ask, rows in ((self.denoiser, inside), (self.denoiser.unguided, ~inside)):
            part = {k: None if v is None else v[rows] for k, v in condition.items()}
            x0_hat[rows] = ask(x_t[rows], t[rows], **part)
        return x0_hat

    def _inside(self, t: Time) -> Tensor:
        noise = self.schedule.sigma(t) / self.schedule.alpha(t)
        return (noise > self.noise_min) & (noise <= self.noise_max)


def _number(value: object) -> bool:
    """Whether the value is a real number, infinity included."""
    return isinstance(value, int | float) and not isinstance(value, bool)
