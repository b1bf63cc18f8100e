r"""What a training will take, found out without keeping anything: time, memory, disk, arithmetic.

A few real steps are made, on the session's own state, which is thrown away with it. Their median
time (the first ones, in which memory is found and libraries start, left out) times the steps to go
is the time of training; pictures and checkpoints come on top.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from undiffuse.errors import UndiffuseError
from undiffuse.networks.cost import counting
from undiffuse.training import checkpoint
from undiffuse.training.loop import steps_for, train_steps
from undiffuse.training.session import Session

WARM = 3  # steps that are not timed
MOST = 20  # steps, and
PATIENCE = 10.0  # seconds for them


@dataclass(frozen=True)
class Plan:
    """The figures of a training to come."""

    weights: int  # numbers that the network learns
    flops: int  # of one pass of one sample through the network; a step takes three
    steps: int  # in all
    done: int  # of these, before it starts
    seconds_per_step: float
    data_share: float  # of that time, waiting for the data
    timed: int  # steps that were made to find out
    memory: int  # bytes, at the peak of these steps
    memory_left: int | None  # bytes that the machine has beside them; None where unknown
    checkpoint: int  # bytes of one, with the model folder that goes with it
    disk: int  # bytes, at most
    disk_free: int

    @property
    def seconds(self) -> float:
        """The time of the steps to go."""
        return self.seconds_per_step * (self.steps - self.done)


def measure(session: Session) -> Plan:
    """Make a few steps and tell what all of them will take; nothing is written.

    Raises:
        UndiffuseError: somebody else is writing to the run, or it is finished.
        RunFailed: the steps failed, for lack of memory or because of a loss that is not finite.
    """
    writer = session.run.writer()
    if writer is not None:
        raise UndiffuseError(f"{session.run.path} is being written by {writer}; wait or stop it")
    state, options, done = session.state, session.recipe.training, session.state.step
    if done == session.steps:
        raise UndiffuseError(
            f"{session.run.path} has all of its {done} steps; nothing is to be done"
        )
    device = next(state.denoiser.network.parameters()).device
    flops = _flops(session)
    pace, share, timed = _pace(session)
    steps = session.steps or steps_for(session.minutes or 0, pace, done)
    size = checkpoint.estimated(state)
    rare = steps // options.keep_every if options.keep_every else 0
    kept = options.keep + options.keep_best + rare
    made = -(-steps // options.checkpoint_every)
    above = next(p for p in (session.run.path, *session.run.path.absolute().parents) if p.exists())
    return Plan(
        weights=sum(p.numel() for p in state.denoiser.network.parameters() if p.requires_grad),
        flops=flops,
        steps=steps,
        done=done,
        seconds_per_step=pace,
        data_share=share,
        timed=timed,
        memory=_peak(device),
        memory_left=_left(device),
        checkpoint=size,
        disk=(min(made, kept) + 1) * size,  # a new one is whole before an old one goes
        disk_free=shutil.disk_usage(above).free,
    )


def _pace(session: Session) -> tuple[float, float, int]:
    """Seconds per step, the share of them spent waiting for data, and how many were timed."""
    options, recipe = session.recipe.training, session.recipe
    total = session.steps or session.state.step + WARM + MOST
    records = train_steps(
        session.state, session.dataset, session.objective, total, session.seed, options, recipe.data
    )
    begun, seen = time.monotonic(), []
    for record in islice(records, WARM + MOST):
        seen.append(record)
        if len(seen) > WARM and time.monotonic() - begun > PATIENCE:
            break
    timed = seen[WARM:] or seen
    seconds = [record.seconds for record in timed]
    waited = sum(record.data_seconds for record in timed)
    return statistics.median(seconds), waited / sum(seconds), len(timed)


@torch.no_grad()
def _flops(session: Session) -> int:
    """Floating-point operations of one pass of one sample; a product and a sum are two."""
    denoiser, x = session.state.denoiser, session.dataset.batch([0])
    device = next(denoiser.network.parameters()).device
    told = None if session.recipe.kind == "classifier" else x.label
    label = {} if told is None else {"label": told.to(device)}
    with counting() as counter:
        denoiser.eval()(x.x.to(device), 0.5, **label)
    return int(counter.get_total_flops())


def _peak(device: torch.device) -> int:
    """The most memory that was in use so far: of the device, or of the process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _left(device: torch.device) -> int | None:
    """The memory that nobody uses now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
