r"""Standard input, output and error, made so that nothing about them can end or damage the work.

A process may be started with some of them closed. The next file that is opened would then take
their place, and a message meant for a person would be written into a checkpoint. Text that the
terminal's encoding lacks (a file name that is not UTF-8, LANG=C) is escaped instead of refused.
"""

from __future__ import annotations

import io
import os
import sys


def prepare() -> None:
    """Open what is closed, on nothing, and let every character be written."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def settle() -> None:
    """See that Python, when it ends, has nothing left to write where nothing can be written."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, number)
            os.close(nothing)
