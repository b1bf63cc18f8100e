r"""The training loop: steps as pure functions of (seed, step, state), one record each.

What a step draws is told by `batches`, from the seed and the number of the step alone; all that
changes is in `State`. Nothing else decides what happens, so a run that is stopped and resumed at
any step is the same run.

A step whose loss or gradient is not finite is skipped: it counts, and leaves the state as it was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from undiffuse import noise
from undiffuse.data.dataset import Dataset
from undiffuse.denoiser import Learned
from undiffuse.errors import RunFailed, UndiffuseError
from undiffuse.networks.compilation import with_compiled
from undiffuse.objectives.objective import Loss, Objective
from undiffuse.objectives.times.base import Times
from undiffuse.training.batches import Batches, Drawn
from undiffuse.training.course import Course
from undiffuse.training.ema import EMA
from undiffuse.training.faults import Fault, fault, memory_told, refuse_damaged
from undiffuse.training.optimizers import Optimizers, make
from undiffuse.training.recipe import DataOptions, TrainingOptions

DTYPES: dict[str, torch.dtype | None] = {
    "float32": None,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class Record(NamedTuple):
    """What a step tells. Loggers, progress bars, tests and pages are consumers of records."""

    step: int  # steps done, so the first record says 1
    steps: int  # steps in all
    images: int  # samples seen since the start
    loss: float  # NaN or infinite where the step was skipped for that
    gradient_norm: float  # before clipping; NaN where there was none
    lr: float
    seconds: float  # of this step
    data_seconds: float  # of these, until the batch was there
    skipped: int = 0  # steps skipped since the start
    fault: Fault | None = None  # what was wrong with this one


@dataclass
class State:
    """All that changes while learning."""

    denoiser: Learned
    optimizers: Optimizers
    ema: EMA
    scaler: torch.amp.GradScaler  # of the loss, for float16
    step: int = 0
    times: Times | None = None  # the objective's, where they have learned from losses
    course: Course = field(default_factory=Course)
    quick: Learned | None = None  # the denoiser, with its network compiled

    @classmethod
    def new(cls, denoiser: Learned, options: TrainingOptions) -> State:
        """The state before the first step.

        Raises:
            UndiffuseError: the precision is still "auto", or nothing here can compile.
        """
        if options.precision not in DTYPES:
            raise UndiffuseError(
                f"precision must be one of {', '.join(DTYPES)} by now, not '{options.precision}',"
                " which a Session resolves"
            )
        optimizers = make(denoiser.network, options)
        device = next(denoiser.network.parameters()).device.type
        scaler = torch.amp.GradScaler(device, enabled=options.precision == "float16")
        quick = with_compiled(denoiser) if options.compile else None
        return cls(denoiser, optimizers, EMA(denoiser.network, options.ema), scaler, quick=quick)


def learning_rate(step: int, steps: int, options: TrainingOptions) -> float:
    """The rate of step number `step` (from 0): linear warm-up, then half a cosine to decay_to."""
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    done = (step - options.warmup) / max(1, steps - options.warmup)
    left = (1 + math.cos(math.pi * done)) / 2  # from 1 to 0
    return options.lr * (options.decay_to + (1 - options.decay_to) * left)


class Outcome(NamedTuple):
    """What came of the draws of a step."""

    losses: Tensor  # of each sample, [B], or of the first ones up to one that is not finite
    loss: float  # their mean
    norm: float  # of the gradient before clipping; NaN without one

    @property
    def finite(self) -> bool:
        """Whether something was learned."""
        return math.isfinite(self.norm)


def attempt(
    state: State, objective: Loss, drawn: Drawn, seed: int, options: TrainingOptions
) -> Outcome:
    """Move the weights by one step, or leave them where loss or gradient is not finite."""
    parameters = [p for p in state.denoiser.network.parameters() if p.requires_grad]
    losses = gradient(state, objective, drawn, seed, options)
    loss = float(losses.mean())
    if not math.isfinite(loss):
        return Outcome(losses, loss, math.nan)
    for optimizer in state.optimizers:
        state.scaler.unscale_(optimizer)
    norm = float(nn.utils.clip_grad_norm_(parameters, options.clip))
    if math.isfinite(norm):
        for optimizer in state.optimizers:
            state.scaler.step(optimizer)
    state.scaler.update()  # float16 lowers its scale where the norm was not finite
    return Outcome(losses, loss, norm)


def gradient(
    state: State, objective: Loss, drawn: Drawn, seed: int, options: TrainingOptions
) -> Tensor:
    """Put the gradient of the mean loss into the parameters; the loss of each sample, [B].

    The batch goes through the network in `accumulate` parts, with the draws of the whole, but each
    with its own masks of dropout. Where a loss is not finite, the parts after it are left out.
    """
    device = next(state.denoiser.network.parameters()).device
    dtype = DTYPES[options.precision]
    state.denoiser.network.zero_grad(set_to_none=True)
    found: list[Tensor] = []
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(noise.integer(seed, "dropout", state.step))
        for part in drawn.parts(options.accumulate):
            x_0, u, eps = (value.to(device) for value in (part.x_0, part.u, part.eps))
            condition = {} if part.label is None else {"label": part.label.to(device)}
            with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                losses = objective.loss(state.quick or state.denoiser, x_0, u, eps, **condition)
                loss = losses.mean() * (len(losses) / len(drawn.x_0))
            found.append(losses.detach())
            if options.accumulate > 1 and not math.isfinite(loss.detach()):
                break  # otherwise nobody waits here for the device
            state.scaler.scale(loss).backward()
    return torch.cat(found)


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
        RunFailed: a weight is not finite; `skip_limit` steps in a row had to be skipped; memory
            does not suffice. The checkpoints of earlier steps stay.
    """
    state.denoiser.network.train()
    batches, schedule = Batches(dataset, seed, options, data), state.denoiser.schedule
    limit = min(options.skip_limit, steps)
    if state.times is not None:
        objective = replace(cast(Objective, objective), times=state.times)
    while state.step < steps:
        begun, n = time.perf_counter(), state.step
        drawn, rate = batches.at(n), learning_rate(n, steps, options)
        for optimizer in state.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        with memory_told(n + 1, options):
            losses, loss, norm = came = attempt(state, objective, drawn, seed, options)
        wrong = _fault(state, objective, drawn, came, options)
        state.step = n + 1
        if came.finite:
            times = objective.times.updated(drawn.u.to(losses.device), losses, schedule)
            if times != objective.times:
                objective, state.times = replace(cast(Objective, objective), times=times), times
            state.course = state.course.taken(loss, norm)
            state.ema.update(state.denoiser.network, state.step)
        else:
            state.course = state.course.missed()
        yield Record(
            step=state.step,
            steps=steps,
            images=state.step * options.batch_size,
            loss=loss,
            gradient_norm=norm,
            lr=rate,
            seconds=time.perf_counter() - begun,
            data_seconds=drawn.seconds,
            skipped=state.course.skipped,
            fault=wrong,
        )
        if wrong is not None and state.course.in_a_row >= limit:
            raise RunFailed(
                f"{limit} steps in a row were skipped, step {state.step} because {wrong.reason}:"
                " lower training.lr, use float32, or look at the data; checkpoints of earlier steps"
                " are whole"
            )


def _fault(
    state: State, objective: Loss, drawn: Drawn, came: Outcome, options: TrainingOptions
) -> Fault | None:
    """What was wrong with the step in progress; None: nothing.

    Raises:
        RunFailed: a weight is not finite.
    """
    among = torch.ones(len(drawn.indices), dtype=torch.bool)
    if not came.finite:
        refuse_damaged(state.denoiser.network, state.step + 1)
    if not math.isfinite(came.loss):
        reason = f"the loss is {came.loss}"
        wrong = came.losses.isfinite().logical_not().cpu()
        if bool(wrong.any()):  # else only their sum is too large
            among[: len(wrong)], among[len(wrong) :] = wrong, False
    elif not came.finite:
        reason = f"the gradient is {came.norm}"
        if state.scaler.is_enabled():
            reason += f", its scale for float16 is now {state.scaler.get_scale():g}"
    else:
        factor = state.course.explosion(came.norm, options.clip)
        if factor is None:
            return None
        reason = f"the gradient is {factor:.0f} times its usual size"
    schedule = state.denoiser.schedule
    log_snr = schedule.log_snr(objective.times.times(drawn.u, schedule))
    return fault(reason, not came.finite, drawn.indices, log_snr, among)


def steps_for(minutes: float, seconds_per_step: float, done: int) -> int:
    """How many steps in all fill `minutes`, given the pace; never fewer than are done."""
    return max(done + 1, round(minutes * 60 / seconds_per_step))
