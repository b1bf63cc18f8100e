"""Images that a table names by their paths, instead of holding their bytes.

Only files in given folders are read, so that a table cannot name any file of the machine. A path is
that of a file, or `zip://inside.png::archive.zip` for one in an archive, as the library `datasets`
writes it.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from undiffuse.data.decode import MAX_BYTES, Undecodable, read_file
from undiffuse.errors import escaped

OPEN = 16  # archives that stay open


class Beside:
    """The files in `folders`, and in the archives there, by their paths.

    Raises:
        Undecodable: from `read`: the file lies elsewhere, is none, too large or damaged.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        self.folders = [os.path.realpath(folder) for folder in folders]
        self._archive = lru_cache(OPEN)(_archive)  # each data set opens its own, as they are now

    def read(self, path: str) -> bytes:
        """The bytes of a file."""
        member, _, archive = path.rpartition("::")
        file = archive if member else path
        if not self._holds(file):
            raise Undecodable(path, "it lies outside the folders of this data set")
        if not member:
            return read_file(path)
        if not member.startswith("zip://") or "::" in member:
            raise Undecodable(path, "of archives only .zip is read")
        return self._from_zip(path, archive, member.removeprefix("zip://"))

    def _holds(self, file: str) -> bool:
        try:
            real = Path(os.path.realpath(file))
        except ValueError:  # a path with a null byte
            return False
        return any(real.is_relative_to(folder) for folder in self.folders)

    def _from_zip(self, path: str, archive: str, member: str) -> bytes:
        try:
            opened = self._archive(archive)
            if opened.getinfo(member).file_size > MAX_BYTES:
                raise Undecodable(path, f"it is larger than the limit of {MAX_BYTES:,} bytes")
            with opened.open(member) as file:
                return file.read(MAX_BYTES)
        except Undecodable:
            raise
        except Exception as error:  # a damaged archive raises nearly any type
            raise Undecodable(path, f"it cannot be read ({escaped(str(error))})") from None


def _archive(path: str) -> zipfile.ZipFile:
    if not os.path.isfile(path):
        raise OSError("it is not a regular file")
    return zipfile.ZipFile(path)
