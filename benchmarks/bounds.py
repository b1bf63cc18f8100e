"""What the machine can do at best, measured: convolutions and products of matrices."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn


class Job(NamedTuple):
    """Something to time: run it once, and how much work that is."""

    run: Callable[[], object]
    flops: int
    parameters: int = 0


class Figure(NamedTuple):
    median: float  # seconds
    least: float


def bounds(precision: str, batch: int = 64) -> dict[str, Job]:
    """What the machine can do at best."""
    dtype = getattr(torch, precision)
    a, b = torch.randn(2, 1536, 1536).to(dtype)
    x = torch.randn(batch, 64, 28, 28).to(dtype, memory_format=torch.channels_last)
    w = torch.randn(64, 64, 3, 3).to(dtype, memory_format=torch.channels_last)
    return {
        f"convolution {precision}": Job(
            lambda: nn.functional.conv2d(x, w, padding=1), 2 * batch * 28 * 28 * 9 * 64 * 64
        ),
        f"product {precision}": Job(lambda: a @ b, 2 * 1536**3),
    }


def timed(jobs: dict[str, Job], rounds: int) -> dict[str, Figure]:
    """Median and least seconds of each; every round runs them one after the other."""
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds + 1):  # the first is for warming up
        for name, job in jobs.items():
            begun = time.perf_counter()
            job.run()
            if number:
                found[name].append(time.perf_counter() - begun)
    return {name: Figure(statistics.median(v), min(v)) for name, v in found.items()}


def convolution_speed() -> float:
    """GFLOP/s of the convolution in float32, on all threads: tells machines apart."""
    name, job = next(iter(bounds("float32").items()))
    return job.flops / timed({name: job}, 20)[name].least / 1e9
