r"""Where NaN came from: a second run from the same noise, with a check after each call.

Sampling itself checks once, at the end of a batch, and pays nothing for more. Only when that check
fails is the batch walked again with a `Probe` around the denoiser, and the first answer or the
first samples that are not finite are named with their step, time and noise level.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from undiffuse.denoiser import Condition, Denoiser
from undiffuse.errors import RunFailed, UndiffuseError
from undiffuse.samplers.records import Step
from undiffuse.schedules.base import Schedule, Time
from undiffuse.schedules.levels import level


def broken(x: Tensor) -> int:
    """How many of the samples x [B, ...] hold a value that is not finite."""
    return int((~torch.isfinite(x.reshape(len(x), -1)).all(1)).sum())


class Probe(Denoiser):
    """A denoiser that remembers the first time t at which its answer was not finite.

    Attributes:
        found: (t, how many samples) of that answer; None while there was none.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser, self.schedule = denoiser, denoiser.schedule
        self.found: tuple[float, int] | None = None

    @property
    def log_snr_range(self) -> tuple[float, float]:
        """The range of the denoiser underneath."""
        return self.denoiser.log_snr_range

    def forward(self, x_t: Tensor, t: Time, **condition: Condition) -> Tensor:
        """The denoiser's answer, looked at."""
        return self._looked_at(self.denoiser(x_t, t, **condition), t)

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        return self.forward(x_t, t, **condition)

    def reverse(
        self, x_t: Tensor, t: Time, s: Time, **condition: Condition
    ) -> tuple[Tensor, Tensor]:
        """As that of the denoiser underneath; its variance is part of the answer."""
        x0_hat, variance = self.denoiser.reverse(x_t, t, s, **condition)
        self._looked_at(variance.expand_as(x0_hat), t)
        return self._looked_at(x0_hat, t), variance

    def _looked_at(self, answer: Tensor, t: Time) -> Tensor:
        if self.found is None and (bad := broken(answer)):
            self.found = float(torch.as_tensor(t).reshape(-1)[0]), bad
        return answer


def located(steps: Iterator[Step], probe: Probe, bad: int, rule: str) -> UndiffuseError:
    """The error for a batch that ended with `bad` samples that are not finite.

    Args:
        steps: the same batch walked again, with `probe` as its denoiser.
        probe: as yet unasked.
        bad: how many samples were not finite at the end.
        rule: the name of the sampler.
    """
    before, last = float("nan"), 0
    for step in steps:
        count, last = len(step.x), step.number
        told = f"{bad} of {count} samples are not finite after sampling with {rule}:"
        if probe.found is not None:
            t, many = probe.found
            return RunFailed(
                f"{told} the denoiser gave NaN or infinity, first for {many} of {count} in step"
                f" {last} at {_place(probe.schedule, t)}; look at its loss and weights"
            )
        if many := broken(step.x):
            if step.number == 0:
                return UndiffuseError(f"{told} {many} of them were not at the start; look at x_T")
            return RunFailed(
                f"{told} the denoiser's answers are finite, and {rule} itself made NaN or infinity"
                f" of them for {many} of {count} in step {last}, from t = {before:.6g} to"
                f" {_place(probe.schedule, step.t)}; use another grid or sampler"
            )
        before = step.t
    return RunFailed(
        f"{told} the denoiser gave NaN or infinity, but not in a second run from the same noise,"
        f" all {last} steps of which are finite; it does not answer the same each time"
    )


def _place(schedule: Schedule, t: float) -> str:
    """t and its noise level in words."""
    now = level(schedule, t)
    return f"t = {t:.6g} (log-SNR {now.log_snr:.4g}, sigma/alpha = {now.ratio:.4g})"
