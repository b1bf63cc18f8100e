r"""The pictures of a report: noising, denoising, samples, their neighbours, and how they grew.

Noisy samples are shown as x_t / sqrt(alpha^2 + sigma^2), the same view for every schedule: where
the process preserves variance it is x_t itself. Images are sets of a few; vectors are one cloud.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from undiffuse import noise, process
from undiffuse.broadcast import over
from undiffuse.data.dataset import Dataset
from undiffuse.evaluation.neighbours import nearest
from undiffuse.evaluation.spread import spread
from undiffuse.model import Model
from undiffuse.reports.images import Picture, plot, show, stored
from undiffuse.schedules.base import Schedule

LEVELS = 6.0  # log-SNRs shown: +-, where the schedule has them (sigma / alpha from 1/20 to 20)
STAGES = 9  # columns of noising and denoising
FEW, CLOUD = 3, 400  # images, or points, in each of them
ACROSS = 10  # samples of a class
MOST = 20  # classes shown
EDGE = 2.6  # of plots of noisy points


@dataclass(frozen=True)
class Column:
    """A column of pictures under its heading; a place may stay empty."""

    heading: tuple[str, ...]
    cells: tuple[Picture | None, ...]


def forward(schedule: Schedule, dataset: Dataset) -> list[Column]:
    """Real samples at rising noise, even in log-SNR; one noise for each sample all the way."""
    images = len(dataset.shape) == 3
    x_0 = dataset.batch(_various(dataset) if images else spread(_every(dataset), CLOUD)).x
    eps = noise.normal(0, "report", x_0.shape)
    high, low = (float(schedule.log_snr(end)) for end in (0.0, 1.0))
    levels = torch.linspace(min(high, LEVELS), max(low, -LEVELS), STAGES - 1, dtype=torch.float64)
    columns = [Column(("data",), (show(x_0, "real samples", down=True, limit=EDGE),))]
    for t in schedule.t_from_log_snr(levels):
        x_t = process.noised(schedule, x_0, t, eps)
        alt = f"the same with noise at t = {float(t):.3g}"
        seen = show(_unit(schedule, x_t, t), alt, down=True, limit=EDGE)
        columns.append(Column(_when(schedule, t), (seen,)))
    return columns


def reverse(model: Model) -> list[Column]:
    """Samples on their way from noise to data, x_t above the estimate of x_0 made from it."""
    count = FEW if len(model.shape) == 3 else CLOUD
    labels = torch.arange(count) % model.classes if model.classes else None
    path = model.sample(count, labels, trajectory=True)
    schedule = model.denoiser.schedule
    columns = []
    for k in spread(torch.arange(len(path.x0_hat)), STAGES - 1).tolist():
        t, alt = path.times[k], f"t = {float(path.times[k]):.3g}"
        x_t = show(_unit(schedule, path.x[k], t), f"samples at {alt}", down=True, limit=EDGE)
        x_0 = show(path.x0_hat[k], f"estimates of x_0 at {alt}", down=True, limit=EDGE)
        columns.append(Column(_when(schedule, t), (x_t, x_0)))
    last = show(path.x[-1], "finished samples", down=True, limit=EDGE)
    return [*columns, Column(("samples",), (last, None))]


def draw(model: Model) -> list[tuple[int | None, Tensor]]:
    """Samples [n, *shape] for each class shown, the first indices of seed 0; unlabelled: in rows.

    Sample i of every class starts from the same noise, so each row can be drawn again by one
    `undiffuse sample` with that label.
    """
    images = len(model.shape) == 3
    if model.classes:
        count = ACROSS if images else CLOUD
        shown = range(min(model.classes, MOST))
        return [(label, model.sample(count, label).cpu()) for label in shown]
    x = model.sample(4 * ACROSS if images else CLOUD).cpu()
    return [(None, part) for part in (x.split(ACROSS) if images else [x])]


def rows(
    drawn: list[tuple[int | None, Tensor]], names: list[str], dataset: Dataset | None
) -> list[tuple[str, Picture]]:
    """The drawn samples as pictures under the name of their class; points above real ones."""
    made = []
    limit = max(float(x.abs().max()) for _, x in drawn) * 1.1
    for label, x in drawn:
        name = "" if label is None else names[label] if label < len(names) else str(label)
        alt = "generated samples" + (f" of {name}" if name else "")
        if x.ndim == 4:
            made.append((name, show(x, alt)))
            continue
        clouds = {"samples": x}
        if dataset is not None:
            clouds = {"real": _real(dataset, label, len(x)), "samples": x}
            alt += " (orange) over real ones (blue)"
        made.append((name, plot(clouds, alt, limit)))
    return made


def closest(x: Tensor, dataset: Dataset) -> list[Column]:
    """Of samples x [N, C, H, W], those nearest to a training image, above that image."""
    found = nearest(x, dataset)
    columns = []
    for i in found.distance.argsort()[:ACROSS].tolist():
        twin = dataset.batch(found.index[i : i + 1]).x
        cells = show(x[i : i + 1], "a sample"), show(twin, "its nearest training image")
        columns.append(Column((f"{float(found.distance[i]):.3g}",), cells))
    return columns


def while_training(run: Path, vectors: bool) -> list[Column]:
    """The stored pictures of the first, a middle and the last step, raw weights above averaged."""
    steps = {m[1] for f in run.glob("samples/*.png") if (m := re.match(r"step-(\d+)-", f.name))}
    ordered = sorted(steps, key=int)
    middle = len(ordered) // 2
    chosen = sorted({*ordered[:1], *ordered[middle : middle + 1], *ordered[-1:]}, key=int)
    return [
        Column(
            (f"step {int(step):,}",),
            tuple(
                stored(
                    run / "samples" / f"step-{step}-{kind}.png",
                    f"samples of the {words} weights at step {int(step)}",
                    vectors,
                )
                for kind, words in (("raw", "raw"), ("ema", "averaged"))
            ),
        )
        for step in chosen
    ]


def _every(dataset: Dataset) -> Tensor:
    return torch.arange(len(dataset))


def _various(dataset: Dataset) -> Tensor:
    """A few indices, of different classes if there are any."""
    if dataset.labels is None:
        return spread(_every(dataset), FEW)
    firsts = [int((dataset.labels == k).nonzero()[0]) for k in dataset.labels.unique()]
    return spread(torch.tensor(firsts), FEW)


def _real(dataset: Dataset, label: int | None, count: int) -> Tensor:
    every = _every(dataset)
    if label is not None and dataset.labels is not None:
        every = every[dataset.labels == label]
    return dataset.batch(spread(every, count)).x


def _unit(schedule: Schedule, x_t: Tensor, t: Tensor) -> Tensor:
    return x_t / over(torch.hypot(schedule.alpha(t), schedule.sigma(t)), x_t)


def _when(schedule: Schedule, t: Tensor) -> tuple[str, str]:
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    ratio = sigma / alpha if alpha else math.inf
    return f"t = {float(t):.3g}", f"σ/α = {_short(ratio)}"


def _short(value: Any) -> str:
    return "∞" if value > 1e6 else f"{value:.2g}" if value < 10 else f"{value:.0f}"
