r"""What can go wrong within a step, and what is said about it.

A loss or a gradient that is not finite costs one step: nothing is learned from it, and it is told
with the samples and noise levels it came from. A weight that is not finite cannot be repaired and
ends the run, as does a lack of memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from undiffuse.errors import RunFailed
from undiffuse.training.recipe import TrainingOptions

MOST = 100  # samples that are named


class Fault(NamedTuple):
    """What was wrong with a step."""

    reason: str  # in a few words
    skipped: bool  # whether nothing was learned from it
    samples: tuple[int, ...]  # the indices in the data, at most 100
    log_snr: tuple[float, ...]  # the noise level of each


def fault(reason: str, skipped: bool, indices: Tensor, log_snr: Tensor, among: Tensor) -> Fault:
    """The fault of those samples of a batch that `among` (bool [B]) names."""
    chosen = among.cpu().nonzero()[:MOST, 0]
    samples, levels = indices[chosen].tolist(), log_snr.cpu()[chosen].tolist()
    return Fault(reason, skipped, tuple(samples), tuple(levels))


def refuse_damaged(network: nn.Module, step: int) -> None:
    """End the run if a weight is not finite.

    Raises:
        RunFailed: naming the weight.
    """
    name = not_finite({"the weight": dict(network.named_parameters())})
    if name is not None:
        raise RunFailed(
            f"{name} is not finite at step {step}, which no further step repairs: lower"
            " training.lr, or use float32; the checkpoints are of earlier steps and whole"
        )


def not_finite(groups: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The first tensor that is not finite in groups of named ones, "the average of 'head.bias'"."""
    for group, named in groups.items():
        for name, value in named.items():
            if not bool(torch.isfinite(value).all()):
                return f"{group} '{name}'"
    return None


@contextmanager
def memory_told(step: int, options: TrainingOptions) -> Iterator[None]:
    """Say what to do where a step needs more memory than there is.

    Raises:
        RunFailed: the memory did not suffice.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        at_once, parts = -(-options.batch_size // options.accumulate), 2 * options.accumulate
        raise RunFailed(
            f"there is not enough memory for step {step} with {at_once} samples at once: add"
            f" --resume --set training.accumulate={min(parts, options.batch_size)}, which takes"
            " the same batch in smaller parts, or choose a smaller --batch-size"
        ) from error


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory did not suffice, on a GPU or a CPU."""
    text = str(error)
    return (
        isinstance(error, MemoryError | torch.OutOfMemoryError)
        or "can't allocate memory" in text
        or "not enough memory" in text
    )
