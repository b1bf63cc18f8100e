"""A schedule with more, or less, noise at each time: its log-SNR plus a constant."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.errors import UndiffuseError
from undiffuse.schedules.base import Schedule, Time, as_time
from undiffuse.schedules.view import View


@dataclass(frozen=True)
class Shifted(View):
    """log_snr'(t) = log_snr(t) + shift, alpha'^2 = sigmoid(log_snr'), sigma'^2 = 1 - alpha'^2.

    The result preserves the variance, whatever the schedule underneath does: with shift 0 this is
    the variance-preserving form of any schedule. A negative shift is more noise. Large images need
    it, since averaging over neighbouring pixels removes noise and leaves the image: images of
    d x d pixels with the shift 2 log(64 / d) lose what they show at the same times as those of
    64 x 64 without (`Shifted.for_size`).

    Raises:
        UndiffuseError: `schedule` is no schedule, or the shift is not finite.

    Source: Hoogeboom et al. 2023 (arXiv 2301.11093), equation 3; Chen 2023 (arXiv 2301.10972).

    >>> from undiffuse.schedules.cosine import Cosine
    >>> Shifted(Cosine(), -1.0).log_snr(0.5).item()
    -1.0
    """

    name: ClassVar[str] = "shifted"
    shift: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check(finite(self.shift) and abs(self.shift) < 100, self, "shift", "between -100 and 100")

    @classmethod
    def for_size(cls, schedule: Schedule, size: int, reference: int = 64) -> Shifted:
        """`schedule`, which suits `reference` pixels a side, for `size` pixels a side.

        shift = 2 log(reference / size).

        Raises:
            UndiffuseError: a size that is not positive.

        >>> from undiffuse.schedules.cosine import Cosine
        >>> Shifted.for_size(Cosine(), 128).shift == -2 * math.log(2)
        True
        """
        if not (finite(size, reference) and size > 0 and reference > 0):
            raise UndiffuseError(
                f"Shifted.for_size: size and reference must be numbers of pixels, not {size!r} and"
                f" {reference!r}"
            )
        return cls(schedule, 2 * math.log(reference / size))

    @property
    def first(self) -> float:
        return self.schedule.first

    def _unit(self, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        """e^{shift/2} alpha, sigma, and their hypotenuse; free of the infinities of log-SNR."""
        alpha, sigma = math.exp(self.shift / 2) * self.schedule.alpha(t), self.schedule.sigma(t)
        return alpha, sigma, torch.hypot(alpha, sigma)

    def alpha(self, t: Time) -> Tensor:
        alpha, _, length = self._unit(t)
        return alpha / length

    def sigma(self, t: Time) -> Tensor:
        _, sigma, length = self._unit(t)
        return sigma / length

    def log_snr(self, t: Time) -> Tensor:
        return self.schedule.log_snr(t) + self.shift

    def t_from_log_snr(self, log_snr: Time) -> Tensor:
        return self.schedule.t_from_log_snr(as_time(log_snr) - self.shift)
