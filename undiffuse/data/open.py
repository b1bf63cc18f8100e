"""From what a user writes, a name or a path, to a data set."""

from __future__ import annotations

import difflib
import inspect
import json
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
    name, written = _split(text)
    options = {**written, **{key: value for key, value in options.items() if value is not None}}
    found: Dataset = _source(name, options).open()
    return replace(found, source=calls.written(name, options))


def _split(text: str) -> tuple[str, dict[str, Any]]:
    """A name, and the options in brackets behind it where the whole is not a name itself."""
    if not text.endswith(")") or _known(text, folders_only=True):
        return text, {}
    depth = 0
    for at in range(len(text) - 1, -1, -1):
        depth += (text[at] == ")") - (text[at] == "(")
        if depth == 0:
            name = text[:at].rstrip()
            known = name and _known(name)
            return (name, calls.arguments(text[at + 1 : -1], text)) if known else (text, {})
    return text, {}


def _known(name: str, folders_only: bool = False) -> bool:
    """Whether there is something of this name; on a hub, anything may be."""
    scheme, _, rest = name.partition(":")
    if os.path.exists(name) or name in built_in():
        return True
    return scheme in _schemes() and (not folders_only or os.path.isdir(rest))


def _source(name: str, options: dict[str, Any]) -> Any:
    if name in built_in():
        return _made(catalogue.load(FAMILY, name), {}, options)
    if name and os.path.exists(name):
        kinds = [catalogue.load(FAMILY, known) for known in catalogue.names(FAMILY)]
        for kind in kinds:
            if kind.accepts(Path(name)):
                return _made(kind, {"path": name}, options)
        *readable, last = [kind.reads for kind in kinds if kind.reads]
        reason = pickles.told(Path(name)) or f"it must be {', '.join(readable)} or {last}"
        raise UndiffuseError(f"cannot read '{name}' as data; {reason}")
    scheme, _, rest = name.partition(":")
    if scheme in _schemes() and rest:
        return _made(catalogue.load(FAMILY, _schemes()[scheme]), {"path": rest}, options)
    raise _missing(name)


def _made(kind: type[Any], place: dict[str, str], options: dict[str, Any]) -> Any:
    what = f"data set '{kind.name}'"
    if "path" in options:
        raise UndiffuseError(f"{what}: its path is what stands before the brackets")
    texts = {
        key for key, known in inspect.signature(kind).parameters.items() if "str" in str(known)
    }
    bare = {  # a column called 7, a revision 1.0
        key: json.dumps(value) if key in texts and isinstance(value, int | float) else value
        for key, value in options.items()
    }
    return catalogue.made(kind, kind, {**place, **bare}, what)


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
    except (OSError, ValueError):  # no such folder, or none that can be: a null byte
        beside = []
    near = difflib.get_close_matches(text, [*built_in(), *beside], n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return UndiffuseError(
        f"there is no file, folder or built-in data set '{one_line(text)}'{hint} "
        f"(built-in: {', '.join(built_in())}; on the Hugging Face hub: hf:NAME)"
    )
