"""What the training engine costs beside a bare loop, with the U-Net of the mnist recipe.

    overhead        a step of the engine over forward, backward, clipping, AdamW and average of the
                    same network, batch and losses; both in turns, in one process. Goal: 3 % at most
    checkpoints     one every 100 steps, over these steps. Goal: 2 % at most
    start           from the command to the record of the first step, without importing torch.
                    Goal: under 5 s

    python benchmarks/engine.py [--rounds 30] [--data mnist.npz] [--threads 2]

Without --data, made-up images in the number and size of MNIST's are read from a file of their own.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from undiffuse import noise
from undiffuse.training.ema import EMA
from undiffuse.training.recipe import read
from undiffuse.training.session import Session

TURN = 5  # steps of one kind before the other's turn


def session(data: str, out: Path, steps: int) -> Session:
    """The run of the mnist recipe, without pictures."""
    settings = {"training.sample_every": 10**9, "training.checkpoint_every": 10**9}
    return Session(data, out, "mnist", steps=steps, settings=settings)


def engine(made: Session) -> Iterator[float]:
    """Seconds of each step, as the user of the engine has to wait for them."""
    records = made.records()
    while True:
        begun = time.perf_counter()
        if next(records, None) is None:
            return
        yield time.perf_counter() - begun


def bare(made: Session) -> Iterator[float]:
    """Seconds of each step of a loop that does nothing but learn, always from one batch."""
    denoiser, options = made.state.denoiser.train(), made.recipe.training
    parameters = list(denoiser.network.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=options.lr, betas=options.betas, fused=True)
    average = EMA(denoiser.network, options.ema)
    x_0, label = made.dataset.batch(range(options.batch_size))
    u = noise.uniform(0, "time", options.batch_size)
    eps = noise.normal(0, "noise", x_0.shape)
    n = 0
    while True:
        n, begun = n + 1, time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        made.objective.loss(denoiser, x_0, u, eps, label=label).mean().backward()
        nn.utils.clip_grad_norm_(parameters, options.clip)
        optimizer.step()
        average.update(denoiser.network, n)
        yield time.perf_counter() - begun


def overhead(data: str, folder: Path, rounds: int) -> tuple[float, float]:
    """Seconds of a step, bare and in the engine: medians over turns."""
    loops = bare(session(data, folder / "bare", 10**6)), engine(session(data, folder / "e", 10**6))
    for loop in loops:
        take(loop, 3)
    times: tuple[list[float], list[float]] = [], []
    for turn in range(2 * rounds):
        which = (turn + turn // 2) % 2  # bare, engine, engine, bare, ...
        times[which].append(statistics.mean(take(loops[which], TURN)))
    return statistics.median(times[0]), statistics.median(times[1])


def take(loop: Iterator[float], count: int) -> list[float]:
    return [next(loop) for _ in range(count)]


def saving(data: str, folder: Path, rounds: int) -> float:
    """Seconds of a checkpoint, with what is deleted: the median."""
    settings: dict[str, Any] = {"training.sample_every": 10**9, "training.checkpoint_every": 2}
    made = Session(data, folder / "saving", "mnist", steps=10**6, settings=settings)
    records, waits = made.records(), []
    for _ in range(max(5, rounds // 3)):
        plain, saved = (timed(lambda: next(records)) for _ in range(2))
        waits.append(saved - plain)
    return statistics.median(waits[1:])


def timed(do: Callable[[], object]) -> float:
    begun = time.perf_counter()
    do()
    return time.perf_counter() - begun


def start(data: str, folder: Path) -> float:
    """Seconds to the record of the first step; torch and the rooms are loaded by now."""
    return timed(lambda: next(session(data, folder / "start", 100).records()))


def made_up(folder: Path) -> str:
    """60,000 images of 28x28 with labels, as MNIST has."""
    rng, file = np.random.default_rng(0), folder / "images.npz"
    images = rng.integers(0, 256, (60_000, 28, 28)).astype(np.uint8)
    images[:, :, ::2] = 0
    labels = np.arange(60_000) % 10
    np.savez_compressed(file, train_images=images, train_labels=labels)
    return str(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--data")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = options.data or made_up(folder)
        first = start(data, folder)
        plain, whole = overhead(data, folder, options.rounds)
        wait = saving(data, folder, options.rounds)
    size = read("mnist").training.batch_size
    print(f"mnist recipe, batches of {size}, {torch.get_num_threads()} threads")
    print("| figure | value | goal |\n| --- | --- | --- |")
    print(f"| step of the bare loop | {plain * 1e3:.1f} ms | |")
    print(f"| step of the engine | {whole * 1e3:.1f} ms | |")
    print(f"| overhead | {whole / plain - 1:+.1%} | 3 % |")
    print(f"| a checkpoint | {wait * 1e3:.0f} ms | |")
    print(f"| checkpoints, one in 100 steps | {wait / (100 * whole):.2%} | 2 % |")
    print(f"| start to first step | {first:.1f} s | 5 s |")


if __name__ == "__main__":
    main()
