"""Data sets: built-in ones, arrays in `.npz` files and folders of images, all read the same way."""

from __future__ import annotations

import importlib
from typing import Any

from undiffuse.catalogue import exports

_source, _list, __all__ = exports(__name__)

_PUBLIC = {"Batch": "dataset", "Dataset": "dataset", "InMemory": "dataset", "open_data": "open"}


def __getattr__(attribute: str) -> Any:
    if attribute in _PUBLIC:
        return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[attribute]}"), attribute)
    return _source(attribute)


def __dir__() -> list[str]:
    return sorted([*_list(), *_PUBLIC])
