r"""The training loop: steps as pure functions of (seed, step, state), one record each.

A step n takes the data at positions n B ... (n + 1) B - 1 of an endless sequence of permuted
epochs, draws its times, noise, hidden labels and mirrored images from counters (seed, purpose, n),
and moves the state. Nothing else decides what happens, so a run that is stopped and resumed at any
step is the same run, and the place in the data is one integer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from undiffuse import noise
from undiffuse.data.dataset import Batch, Dataset
from undiffuse.denoiser import Learned
from undiffuse.errors import RunFailed
from undiffuse.objectives.coupling import couple
from undiffuse.objectives.objective import Loss, Objective
from undiffuse.objectives.times.base import Times
from undiffuse.training.ema import EMA
from undiffuse.training.recipe import DataOptions, TrainingOptions


class Record(NamedTuple):
    """What a step tells. Loggers, progress bars, tests and pages are consumers of records."""

    step: int  # steps done, so the first record says 1
    steps: int  # steps in all
    images: int  # samples seen since the start
    loss: float
    gradient_norm: float  # before clipping
    lr: float
    seconds: float  # of this step


@dataclass
class State:
    """All that changes while learning."""

    denoiser: Learned
    optimizer: torch.optim.AdamW
    ema: EMA
    scaler: torch.amp.GradScaler  # of the loss, for float16
    step: int = 0
    times: Times | None = None  # the objective's, where they have learned from losses

    @classmethod
    def new(cls, denoiser: Learned, options: TrainingOptions) -> State:
        """The state before the first step."""
        optimizer = torch.optim.AdamW(
            denoiser.network.parameters(),
            lr=options.lr,
            betas=options.betas,
            weight_decay=options.weight_decay,
            fused=True,
        )
        device = next(denoiser.network.parameters()).device.type
        scaler = torch.amp.GradScaler(device, enabled=options.precision == "float16")
        return cls(denoiser, optimizer, EMA(denoiser.network, options.ema), scaler)


def learning_rate(step: int, steps: int, options: TrainingOptions) -> float:
    """The rate of step number `step` (from 0): linear warm-up, then a half cosine to lr_end."""
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    done = (step - options.warmup) / max(1, steps - options.warmup)
    return options.lr_end + (options.lr - options.lr_end) * (1 + math.cos(math.pi * done)) / 2


class Order:
    """Which samples a step sees: each once per epoch, every epoch in its own random order."""

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self._epoch: tuple[int, Tensor] = (-1, torch.empty(0, dtype=torch.int64))

    def _permutation(self, epoch: int) -> Tensor:
        if self._epoch[0] != epoch:
            self._epoch = (epoch, noise.permutation(self.seed, "order", self.count, epoch))
        return self._epoch[1]

    def indices(self, step: int) -> Tensor:
        """The indices of step `step`, [B]; a batch may run over the end of an epoch."""
        parts, position, wanted = [], step * self.batch_size, self.batch_size
        while wanted:
            epoch, offset = divmod(position, self.count)
            part = self._permutation(epoch)[offset : offset + wanted]
            parts.append(part)
            position, wanted = position + len(part), wanted - len(part)
        return torch.cat(parts)


def prepare(
    batch: Batch, seed: int, step: int, data: DataOptions, options: TrainingOptions
) -> tuple[Tensor, Tensor | None]:
    """Mirror images and hide labels as this step's counters say."""
    x, label = batch
    if data.flip:
        mirrored = noise.uniform(seed, "flip", len(x), step) < 0.5
        x = torch.where(mirrored.reshape(-1, *(1,) * (x.ndim - 1)), x.flip(-1), x)
    if label is not None and options.label_dropout:
        hidden = noise.uniform(seed, "label", len(x), step) < options.label_dropout
        label = label.masked_fill(hidden, -1)
    return x, label


def train_steps(
    state: State,
    dataset: Dataset,
    objective: Loss,
    steps: int,
    seed: int,
    options: TrainingOptions,
    data: DataOptions,
) -> Iterator[Record]:
    """Train `state` up to step number `steps`, yielding a record after each step.

    Raises:
        RunFailed: the loss or its gradient is not finite. The weights are then those of the step
            before.
    """
    network = state.denoiser.network.train()
    parameters = [p for p in network.parameters() if p.requires_grad]
    device = parameters[0].device
    order = Order(len(dataset), options.batch_size, seed)
    draw = {"stratified": noise.uniform, "low-discrepancy": noise.low_discrepancy}
    if state.times is not None:
        objective = replace(cast(Objective, objective), times=state.times)
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(options.precision)
    while state.step < steps:
        begun, n = time.perf_counter(), state.step
        batch = dataset.batch(order.indices(n))
        x_0, label = prepare(batch, seed, n, data, options)
        u = draw[options.time_draws](seed, "time", len(x_0), n).to(device)
        eps = noise.normal(seed, "noise", x_0.shape, step=n)
        if options.coupling == "optimal-transport":
            eps = couple(x_0, eps, label)
        x_0, eps = x_0.to(device), eps.to(device)
        condition = {} if label is None else {"label": label.to(device)}
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(n, steps, options)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(noise.integer(seed, "dropout", n))
            with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                losses = objective.loss(state.denoiser, x_0, u, eps, **condition)
                loss = losses.mean()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise RunFailed(
                f"the loss is {value} at step {n + 1}: lower training.lr, use float32, or look at"
                " the data; checkpoints of earlier steps are whole"
            )
        state.optimizer.zero_grad(set_to_none=True)
        state.scaler.scale(loss).backward()
        state.scaler.unscale_(state.optimizer)
        norm = nn.utils.clip_grad_norm_(parameters, options.clip)
        if not (bool(norm.isfinite()) or state.scaler.is_enabled()):  # a scaler skips such steps
            raise RunFailed(
                f"the gradient of step {n + 1} is not finite: lower training.lr, or look at the"
                " network and the data; checkpoints of earlier steps are whole"
            )
        state.scaler.step(state.optimizer)
        state.scaler.update()
        times = objective.times.updated(u, losses.detach(), state.denoiser.schedule)
        if times != objective.times:
            objective, state.times = replace(cast(Objective, objective), times=times), times
        state.step = n + 1
        state.ema.update(network, state.step)
        yield Record(
            step=state.step,
            steps=steps,
            images=state.step * options.batch_size,
            loss=value,
            gradient_norm=float(norm),
            lr=learning_rate(n, steps, options),
            seconds=time.perf_counter() - begun,
        )


def steps_for(minutes: float, seconds_per_step: float, done: int) -> int:
    """How many steps in all fill `minutes`, given the pace; never fewer than are done."""
    return max(done + 1, round(minutes * 60 / seconds_per_step))
