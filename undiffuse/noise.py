r"""All randomness of training and sampling, as pure functions of what it is for.

Random numbers come from a counter-based generator (Philox), so a draw is a function

    draw(seed, purpose, index, step, call)

and no generator carries state from one draw to the next. A sample's noise depends on the seed and
on the sample's own index, never on the batch that it happens to be in; a training step's draws
depend on the seed and the number of the step, so a resumed run draws what the uninterrupted one
would have drawn.

A Brownian path is such a function too: its value at any time is drawn by halving the interval
around that time again and again, each midpoint with numbers of its own.

Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FINEST = 2**40  # a Brownian path is known at the multiples of 1 / FINEST


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


@dataclass(frozen=True)
class Brownian:
    """One Brownian path W on [0, 1] for each of the samples `indices`, the same however it is read.

    W(0) = 0, W(1) ~ N(0, I), and the middle of an interval [a, b] is its ends' mean plus
    sqrt(b - a) / 2 z: Levy's construction, down to times that are multiples of 2^-40, to which
    others are rounded. A value costs up to 40 draws, and no state but the last value is kept.

    Source: Levy 1948; Li et al. 2020 (arXiv 2001.01328), "virtual Brownian tree".

    >>> path = Brownian(0, (5, 6))
    >>> whole, parts = path.increment((3,), 0.2, 0.9), [(0.2, 0.4), (0.4, 0.9)]
    >>> bool(torch.allclose(whole, sum(path.increment((3,), *part) for part in parts)))
    True
    """

    seed: int
    indices: tuple[int, ...]
    _last: dict[tuple[int, tuple[int, ...]], Tensor] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def at(self, shape: Sequence[int], t: Tensor | float) -> Tensor:
        """W(t), t in [0, 1]: [len(indices), *shape], float64; a function of (seed, index, t)."""
        goal, shape = round(float(t) * FINEST), tuple(shape)
        if (goal, shape) not in self._last:
            value = torch.from_numpy(self._descend(goal, math.prod(shape)))
            self._last.clear()  # a walk asks for each time twice in a row
            self._last[goal, shape] = value.reshape(len(self.indices), *shape)
        return self._last[goal, shape]

    def increment(self, shape: Sequence[int], s: Tensor | float, t: Tensor | float) -> Tensor:
        """W(t) - W(s) ~ N(0, |t - s| I), [len(indices), *shape], float64; they add up."""
        start = self.at(shape, s)
        return self.at(shape, t) - start

    def _descend(self, goal: int, size: int) -> NDArray[np.float64]:
        """W(goal / FINEST), [len(indices), size]."""
        rng = generator(self.seed, "brownian")  # set to a node's counter before each draw:
        state = rng.bit_generator.state  # ten times quicker than making a new one

        def drawn(node: int) -> NDArray[np.float64]:
            rows = np.empty((len(self.indices), size))
            for row, index in zip(rows, self.indices, strict=True):
                state["state"]["counter"] = np.array([0, 0, index, node], dtype=np.uint64)
                rng.bit_generator.state = state
                row[:] = rng.standard_normal(size, dtype=np.float32)
            return rows

        low, high, below = 0, FINEST, np.zeros((len(self.indices), size))
        if goal == low:
            return below
        above, node = drawn(0), 1
        if goal == high:
            return above
        while True:  # W is known at low and high, and goal lies between
            middle = (low + high) // 2
            value = (below + above) / 2 + math.sqrt((high - low) / FINEST) / 2 * drawn(node)
            if goal == middle:
                return value
            if goal < middle:
                high, above, node = middle, value, 2 * node
            else:
                low, below, node = middle, value, 2 * node + 1


class StepNoise:
    """The noise of one step: fresh numbers at each call, or what a path does in that time.

    A call is a function of (seed, index, step, number of the call); an increment of (seed, index)
    and its times.
    """

    def __init__(self, stream: Stream, path: Brownian, step: int) -> None:
        self.stream, self.path, self.step = stream, path, step
        self.calls = itertools.count()

    def __call__(self, like: Tensor) -> Tensor:
        return self.stream.draw(like.shape[1:], self.step, call=next(self.calls)).to(like)

    def increment(self, like: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """W(s) - W(t) of the Brownian path of these samples, of like's shape."""
        return self.path.increment(like.shape[1:], t, s).to(like)
