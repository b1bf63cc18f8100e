"""Numbers among the words of a command line, looked at before the parser does.

The parser says of `--steps many` what Python says, over ten lines and with all of what was given;
here it is said in one sentence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, get_args, get_type_hints

from undiffuse.errors import UndiffuseError, shown

KINDS: dict[Any, str] = {int: "a whole number", float: "a number"}


def check_numbers(verb: type[Any], words: Sequence[str]) -> None:
    """Refuse a word that is no number where the verb's option takes one.

    Raises:
        UndiffuseError: naming the option.
    """
    known = dict(_options(verb))
    split = [tuple(word.split("=", 1)) for word in words if word.startswith("--") and "=" in word]
    for flag, value in (*pairwise(words), *split):
        kind = known.get(flag)
        if kind is not None:
            try:
                kind(value)
            except ValueError as error:
                raise UndiffuseError(f"{flag} must be {KINDS[kind]}, not {shown(value)}") from error


def _options(kind: type[Any]) -> Iterator[tuple[str, Any]]:
    """The flags of the fields that hold numbers, with the type that reads them."""
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from _options(hint)  # type: ignore[arg-type]
        for number in {hint, *get_args(hint)} & set(KINDS):
            yield f"--{field.name.replace('_', '-')}", number
