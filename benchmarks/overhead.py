"""What a step of the loop costs with a denoiser that costs nothing: batch 1, 1x3x32x32, 50 steps.

Microseconds per step for each sampler of the catalogue, the set-up included: median and minimum of
30 runs. What a schedule says at a time is kept, so the first run is slower than the others.

    python benchmarks/overhead.py [SAMPLER ...]
"""

from __future__ import annotations

import statistics
import sys
import time

import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.denoiser import Condition, Denoiser

STEPS = 50


class Free(Denoiser):
    """x0_hat = x_t / 2."""

    schedule = ud.schedules.VP()

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        return x_t / 2


def microseconds(sampler: str, runs: int = 30) -> tuple[float, float]:
    """Median and minimum per step."""
    denoiser, found = Free(), []
    for _ in range(runs):
        begun = time.perf_counter()
        ud.sample(denoiser, (1, 3, 32, 32), sampler, steps=STEPS)
        found.append((time.perf_counter() - begun) / STEPS * 1e6)
    return statistics.median(found), min(found)


def main(samplers: list[str]) -> None:
    torch.set_num_threads(1)
    print("| sampler | us per step, median | minimum |\n|---|---|---|")
    for sampler in samplers or ud.catalogue.names("samplers"):
        median, least = microseconds(sampler)
        print(f"| `{sampler}` | {median:.0f} | {least:.0f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
