r"""Pictures of what a run has learned so far, from its raw and its averaged weights.

Both, so that a bad average would be seen. They are always of the same noise, so that the pictures
of a run show one set of samples taking shape.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import undiffuse
from undiffuse import pictures, storage
from undiffuse.data.dataset import Dataset
from undiffuse.denoiser import Learned
from undiffuse.samplers.loop import sample
from undiffuse.training.loop import State
from undiffuse.training.recipe import SamplingOptions


class Stopped(Exception):
    """The run was asked to stop while a picture was drawn."""


def averaged(state: State) -> Learned:
    """The denoiser with the averaged weights, as a copy."""
    made = copy.deepcopy(state.denoiser).eval()
    made.network.load_state_dict(state.ema.weights)
    return made


def draw(
    state: State,
    dataset: Dataset,
    options: SamplingOptions,
    seed: int,
    folder: Path,
    stopped: Callable[[], bool],
) -> None:
    """Store step-N-raw.png and step-N-ema.png in `folder`: 16 images, or 512 points.

    Raises:
        Stopped: `stopped` became true, which is asked at each call of the network.
        RunFailed: the samples are not finite, or the folder cannot be written.
    """
    shape = dataset.shape
    count = 16 if len(shape) == 3 else 512
    condition: dict[str, Any] = {}
    if dataset.classes:
        condition["label"] = torch.arange(count) % dataset.classes

    def check(*_: object) -> None:
        if stopped():
            raise Stopped

    try:
        for name, denoiser in (("raw", state.denoiser), ("ema", averaged(state))):
            hook = denoiser.network.register_forward_pre_hook(check)
            try:
                x = sample(
                    denoiser.eval(),
                    (count, *shape),
                    options.sampler,
                    options.steps,
                    seed=seed,
                    **condition,
                )
            finally:
                hook.remove()
            assert isinstance(x, Tensor)
            facts = {
                "undiffuse": undiffuse.__version__,
                "model": storage.digest_of(denoiser.network.state_dict()),
                "weights": name,
                "step": state.step,
                "seed": seed,
                "sampler": options.sampler,
                "steps": options.steps,
            }
            path = folder / f"step-{state.step:08d}-{name}.png"
            pictures.save(pictures.draw(x), path, facts)
    finally:
        state.denoiser.train()
