"""NaN is found by one check at the end, and its place by a second run from the same noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.errors import RunFailed, UndiffuseError
from undiffuse.samplers.base import Memory, Noise, Sampler
from undiffuse.schedules.base import Schedule

TIMES = [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]


class Breaking(Denoiser):
    """Exact, but from time t on downwards it answers `value` for the samples `rows`."""

    def __init__(
        self, below: float, rows: slice = slice(None), value: float = math.nan, times: int = 1000
    ) -> None:
        super().__init__()
        self.schedule: Schedule = ud.schedules.VP()
        self.oracle = ud.exact.Gaussian(torch.zeros(2), self.schedule, std=0.5)
        self.below, self.rows, self.value, self.times = below, rows, value, times
        self.calls = 0

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        self.calls += 1
        x0_hat = self.oracle(x_t, t)
        if float(t.max()) <= self.below and self.calls <= self.times:
            x0_hat[self.rows] = self.value
        return x0_hat


@dataclass(frozen=True)
class Dividing(Sampler):
    """A rule that divides by zero at t = 0.6."""

    name: ClassVar[str] = "dividing"

    def step(
        self, denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        return denoiser(x, t) / (0.0 if abs(float(t) - 0.6) < 1e-9 else 1.0), None


def sentence(denoiser: Denoiser, sampler: Sampler | str = "ddim", **options: object) -> str:
    with pytest.raises(RunFailed) as caught:
        ud.sample(denoiser, (4, 2), sampler, **{"times": TIMES, **options})  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_denoiser_s_first_one_is_named(value: float) -> None:
    """At t = 0.6, the start of the third step; with its noise level, as far as it helps."""
    told = sentence(Breaking(0.65, slice(1, 3), value))
    level = ud.schedules.VP().log_snr(torch.tensor(0.6, dtype=torch.float64))
    assert told == (
        "2 of 4 samples are not finite after sampling with ddim: the denoiser gave NaN or infinity,"
        f" first for 2 of 4 in step 3 at t = 0.6 (log-SNR {float(level):.4g}, sigma/alpha ="
        f" {math.exp(-float(level) / 2):.4g}); look at its loss and weights"
    )


def test_one_sample_spreads_to_no_other_and_the_first_call_counts() -> None:
    """What is told is the first answer, not what became of it."""

    class Growing(Breaking):
        def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
            x0_hat = super().denoise(x_t, t)
            if float(t) < 0.3:
                x0_hat[:] = math.nan
            return x0_hat

    told = sentence(Growing(0.5, slice(1)))
    assert told.startswith("4 of 4 samples")
    assert "first for 1 of 4 in step 4 at t = 0.4 (" in told


def test_the_call_within_a_step() -> None:
    """Heun asks at both ends of a step, and the second answer of step 2 is the broken one."""
    told = sentence(Breaking(0.65), "heun")
    assert "in step 2 at t = 0.6 (" in told


def test_a_stochastic_rule_gets_the_same_noise_again() -> None:
    """A denoiser that breaks for samples that lie far out: only the same path finds them."""

    class Far(Breaking):
        def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
            self.calls += 1
            far = (x_t[:, :1] > 0.6) & (0.3 < float(t) < 0.5)
            return torch.where(far, math.nan, self.oracle(x_t, t))

    path = ud.sample(Breaking(-1.0), (64, 2), "ddpm", times=TIMES, seed=5, trajectory=True)
    expected = int((path.x[3, :, 0] > 0.6).sum())
    assert expected > 0
    with pytest.raises(RunFailed, match=f"first for {expected} of 64 in step 4 at t = 0.4 "):
        ud.sample(Far(-1.0), (64, 2), "ddpm", times=TIMES, seed=5)


def test_the_sampler_s_own() -> None:
    told = sentence(Breaking(-1.0), Dividing())
    assert "the denoiser's answers are finite, and dividing itself made NaN or infinity" in told
    assert "for 4 of 4 in step 3, from t = 0.6 to t = 0.4 (log-SNR" in told


def test_one_that_cannot_be_repeated() -> None:
    assert "not in a second run from the same noise, all 5 steps" in sentence(
        Breaking(0.5, times=5)
    )


def test_the_denoising_call_at_the_end() -> None:
    class End(Breaking):
        def __init__(self) -> None:
            super().__init__(-1.0)
            self.schedule = ud.schedules.EDM()
            self.oracle = ud.exact.Gaussian(torch.zeros(2), self.schedule, std=0.5)

        def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
            return self.oracle(x_t, t) * (math.nan if float(t) < 1e-9 else 1.0)

    told = sentence(End())
    assert "in step 6 at t = 0 (log-SNR 12.43, sigma/alpha = 0.002)" in told


def test_a_start_that_was_broken() -> None:
    x_T = torch.zeros(4, 2)
    x_T[1] = math.nan
    with pytest.raises(UndiffuseError, match="1 of them were not at the start; look at x_T"):
        ud.sample(Breaking(-1.0), (4, 2), "ddim", x_T=x_T, times=TIMES)


def test_it_costs_nothing_where_all_is_well() -> None:
    model = Breaking(-1.0)
    ud.sample(model, (4, 2), "ddim", times=TIMES)
    assert model.calls == 5


def test_a_stream_tells_which_batch_by_failing_at_it() -> None:
    """The batches before it are there."""

    class Third(Breaking):
        def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
            self.calls += 1
            return self.oracle(x_t, t) * (math.nan if self.calls > 10 else 1.0)

    batches = ud.samplers.stream(Third(-1.0), (12, 2), "ddim", times=TIMES, batch_size=4)
    assert len(next(batches)) == len(next(batches)) == 4
    with pytest.raises(RunFailed, match=r"4 of 4 samples are not finite .* in step 1 at t = 1 "):
        next(batches)
