"""The denoiser as a sampler sees it: its conditions bound, its calls counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from undiffuse.denoiser import Condition, Denoiser
from undiffuse.schedules.base import Time


@dataclass
class _Seen:
    """What was asked so far; apart from the module, whose attributes are slow to set."""

    calls: int = 0
    last: Tensor | None = None


class Watched(Denoiser):
    """A denoiser with its conditions bound, which counts its calls and keeps its last answer.

    Args:
        denoiser: the one to ask.
        condition: what it takes beside x_t and t in every call, raw or prepared.
    """

    def __init__(self, denoiser: Denoiser, condition: dict[str, Any]) -> None:
        super().__init__()
        self.denoiser, self.condition = denoiser, condition
        self.schedule = denoiser.schedule
        self._seen = _Seen()

    @property
    def calls(self) -> int:
        """How often the denoiser was asked."""
        return self._seen.calls

    @property
    def last(self) -> Tensor | None:
        """Its last answer, [B, ...]."""
        return self._seen.last

    @property
    def log_snr_range(self) -> tuple[float, float]:
        """The range of the denoiser underneath."""
        return self.denoiser.log_snr_range

    def forward(self, x_t: Tensor, t: Time, **condition: Condition) -> Tensor:
        """The denoiser's answer; it looks after the ends, so nothing is checked twice."""
        x0_hat = self.denoiser(x_t, t, **self.condition)
        self._saw(x0_hat)
        return x0_hat

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        return self.forward(x_t, t, **condition)

    def reverse(
        self, x_t: Tensor, t: Time, s: Time, **condition: Condition
    ) -> tuple[Tensor, Tensor]:
        """As that of the denoiser underneath; counts as one call."""
        x0_hat, variance = self.denoiser.reverse(x_t, t, s, **self.condition)
        self._saw(x0_hat)
        return x0_hat, variance

    def _saw(self, x0_hat: Tensor) -> None:
        self._seen.calls += 1
        self._seen.last = x0_hat
