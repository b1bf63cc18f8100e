"""Classes: from the name written beside each sample to its number.

Classes are numbered in the order of their names, or of their values where all are whole numbers,
unless their order is written down with the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from undiffuse.errors import UndiffuseError, one_line

LONGEST = 4000  # digits of a number: Python reads no more than 4300


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Class names without repetition, sorted as whole numbers if all are, as texts otherwise.

    >>> in_order(["10", "9", "9"]), in_order(["10", "9", "cat"])
    (('9', '10'), ('10', '9', 'cat'))
    """
    different = set(names)
    if all(name.removeprefix("-").isdecimal() and len(name) < LONGEST for name in different):
        return tuple(sorted(different, key=lambda name: (int(name), name)))
    return tuple(sorted(different))


def numbered(
    chosen: Sequence[str], class_names: tuple[str, ...] | None, where: str
) -> tuple[Tensor | None, tuple[str, ...]]:
    """The number of each chosen name, int64 [N], and the names in order; neither if none is chosen.

    `class_names` is that order where it is known.

    >>> numbered(["b", "a", "b"], None, "x")
    (tensor([1, 0, 1]), ('a', 'b'))

    Raises:
        UndiffuseError: a name is not among those known.
    """
    if not chosen:
        return None, ()
    if class_names is None:
        class_names = in_order(chosen)
    number_of = {name: number for number, name in enumerate(class_names)}
    strange = sorted(set(chosen) - set(class_names))
    if strange:
        raise UndiffuseError(
            f"{where} has samples of '{one_line(strange[0])}', a class that the training data do"
            " not have"
        )
    return torch.tensor([number_of[name] for name in chosen], dtype=torch.int64), class_names
