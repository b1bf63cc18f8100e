r"""Which numbers a run's network computes in, where its recipe says "auto": measured, not assumed.

Half as many bits are twice as quick on some processors and slower on others, and on one processor
they are either, by the network. So the run's own network makes a pass forward and backward of a
batch of the run's own, in float32 and in bfloat16 in turns, and bfloat16 has to be 10 % quicker.

It is asked once, before the first step: the answer stands in the run's config.toml in the place of
"auto", and a resumed run does not measure again.
"""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from typing import NamedTuple

import torch

from undiffuse.data.dataset import Dataset
from undiffuse.denoiser import Learned
from undiffuse.objectives.objective import Loss
from undiffuse.training.batches import Batches
from undiffuse.training.faults import memory_told
from undiffuse.training.loop import State, gradient
from undiffuse.training.recipe import Recipe

AUTO = "auto"
GAIN = 1.1  # how many times as quick bfloat16 has to be
ROUNDS = 4  # of timed passes, one each, and
PATIENCE = 10.0  # seconds after which no other round begins


class Pace(NamedTuple):
    """Seconds of a pass forward and backward, the least of each."""

    float32: float
    bfloat16: float

    @property
    def gain(self) -> float:
        """How many times as quick bfloat16 is."""
        return self.float32 / self.bfloat16

    @property
    def choice(self) -> str:
        """The precision to train in.

        >>> Pace(float32=0.30, bfloat16=0.20).choice, Pace(float32=0.30, bfloat16=0.28).choice
        ('bfloat16', 'float32')
        """
        return "bfloat16" if self.gain >= GAIN else "float32"


def pace(denoiser: Learned, objective: Loss, dataset: Dataset, seed: int, recipe: Recipe) -> Pace:
    """Time a pass in either precision, on a copy of the denoiser and the batch of the first step.

    Raises:
        RunFailed: memory does not suffice for a step.
    """
    device = next(denoiser.network.parameters()).device
    either = [replace(recipe.training, precision=name, compile=False) for name in Pace._fields]
    state = State.new(copy.deepcopy(denoiser).train(), either[0])
    drawn = Batches(dataset, seed, either[0], recipe.data).at(0)
    rounds: list[list[float]] = []
    with memory_told(1, either[0]):
        while len(rounds) <= ROUNDS and sum(map(sum, rounds)) < PATIENCE:
            rounds.append([])
            for options in either:
                begun = time.perf_counter()
                gradient(state, objective, drawn, seed, options)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                rounds[-1].append(time.perf_counter() - begun)
    return Pace(*map(min, zip(*rounds[1:] or rounds, strict=True)))  # the first is a warming up
