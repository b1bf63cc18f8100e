"""Pickles, the files that run a program when they are read: recognised, named, and never read.

`torch.save` writes them, under the names below; so do joblib, and numpy for arrays of objects.
Reading one means to run whatever its author, or whoever changed it, wrote into it.
"""

from __future__ import annotations

import re
from pathlib import Path

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle", ".joblib")
REFUSED = (
    "pickles can run any program when they are read, and are refused; save what it holds as"
    " safetensors, with the program that made it"
)
# Protocols 2 to 5 begin with their number, older ones mostly with a name to be called; an archive
# of torch holds a file data.pkl.
BEGINNING = re.compile(rb"\x80[\x02-\x05]|c[\w.]+\n[\w.]+\n|PK\x03\x04.{26,90}data\.pkl", re.DOTALL)


def told(file: Path) -> str:
    """Why a file is refused, if it is a pickle by its name or its first bytes; "" if not."""
    if file.suffix.lower() in SUFFIXES:
        return REFUSED
    if not file.is_file():  # a pipe would be waited for
        return ""
    try:
        with file.open("rb") as stream:
            return REFUSED if BEGINNING.match(stream.read(200)) else ""
    except OSError:
        return ""
