"""The tasks of `samplers.py`: denoisers, noise, and where the exact flow takes it.

Closed-form denoisers are solved by a method of order 8 with rtol = 1e-10 in float64, or have a
closed form. A network is solved by many steps of order 4 down to the lowest noise that it was
trained on, where x0_hat is the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.denoiser import Denoiser

RANGES = {  # sigma/alpha where the noise begins
    "EDM": 80.0,
    "VP": math.sqrt(math.expm1(float(ud.schedules.VP().integral(1.0)))),
}
WIDE = ud.schedules.EDM(sigma_min=1e-7, sigma_max=200.0)
STEPS = 400  # of the reference of a network, which 800 change by about 1e-6
THOROUGH = {"calibration": 256, "iterations": 800, "batch_size": 24}
LONGER = {"iterations": 600}  # and what `tune` has by itself


class Task(NamedTuple):
    title: str
    denoiser: Denoiser  # under WIDE
    z: Tensor  # [B, ...], float64, noise that no calibration sees
    end: Callable[[Tensor, float], Tensor]  # where the flow takes y from sigma, [B, ...]
    error: Callable[[Tensor, Tensor], Tensor]  # of x beside the truth, [B]
    tuning: dict[str, int]  # options of `tune`; the more, the quicker the denoiser
    classes: int = 0
    heavy: bool = False  # only the better peers
    highest: float = WIDE.sigma_max  # what it knows

    def condition(self, index: Tensor) -> dict[str, Tensor]:
        """A label for each sample in turn, for what was trained with labels."""
        return {"label": index % self.classes} if self.classes else {}


class Counted:
    """A task's denoiser as D(y, sigma), and how often it was asked."""

    def __init__(self, task: Task) -> None:
        self.denoiser, self.calls = task.denoiser, 0
        self.condition = task.condition(torch.arange(len(task.z)))

    def __call__(self, y: Tensor, sigma: Any) -> Tensor:
        self.calls += 1
        level = torch.as_tensor(sigma, dtype=torch.float64)
        return self.denoiser(y.double(), time_of_level(level), **self.condition)


def time_of_level(sigma: Tensor) -> Tensor:
    return WIDE.t_from_log_snr(-2 * sigma.log())


def distance(x: Tensor, truth: Tensor) -> Tensor:
    """The root mean square over the values of a sample, [B]."""
    return (x - truth).square().flatten(1).mean(1).sqrt()


def noise(*shape: int) -> Tensor:
    return ud.noise.Stream(0, tuple(range(shape[0]))).draw(shape[1:], step=0).double()


def solver(denoiser: Denoiser) -> Callable[[Tensor, float], Tensor]:
    """The flow by dopri8 in log sigma, dy/d(log sigma) = y - D, down to sigma = 1e-6."""

    def end(y: Tensor, high: float) -> Tensor:
        from torchdiffeq import odeint

        ends = torch.tensor([high, 1e-6], dtype=torch.float64).log()
        options = {"rtol": 1e-10, "atol": 1e-10, "method": "dopri8"}
        path = odeint(lambda u, y: y - denoiser(y, time_of_level(u.exp())), y, ends, **options)
        return denoiser(path[-1], time_of_level(ends[-1].exp()))

    return end


def mixture(title: str, points: Tensor, std: float, count: int, heavy: bool = False) -> Task:
    """Points smoothed by std."""
    oracle = ud.exact.GaussianMixture(points, None, WIDE, std=std)
    z = noise(count, points.shape[1])
    return Task(title, oracle, z, solver(oracle), distance, THOROUGH, heavy=heavy)


def ring(std: float) -> Task:
    """Eight modes on the unit circle."""
    angles = torch.arange(8, dtype=torch.float64) * (2 * math.pi / 8)
    points = torch.stack([angles.cos(), angles.sin()], 1)
    return mixture(f"Eight modes of std {std}, 2-D", points, std, 256)


def gaussian() -> Task:
    """Variances that fall geometrically, along random axes."""
    basis = torch.linalg.qr(noise(64, 64)).Q
    cov = basis * torch.logspace(-3, 0, 64, dtype=torch.float64) @ basis.mT
    oracle = ud.exact.Gaussian(torch.zeros(64), WIDE, cov=cov)
    clean = oracle.with_schedule(ud.schedules.Flow())  # alpha = 1 - t, sigma = t

    def end(y: Tensor, high: float) -> Tensor:
        t = torch.tensor(high / (1 + high), dtype=torch.float64)
        return clean.flow(y * (1 - t), t, torch.zeros_like(t))

    title = "Correlated Gaussian, variances 0.001 to 1, 64-D"
    return Task(title, oracle, noise(256, 64), end, distance, THOROUGH)


def digits() -> Tensor:
    from sklearn.datasets import load_digits

    return torch.tensor(load_digits().data) / 8 - 1


def mnist(file: Path) -> Tensor:
    """The first 2,000 images, [2000, 784] in [-1, 1]."""
    images = np.load(file, allow_pickle=False)["train_images"][:2000]
    return torch.from_numpy(images).double().flatten(1) / 127.5 - 1


def finite() -> Task:
    """The digits themselves: an error is 1 where a sample ends at another digit, and else 0."""
    points = digits()
    oracle = ud.exact.FiniteSet(points, WIDE)

    def wrong(x: Tensor, truth: Tensor) -> Tensor:
        return (torch.cdist(x, points).argmin(1) != torch.cdist(truth, points).argmin(1)).double()

    z = noise(200, 64)
    return Task("Digits, finite data, 64-D", oracle, z, solver(oracle), wrong, {}, heavy=True)


def network(run: Path) -> Task:
    """A trained network with its labels, without guidance."""
    model = ud.load(run)
    denoiser = model.under(WIDE)
    high, low = (math.exp(-log_snr / 2) for log_snr in model.denoiser.log_snr_range)

    def end(y: Tensor, high: float) -> Tensor:
        grid = ud.grids.LogSNR(noise_max=high, noise_min=low)
        label = task.condition(torch.arange(len(y)))
        rule = "exponential-adams(order=4)"
        return ud.sample(denoiser, y.shape, rule, STEPS, grid, x_T=y, **label)

    title = f"A network trained on MNIST, {' x '.join(map(str, model.shape))}"
    z = noise(8, *model.shape)
    task = Task(title, denoiser, z, end, distance, LONGER, model.classes, True, round(high, 6))
    return task


def tasks(images: Path | None, run: Path | None) -> list[Task]:
    """Those whose error is a distance; the heavy ones, which need files, are the last."""
    made = [ring(0.05), ring(0.2), gaussian()]
    made.append(mixture("Digits smoothed by std 0.3, 64-D", digits(), 0.3, 128))
    if images is not None:
        title = "2,000 MNIST images smoothed by std 0.3, 784-D"
        made.append(mixture(title, mnist(images), 0.3, 64, heavy=True))
    if run is not None:
        made.append(network(run))
    return made
