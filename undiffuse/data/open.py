"""From what a user writes, a name or a path, to a data set."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from undiffuse import catalogue, pickles
from undiffuse.data.dataset import Dataset
from undiffuse.errors import UndiffuseError, one_line

FAMILY = "data"


def open_data(source: str | os.PathLike[str], **options: Any) -> Dataset:
    """Open a built-in data set by its name, a path, or `hf:NAME` of the Hugging Face hub.

    A path is a folder of images, an `.npz` or a parquet file. `options` are those of the source
    (`size=32` for a folder), which may also stand in brackets behind its name; one that is None
    counts as not given. A built-in name goes before a path; write "./digits" for a folder of that
    name.

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
    return found if found.source == text else replace(found, source=text)


def _source(text: str, options: dict[str, Any]) -> Any:
    name = text
    called = re.fullmatch(r"([^()]+)\((.*)\)", text)
    if called and not os.path.exists(text) and _known(called[1]):
        name = called[1]
        options = {**catalogue.arguments(called[2], text), **options}
    if name in built_in():
        return catalogue.build({"name": name, **options}, FAMILY)
    if name and os.path.exists(name):
        kinds = [catalogue.load(FAMILY, known) for known in catalogue.names(FAMILY)]
        for kind in kinds:
            if kind.accepts(Path(name)):
                return catalogue.build({"name": kind.name, "path": name, **options}, FAMILY)
        *readable, last = [kind.reads for kind in kinds if kind.reads]
        reason = pickles.told(Path(name)) or f"it must be {', '.join(readable)} or {last}"
        raise UndiffuseError(f"cannot read '{name}' as data; {reason}")
    scheme, _, rest = name.partition(":")
    if scheme in _schemes() and rest:
        return catalogue.build({"name": _schemes()[scheme], "path": rest, **options}, FAMILY)
    raise _missing(name)


def _known(name: str) -> bool:
    """Whether there is something of this name, so that brackets behind it hold options."""
    scheme = name.partition(":")[0]
    return name in built_in() or scheme in _schemes() or os.path.exists(name)


def built_in() -> list[str]:
    """The names of the data sets that need no file.

    >>> built_in()
    ['digits', 'mixture', 'moons']
    """
    kinds = [catalogue.load(FAMILY, name) for name in catalogue.names(FAMILY)]
    return [kind.name for kind in kinds if not (kind.reads or kind.scheme)]


def _schemes() -> dict[str, str]:
    """The sources whose data have names of their own, by what stands before such a name."""
    kinds = [catalogue.load(FAMILY, name) for name in catalogue.names(FAMILY)]
    return {kind.scheme: kind.name for kind in kinds if kind.scheme}


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
        f"(built-in: {', '.join(built_in())}; on the Hugging Face hub: hf:NAME)"
    )
