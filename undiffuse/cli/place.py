"""Whether a file or a directory can be written, found out before the work and not after it."""

from __future__ import annotations

import os
from pathlib import Path

from undiffuse.errors import UndiffuseError


def check_place(path: Path, flag: str = "--out") -> None:
    """Refuse a path whose directory cannot be made or written.

    Raises:
        UndiffuseError: naming what is in the way.
    """
    try:
        os.fsencode(path.absolute()).decode("utf-8")
    except UnicodeDecodeError as error:  # safetensors could not read what was written there
        raise UndiffuseError(f"{flag} {path}: the name is not UTF-8; choose another") from error
    above = next(p for p in path.absolute().parents if os.path.lexists(p))
    if not above.is_dir():
        raise UndiffuseError(f"{flag} {path}: {above} is not a directory; choose another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UndiffuseError(f"{flag} {path}: {above} cannot be written; choose another place")


def check_file(path: Path, suffix: str, flag: str = "--out") -> None:
    """Refuse a path that is no place for a file that ends in `suffix`.

    Raises:
        UndiffuseError: naming what is wrong.
    """
    if path.suffix.lower() != suffix:
        raise UndiffuseError(f"{flag} {path}: the name must end in {suffix}")
    if path.is_dir():
        raise UndiffuseError(f"{flag} {path} is a directory; give the name of a file")
    check_place(path, flag)
