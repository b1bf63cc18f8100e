"""From what a user writes, a name or a path, to a data set."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Any

from undiffuse import catalogue, pickles
from undiffuse.data.dataset import Dataset
from undiffuse.errors import UndiffuseError, one_line

FAMILY = "data"


def open_data(source: str | os.PathLike[str], **options: Any) -> Dataset:
    """Open a built-in data set by its name, or a path: a folder of images or an `.npz` file.

    `options` are those of the source (`size=32` for a folder); one that is None counts as not
    given. A built-in name goes before a path; write "./digits" for a folder of that name.

    >>> open_data("digits").shape
    (1, 8, 8)
    >>> len(open_data("mixture(count=100)", std=0.1))
    100

    Raises:
        UndiffuseError: nothing has this name or path, an option is unknown, or the data cannot
            be read.
    """
    text = os.fspath(source)
    options = {key: value for key, value in options.items() if value is not None}
    found: Dataset = _source(text, options).open()
    return found


def _source(text: str, options: dict[str, Any]) -> Any:
    if text in built_in():
        return catalogue.build({"name": text, **options}, FAMILY)
    if text and os.path.exists(text):
        kinds = [catalogue.load(FAMILY, name) for name in catalogue.names(FAMILY)]
        for kind in kinds:
            if kind.accepts(Path(text)):
                return catalogue.build({"name": kind.name, "path": text, **options}, FAMILY)
        readable = " or ".join(kind.reads for kind in kinds if kind.reads)
        reason = pickles.told(Path(text)) or f"it must be {readable}"
        raise UndiffuseError(f"cannot read '{text}' as data; {reason}")
    call = re.fullmatch(r"(\w+)\(.*\)", text)
    if call and call[1] in built_in():
        described = catalogue.describe(catalogue.parse(FAMILY, text))
        return catalogue.build({**described, **options}, FAMILY)
    raise _missing(text)


def built_in() -> list[str]:
    """The names of the data sets that need no file.

    >>> built_in()
    ['digits', 'mixture', 'moons']
    """
    return [name for name in catalogue.names(FAMILY) if not catalogue.load(FAMILY, name).reads]


def _missing(text: str) -> UndiffuseError:
    folder = os.path.dirname(text)
    try:
        beside = [os.path.join(folder, name) for name in os.listdir(folder or ".")]
    except OSError:
        beside = []
    near = difflib.get_close_matches(text, [*built_in(), *beside], n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return UndiffuseError(
        f"there is no file, folder or built-in data set '{one_line(text)}'{hint} "
        f"(built-in: {', '.join(built_in())})"
    )
