"""Make the table of the default sampler: noise levels and weights for each number of steps.

They are fitted (`samplers/tuning.py`) to a family of closed-form denoisers and a small network,
from sigma = 80 and from 152, where VP begins. None of them is a task of `benchmarks/samplers.py`;
pictures come from files of images that the comparison does not use. What is left of each counts in
shares of what the best of 48 classical rules leaves there, so that none is given up for the sake of
the others.

    python benchmarks/universal.py fashion_mnist.npz cifar10.npz --steps 5,8,10

--steps adds rows to undiffuse/grids/universal.json or replaces them, each beginning with the best
of the classical rules and of the nearest two rows; --iterations is for each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

import undiffuse as ud
from undiffuse.denoiser import Denoiser
from undiffuse.grids.universal import TABLE, noise_levels, refined, table
from undiffuse.model import Model
from undiffuse.samplers.non_stationary import NonStationary
from undiffuse.samplers.tuning import (
    Parameters,
    Target,
    errors,
    fit,
    misfit,
    remembering,
    together,
    unrolled,
)
from undiffuse.samplers.universal import gain, padded, rule, stretched

STARTS = (80.0, 152.0)
LOWS, RHOS, ORDERS = (0.003, 0.005, 0.01, 0.03), (7, 12, 1000), (3, 4, 5, 6)  # none below 0.002
COUNT = 64  # samples of each denoiser
RANGE = ud.schedules.VE(sigma_min=1e-7, sigma_max=200.0)


class Side(Denoiser):
    """T denoisers side by side: sample number i is for the one of number i mod T."""

    schedule = RANGE
    lowest, highest = 1e-5, math.inf  # noise levels that it knows
    fewest = 1  # steps that can be good at it; fewer are fitted without

    def __init__(self, many: int, size: int) -> None:
        super().__init__()
        self.many, self.size = many, size

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        x = x_t.reshape(-1, self.many, self.size).transpose(0, 1)  # [T, B, D]
        sigma = self.schedule.sigma(t)
        return self.mean(x, sigma).transpose(0, 1).reshape(x_t.shape)

    def mean(self, x: Tensor, sigma: Tensor) -> Tensor:
        raise NotImplementedError


class Mixtures(Side):
    """Mixtures of K Gaussians of equal std: means [T, K, D], std [T], log weights [T, K]."""

    def __init__(self, means: Tensor, std: Tensor, log_weights: Tensor | None = None) -> None:
        super().__init__(means.shape[0], means.shape[2])
        self.means, self.variance = means, std.reshape(-1, 1, 1) ** 2
        log_weights = torch.zeros(means.shape[:2]) if log_weights is None else log_weights
        self.bias, self.half = log_weights[:, None], (means**2).sum(2)[:, None] / 2

    def mean(self, x: Tensor, sigma: Tensor) -> Tensor:
        variance = self.variance + sigma**2
        logits = (x @ self.means.mT - self.half) / variance + self.bias  # [T, B, K]
        kept = self.variance / variance
        return (1 - kept) * (logits.softmax(2) @ self.means) + kept * x


class Gaussians(Side):
    """Gaussians of means [T, 1, D] and diagonal variances [T, 1, D]."""

    def __init__(self, means: Tensor, variance: Tensor) -> None:
        super().__init__(means.shape[0], means.shape[2])
        self.means, self.variance = means, variance

    def mean(self, x: Tensor, sigma: Tensor) -> Tensor:
        kept = self.variance / (self.variance + sigma**2)
        return (1 - kept) * self.means + kept * x


class Guided(Side):
    """Classifier-free guidance of mixtures towards parts of them, weights [T, 1, 1]."""

    def __init__(self, whole: Mixtures, part: Mixtures, weight: Tensor) -> None:
        super().__init__(whole.many, whole.size)
        self.whole, self.part, self.weight = whole, part, weight

    def mean(self, x: Tensor, sigma: Tensor) -> Tensor:
        null, given = self.whole.mean(x, sigma), self.part.mean(x, sigma)
        return null + self.weight * (given - null)


class Network(Side):
    """A learned denoiser, which is not as smooth as the exact ones."""

    def __init__(self, model: Model) -> None:
        super().__init__(1, math.prod(model.shape))
        self.shape, self.learned = model.shape, model.under(RANGE).requires_grad_(False)
        self.highest, self.lowest = (math.exp(-v / 2) for v in model.denoiser.log_snr_range)

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        images = x_t.reshape(-1, *self.shape).float()
        return self.learned(images, t).double().reshape(x_t.shape)


def network(run: Path, file: Path) -> Network:
    """A small network that knows a file's images at half their size; trained if it is not there."""
    if not run.exists():
        x = np.load(file, allow_pickle=False)["train_images"]
        images = avg_pool2d(torch.from_numpy(x)[:, None].float() / 127.5 - 1, 2)
        settings = {"network.width": 32}
        ud.train(images, run, "mnist", steps=2500, batch_size=128, settings=settings)
    return Network(ud.load(run))


def family(files: list[Path]) -> list[Side]:
    draw = torch.Generator().manual_seed(0)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=draw, dtype=torch.float64)

    def log_uniform(low: float, high: float, *shape: int) -> Tensor:
        return uniform(math.log(low), math.log(high), *shape).exp()

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    def mixtures(many: int, modes: int, size: int, low: float, high: float) -> Mixtures:
        means = normal(many, modes, size)
        if size > 8:  # data near a third of the dimensions
            third = size // 3
            basis = torch.linspace(1.5, 0.3, third)[:, None] * normal(many, third, size)
            means = normal(many, modes, third) @ basis
        means = means / means.square().mean((1, 2), keepdim=True).sqrt()
        means = log_uniform(0.4, 1.1, many, 1, 1) * means + 0.3 * normal(many, 1, size)
        log_weights = (0.5 * normal(many, modes)).log_softmax(1)
        return Mixtures(means, log_uniform(low, high, many), log_weights)

    made: list[Side] = [
        mixtures(12, 8, 2, 0.03, 0.12),
        mixtures(12, 8, 2, 0.12, 0.5),
        mixtures(12, 24, 4, 0.04, 0.4),
        mixtures(6, 64, 16, 0.05, 0.4),
        mixtures(4, 200, 64, 0.1, 0.4),
    ]
    thin = mixtures(4, 32, 48, 0.004, 0.02)  # as what a network learns of pictures
    thin.fewest = 8
    made.append(thin)
    for many in (8, 8):
        spread = -uniform(0, 4.5, many, 1, 1) * torch.linspace(0, 1, 48)
        scale = log_uniform(0.3, 1.2, many, 1, 1)
        made.append(Gaussians(0.3 * normal(many, 1, 48), scale * 10**spread))
    whole = mixtures(8, 16, 4, 0.05, 0.4)
    part = Mixtures(whole.means[:, :4], whole.variance.sqrt(), whole.bias[:, 0, :4])
    made.append(Guided(whole, part, uniform(1.3, 3.0, 8, 1, 1)))
    for file in files:
        x = np.load(file, allow_pickle=False)
        images = torch.tensor(x[next(k for k in x.files if x[k].ndim >= 3)][:768]).double()
        grey = (images.mean(3) if images.ndim == 4 else images) / 127.5 - 1
        side = 2 * (grey.shape[1] // 4)  # the middle, at half the size, 8 x 8
        small = avg_pool2d(grey[:, None], 2)[:, 0, :side, :side]
        first = (small.shape[1] - 8) // 2
        points = small[:, first : first + 8, first : first + 8].reshape(3, 256, 64)
        made.append(Mixtures(points, torch.tensor([0.15, 0.22, 0.35], dtype=torch.float64)))
        # In many dimensions the flow decides earlier: whole images, and the same in two colours.
        whole = torch.stack([grey[:384], grey[384:].sign()]).flatten(2)
        made.append(Mixtures(whole, torch.tensor([0.2, 0.35], dtype=torch.float64)))
    return made


def targets(sides: list[Side]) -> list[Target]:
    """The family with noise and where the flow takes it."""
    draw, made = torch.Generator().manual_seed(1), []
    for side, start in zip(sides, itertools.cycle(STARTS)):
        shape = COUNT * side.many, side.size
        y_T = start * torch.randn(shape, generator=draw, dtype=torch.float64)
        start = min(start, side.highest)
        grid = ud.grids.LogSNR(noise_max=start, noise_min=side.lowest)
        x_0 = ud.sample(side, shape, "exponential-adams(order=4)", 600, grid, x_T=y_T)
        made.append(Target(side, start, y_T, x_0, {}))
    return made


def with_pars(goals: list[Target], rules: list[NonStationary]) -> list[Target]:
    """The targets, each with the misfit of that rule that does best there as its par."""
    least = torch.tensor([scores(goals, rule) for rule in rules]).amin(0).tolist()
    return [goal._replace(par=par) for goal, par in zip(goals, least, strict=True)]


def scores(goals: list[Target], rule: NonStationary) -> list[float]:
    """The misfit over par of each target."""
    own, parts = Parameters(rule), [goal.part(0, 48) for goal in goals]
    with torch.no_grad():
        ends = unrolled(own.levels(), own.rows(), parts)
    return [
        float(misfit(errors(x, part.x_0))) - part.par for x, part in zip(ends, parts, strict=True)
    ]


def classical(steps: int) -> list[NonStationary]:
    """Adams-Bashforth of several orders on Karras' and on geometric grids."""
    made = []
    for low, rho, order in itertools.product(LOWS, RHOS, ORDERS):
        levels = np.linspace(STARTS[0] ** (1 / rho), low ** (1 / rho), steps) ** rho
        made.append(NonStationary.adams(levels[1:].tolist(), order))
    return made


def stretched_row(near: int, steps: int, longest: int) -> NonStationary:
    """A row of the table for another number of steps."""
    levels = np.exp(refined(table()[near].noise_levels, steps)[1:]).tolist()
    rows = padded(NonStationary.adams(levels), longest - 1)
    more = stretched(gain(near), steps)[:, : longest - 1]
    rows[:, : more.shape[1]] += more
    room = [min(i, longest - 1) for i in range(steps)]
    weights = [row[:most].tolist() for row, most in zip(rows, room, strict=True)]
    return NonStationary(tuple(levels), tuple(map(tuple, weights[1:])))


def begin(goals: list[Target], rules: list[NonStationary], longest: int) -> NonStationary:
    """The rule with which `fit` has least left to do."""

    def left(rule: NonStationary) -> float:
        return float(together(torch.tensor(scores(goals, rule))))

    return remembering(min(rules, key=left), longest)


def told(goals: list[Target], rule: NonStationary) -> str:
    """What a rule leaves of each target, as a share of what its par does."""
    return " ".join(f"{math.exp(over):.2f}" for over in scores(goals, rule))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, help=".npz files of images")
    parser.add_argument("--steps", default="5,8,10,15,20", help="numbers of steps")
    parser.add_argument("--run", type=Path, default=Path("runs/universal"), help="of the network")
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--rate", type=float, default=0.01, help="of Adam, at the beginning")
    parser.add_argument("--batch", type=int, default=48, help="a multiple of 24")
    parser.add_argument("--longest", type=int, default=0, help="values that a step remembers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    learned = network(options.run, options.files[0])
    torch.set_default_dtype(torch.float64)
    goals = targets([*family(options.files), learned])
    for steps in map(int, options.steps.split(",")):
        begun = time.perf_counter()
        longest = options.longest or (12 if steps <= 12 else 6)
        fixed = classical(steps)
        within = [goal for goal in goals if goal.denoiser.fewest <= steps]
        compared = with_pars(within, fixed)
        known = sorted((n for n in table() if n > 2), key=lambda n: abs(math.log(n / steps)))
        rows = [stretched_row(n, steps, longest) for n in known[:2]]
        first = begin(compared, [*fixed, *rows], longest)
        print(f"{steps} steps: from {told(compared, first)}", flush=True)
        made = fit(first, compared, options.iterations, options.batch, options.rate)
        print(f"  to {told(compared, made)}", flush=True)
        stored = json.loads(TABLE.read_text())
        stored[str(steps)] = {"noise_levels": made.noise_levels, "weights": made.weights}
        lines = [f'"{n}": {json.dumps(stored[str(n)])}' for n in sorted(map(int, stored))]
        TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        for kept in (table, noise_levels, rule):
            kept.cache_clear()
        print(f"  {time.perf_counter() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
