"""The plain kinds of values, such as a whole number, by the annotation of a dataclass's field.

A file gives numbers, texts and lists; what an option takes is written in its class. Both are
compared here before the class sees the value, so that a wrong kind is told by the option's name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# In words, and whether a value is one.
KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "None": ("left out", lambda v: v is None),
    "bool": ("true or false", lambda v: isinstance(v, bool)),
    "int": ("a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool)),
    "float": ("a number", lambda v: isinstance(v, int | float) and not isinstance(v, bool)),
    "str": ("a text", lambda v: isinstance(v, str)),
    "tuple": ("a list", lambda v: isinstance(v, tuple | list)),
}


def fits(value: object, annotation: str) -> bool:
    """Whether a value is of the kind that an annotation names; kinds that are not plain take any.

    >>> fits(3, "float | None"), fits("3", "int"), fits([1, True], "tuple[int, ...]")
    (True, False, False)
    """
    return any(_is(value, kind) for kind in annotation.split(" | "))


def _is(value: Any, kind: str) -> bool:
    outer, _, inner = kind.removesuffix("]").partition("[")
    if outer not in KINDS:
        return True
    if not KINDS[outer][1](value):
        return False
    kinds = [part for part in inner.split(", ") if part not in {"", "..."}]
    return not kinds or all(_is(item, kinds[0]) for item in value)


def spoken(annotation: str) -> str:
    """The kinds of an annotation in words.

    >>> spoken("int | None"), spoken("tuple[float, ...]")
    ('a whole number or left out', 'a list, each of it a number')
    """
    words = []
    for kind in annotation.split(" | "):
        outer, _, inner = kind.removesuffix("]").partition("[")
        each = f", each of it {spoken(inner.split(', ')[0])}" if inner else ""
        words.append(KINDS[outer][0] + each if outer in KINDS else kind)
    return " or ".join(words)
