"""JSON that means one thing: no key twice, no NaN, no number beyond the range of floats.

Python's own reader takes the last of two equal keys, and NaN and 1e999 (as infinity), without a
word; a file that was damaged or made to deceive would be read as something else than it shows.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

MOST = 50_000  # tables and lists in one text; a model has a few hundred


def parse(content: bytes) -> Any:
    """The value of a JSON text in UTF-8.

    >>> parse(b'{"steps": 20}')
    {'steps': 20}
    >>> parse(b'{"steps": 20, "steps": 30}')
    Traceback (most recent call last):
    ValueError: the key 'steps' stands twice

    Raises:
        ValueError: it is not strict JSON; the text says why, in a few words.
    """
    if content.count(b"{") + content.count(b"[") > MOST:
        raise ValueError("it holds too many tables and lists")
    try:
        return json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            parse_float=_finite,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def text(value: Any) -> str:
    """A value as JSON, keys in the order given.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"the key '{key[:40]}' stands twice")
        made[key] = value
    return made


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        _refuse(number)
    return value


def _refuse(number: str) -> NoReturn:
    raise ValueError(f"{number[:40]} is not a finite number")
