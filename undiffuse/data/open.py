"""From what a user writes, a name or a path, to a data set."""

from __future__ import annotations

import difflib
import inspect
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from undiffuse import calls, catalogue, pickles
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
    name, inside = _split(text)
    kind, place = _found(name)
    what, takes = f"data set '{kind.name}'", inspect.signature(kind).parameters
    texts = [option for option, known in takes.items() if "str" in str(known.annotation)]
    given = {option: value for option, value in options.items() if value is not None}
    options = {**calls.arguments(inside, text, texts), **given}
    if "path" in options:
        raise UndiffuseError(f"{what}: its path is what stands before the brackets")
    found: Dataset = catalogue.made(kind, kind, {**place, **options}, what).open()
    written = calls.written(name, options)
    if options and os.path.exists(written):  # there is something else of this name
        written = calls.written(f"{name} ", options)
    return found if found.source == written else replace(found, source=written)


def _split(text: str) -> tuple[str, str]:
    """A name, and what stands in brackets behind it where the whole is not a name itself."""
    scheme, _, rest = text.partition(":")
    whole = _is_here(text) or (scheme in _schemes() and os.path.isdir(rest))
    for at, letter in enumerate(text[:-1]):
        if whole or letter != "(" or text[-1] != ")" or not calls.closed(text[at + 1 : -1]):
            continue
        name = text[:at] if _is_here(text[:at]) else text[:at].rstrip()
        if _is_here(name) or scheme in _schemes():
            return name, text[at + 1 : -1]
    return text, ""


def _is_here(name: str) -> bool:
    return name in built_in() or os.path.exists(name)


def _found(name: str) -> tuple[type[Any], dict[str, str]]:
    """The source of this name, and its path if it has one."""
    if name in built_in():
        return catalogue.load(FAMILY, name), {}
    if name and os.path.exists(name):
        for kind in _kinds():
            if kind.accepts(Path(name)):
                return kind, {"path": name}
        *readable, last = [kind.reads for kind in _kinds() if kind.reads]
        reason = pickles.told(Path(name)) or f"it must be {', '.join(readable)} or {last}"
        raise UndiffuseError(f"cannot read '{name}' as data; {reason}")
    scheme, _, rest = name.partition(":")
    if scheme in _schemes() and rest:
        return _schemes()[scheme], {"path": rest}
    raise _missing(name)


def built_in() -> list[str]:
    """The names of the data sets that need no file.

    >>> built_in()
    ['digits', 'mixture', 'moons']
    """
    return [kind.name for kind in _kinds() if not (kind.reads or kind.scheme)]


def _kinds() -> list[type[Any]]:
    return [catalogue.load(FAMILY, name) for name in catalogue.names(FAMILY)]


def _schemes() -> dict[str, type[Any]]:
    """The sources whose data have names of their own, by what stands before such a name."""
    return {kind.scheme: kind for kind in _kinds() if kind.scheme}


def _missing(text: str) -> UndiffuseError:
    folder = os.path.dirname(text)
    try:
        beside = [os.path.join(folder, name) for name in os.listdir(folder or ".")]
    except (OSError, ValueError):  # no such folder, or none that can be: a null byte
        beside = []
    near = difflib.get_close_matches(text, [*built_in(), *beside], n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return UndiffuseError(
        f"there is no file, folder or built-in data set '{one_line(text)}'{hint} "
        f"(built-in: {', '.join(built_in())}; on the Hugging Face hub: hf:NAME)"
    )
