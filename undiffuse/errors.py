"""The one kind of error that a user can cause, and the one that a run can meet.

Its text is one sentence that says what is wrong, where, and what to do. The command line prints it
without a traceback and exits with 2, or with 1 for a `RunFailed`; in Python both are ordinary
exceptions.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UndiffuseError(Exception):
    """A mistake in what was asked for: a file, an option, a shape, a name."""


class RunFailed(UndiffuseError):
    """What was asked for is possible, but the run or the machine failed: NaN, a full disk."""


def unknown(what: str, given: str, known: Iterable[str]) -> UndiffuseError:
    """The error for a name that does not exist, with the nearest one that does.

    >>> print(unknown("sampler", "dimm", ["ddim", "ddpm"]))
    there is no sampler 'dimm'; did you mean 'ddim'? (known: ddim, ddpm)
    """
    known = list(known)
    near = difflib.get_close_matches(given, known, n=1)
    hint = f"did you mean '{near[0]}'? (known: {', '.join(known)})" if near else ""
    return UndiffuseError(
        f"there is no {what} '{given}'; {hint or 'choose one of: ' + ', '.join(known)}"
    )
