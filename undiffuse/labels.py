"""Labels as they are asked for: by number or by name, one for all or one for each, several at once.

What is known of them are two facts about data: `classes`, how many there are, and `class_names`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from undiffuse.errors import UndiffuseError, unknown

Label = int | Sequence[int] | Sequence[Sequence[int]] | Tensor


def read(text: str, facts: Mapping[str, Any]) -> tuple[int, ...]:
    """The numbers of a label in words: "7", "cat", or several at once, "3+7".

    >>> read("cat+2", {"classes": 3, "class_names": ["cat", "dog", "cow"]})
    (0, 2)

    Raises:
        UndiffuseError: a label that does not exist.
    """
    names: Sequence[str] = facts["class_names"]
    parts = [text] if text in names else [part.strip() for part in text.split("+")]
    numbers = []
    for part in parts:
        if re.fullmatch(r"-?\d{1,9}", part):
            number = int(part)
        elif part in names or not facts["classes"]:
            number = names.index(part) if facts["classes"] else 0
        else:
            raise unknown("label", part, names)
        checked(1, number, facts)
        if number < 0:
            raise UndiffuseError(f"there is no label {number}; labels count from 0")
        numbers.append(number)
    return tuple(numbers)


def checked(count: int, label: Label | None, facts: Mapping[str, Any]) -> Tensor | None:
    """Labels int64 for `count` samples: [count], or [count, n] for n at once; None without labels.

    Args:
        count: how many samples.
        label: one for all, or one for each, or a row of n for each, or one row for all; -1: none.
        facts: what is known of the labels.

    Raises:
        UndiffuseError: a label that is not known, or as many as do not fit.
    """
    if label is None:
        return None
    classes = int(facts["classes"])
    if not classes:
        raise UndiffuseError("this model was trained without labels; leave the label out")
    wanted = torch.as_tensor(label)
    if wanted.is_floating_point() and wanted.numel():
        raise UndiffuseError(f"labels are whole numbers, not {wanted.flatten()[0].item()}")
    wanted = wanted.to(torch.int64)
    wanted = wanted if wanted.ndim == 2 else wanted.reshape(-1)
    if len(wanted) not in {1, count}:
        raise UndiffuseError(f"{len(wanted)} labels were given for {count} samples")
    for value in wanted.unique().tolist():
        if not -1 <= value < classes:
            names = ", ".join(f"{i} {n}" for i, n in enumerate(facts["class_names"][:20]))
            raise UndiffuseError(
                f"there is no label {value}; labels run from 0 to {classes - 1}"
                + (f" ({names})" if names else "")
            )
    return wanted.expand(count, *wanted.shape[1:])  # of one label, without room for all
