"""What the loop tells: a record for each step, and all the records of a run together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Step(NamedTuple):
    """What the loop tells after each step: where it is, and the estimate that took it there."""

    number: int  # 0 is the start, before any step
    t: float
    x: Tensor  # the samples at time t, [B, ...]
    x0_hat: Tensor | None  # the last denoised estimate, [B, ...]; None at the start
    evaluations: int  # calls of the denoiser so far


@dataclass(frozen=True)
class Trajectory:
    """A whole run of the loop: times [n + 1], x [n + 1, B, ...], x0_hat [n, B, ...]."""

    times: Tensor
    x: Tensor
    x0_hat: Tensor
    evaluations: int


def joined(paths: Sequence[Sequence[Step]], dtype: torch.dtype) -> Trajectory:
    """The trajectory of all samples out of the records of each batch."""
    columns = list(zip(*paths, strict=True))
    return Trajectory(
        times=torch.tensor([column[0].t for column in columns], dtype=torch.float64),
        x=torch.stack([torch.cat([s.x for s in column]) for column in columns]).to(dtype),
        x0_hat=torch.stack(
            [torch.cat([s.x0_hat for s in c if s.x0_hat is not None]) for c in columns[1:]]
        ).to(dtype),
        evaluations=paths[0][-1].evaluations,
    )
