r"""How samples are cut into batches, and which of them one of several processes draws.

Batches are cut at the multiples of their size, whatever is there already and however many processes
draw, so a batch holds the same samples everywhere, and with the same number of threads the same
bits.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from undiffuse.errors import UndiffuseError


class Batch(NamedTuple):
    """Samples first, first + 1, ..., first + length - 1."""

    first: int
    length: int

    @property
    def numbers(self) -> range:
        """The numbers of the samples."""
        return range(self.first, self.first + self.length)


@dataclass(frozen=True)
class Share:
    """The part of the batches that process `rank` out of `count` draws, and its number here."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @classmethod
    def here(cls, environment: Mapping[str, str] = os.environ) -> Share:
        """As torchrun tells this process: RANK, WORLD_SIZE and LOCAL_RANK; all, if it does not.

        Raises:
            UndiffuseError: they are no numbers that fit each other.

        >>> Share.here({"RANK": "1", "WORLD_SIZE": "4"})
        Share(rank=1, count=4, local_rank=1)
        """
        count, rank = (environment.get(name) for name in ("WORLD_SIZE", "RANK"))
        if count is None:
            return cls()
        try:
            share = cls(int(rank or ""), int(count), int(environment.get("LOCAL_RANK", rank or "")))
        except ValueError:
            share = cls(-1)
        if not 0 <= share.rank < share.count or share.local_rank < 0:
            raise UndiffuseError(
                f"WORLD_SIZE is {count} and RANK is {rank}: both must be whole numbers with 0 <="
                " RANK < WORLD_SIZE; torchrun sets them, and without it they are better unset"
            )
        return share

    def batches(self, numbers: Sequence[int], size: int) -> Iterator[Batch]:
        """Of rising numbers, those in the batches of this share, as runs of neighbours.

        Batch b is b size, ..., (b + 1) size - 1, and belongs to process b mod count.

        >>> list(Share().batches([0, 1, 2, 5, 6], size=2))
        [Batch(first=0, length=2), Batch(first=2, length=1), Batch(first=5, length=1), ...]
        >>> list(Share(rank=1, count=2).batches(range(7), size=2))
        [Batch(first=2, length=2), Batch(first=6, length=1)]
        """
        runs = groupby(enumerate(numbers), key=lambda pair: (pair[1] // size, pair[1] - pair[0]))
        for (batch, _), run in runs:
            if batch % self.count == self.rank:
                found = [number for _, number in run]
                yield Batch(found[0], len(found))


def spread(device: str, number: int) -> str:
    """The device of process `number`: of "cuda", one card after the other.

    >>> spread("cpu", 3), spread("cuda:1", 3)
    ('cpu', 'cuda:1')
    """
    if device != "cuda":
        return device
    import torch

    cards = torch.cuda.device_count()
    return f"cuda:{number % cards}" if cards else device
