r"""All randomness of training and sampling, as pure functions of what it is for.

Random numbers come from a counter-based generator (Philox), so a draw is a function

    draw(seed, purpose, index, step, call)

and no generator carries state from one draw to the next. A sample's noise depends on the seed and
on the sample's own index, never on the batch that it happens to be in; a training step's draws
depend on the seed and the number of the step, so a resumed run draws what the uninterrupted one
would have drawn.

Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def generator(
    seed: int, purpose: str, index: int = 0, step: int = 0, call: int = 0
) -> np.random.Generator:
    """A fresh generator for one use, with 2^66 numbers of its own.

    Args:
        seed: the user's seed, any integer.
        purpose: what the numbers are for ("sample", "order", ...): different words, independent
            numbers.
        index: which sample, >= 0.
        step: which step, >= 0.
        call: which use within the step, >= 0.
    """
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=16).digest()
    key = np.frombuffer(digest, dtype=np.uint64)
    counter = np.array([0, call, index, step], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def normal(
    seed: int, purpose: str, shape: Sequence[int], index: int = 0, step: int = 0, call: int = 0
) -> Tensor:
    """Standard normal numbers of the given shape, float32, on the CPU."""
    rng = generator(seed, purpose, index, step, call)
    return torch.from_numpy(np.asarray(rng.standard_normal(tuple(shape), dtype=np.float32)))


def uniform(seed: int, purpose: str, count: int, step: int = 0) -> Tensor:
    """`count` numbers in [0, 1), one in each interval [i/count, (i+1)/count), in random order.

    Stratified: each is uniform on its own and together they cover the range evenly. Float64.
    """
    rng = generator(seed, purpose, step=step)
    return torch.from_numpy((rng.permutation(count) + rng.random(count)) / count)


def low_discrepancy(seed: int, purpose: str, count: int, step: int = 0) -> Tensor:
    """`count` numbers (u_0 + i/count) mod 1 in [0, 1), all from one uniform u_0; float64, ordered.

    Each is uniform on its own, and neighbours are exactly 1/count apart.

    Source: Kingma et al. 2021 (arXiv 2107.00630), "low-discrepancy sampler".
    """
    u_0 = generator(seed, purpose, step=step).random()
    return torch.from_numpy((u_0 + np.arange(count) / count) % 1)


def permutation(seed: int, purpose: str, count: int, step: int = 0) -> Tensor:
    """A random order of 0 ... count - 1, int64."""
    return torch.from_numpy(generator(seed, purpose, step=step).permutation(count))


def integer(seed: int, purpose: str, step: int = 0) -> int:
    """An integer in [0, 2^63), to seed a library that keeps a generator of its own."""
    return int(generator(seed, purpose, step=step).integers(2**63))


@dataclass(frozen=True)
class Stream:
    """The noise of samples `indices` under one seed: equal for any batch they are drawn in.

    >>> one, many = Stream(0, (5,)), Stream(0, (4, 5, 6))
    >>> bool((one.draw((3,), step=7)[0] == many.draw((3,), step=7)[1]).all())
    True
    """

    seed: int
    indices: tuple[int, ...]

    def draw(
        self, shape: Sequence[int], step: int, purpose: str = "sample", call: int = 0
    ) -> Tensor:
        """Noise [len(indices), *shape] for one use within one step of a loop, float32."""
        return torch.stack([normal(self.seed, purpose, shape, i, step, call) for i in self.indices])
