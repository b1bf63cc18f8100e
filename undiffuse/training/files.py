"""Small text files that are replaced as a whole: after a crash, the old one or the new one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from undiffuse.errors import RunFailed


def replace(file: Path, text: str) -> None:
    """Write `text` as `file`: under another name, to the disk, and then renamed.

    Raises:
        RunFailed: it cannot be written; what was there remains.
    """
    temporary = file.with_name(f".{file.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
        flush_folder(file.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RunFailed(f"cannot write {file}: {reason(error)}") from error


def flush_folder(folder: Path) -> None:
    """See that the disk has the names that a folder holds."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def reason(error: OSError) -> str:
    """Why the system did not do it, in its words: "no space left on device"."""
    return (error.strerror or str(error)).lower()


def sentence(error: OSError) -> str:
    """What the system did not do, with the file that it names."""
    where = f" {os.fsdecode(error.filename)}" if error.filename else ""
    return f"cannot write{where}: {reason(error)}"
