"""The one kind of error that a user can cause, and the one that a run can meet.

Its text is one sentence that says what is wrong, where, and what to do. The command line prints it
without a traceback and exits with 2, or with 1 for a `RunFailed`; in Python both are ordinary
exceptions.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST = 80  # characters of a value that a message repeats


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
    near = difflib.get_close_matches(given[:LONGEST], known, n=1)
    hint = f"did you mean '{near[0]}'? (known: {', '.join(known)})" if near else ""
    return UndiffuseError(
        f"there is no {what} '{one_line(given)}'; {hint or 'choose one of: ' + ', '.join(known)}"
    )


def shown(value: object) -> str:
    r"""A value as messages show it: as Python writes it, cut where it is long.

    >>> shown("a\nb"), shown([1] * 1000)
    ("'a\\nb'", '[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, ... (3000 characters)')
    """
    try:
        return one_line(repr(value))
    except ValueError:  # Python refuses to write out whole numbers of more than 4300 digits
        return "a number of thousands of digits"


def one_line(text: str) -> str:
    """A text as it can stand in a sentence: escaped, and cut where it is long."""
    if len(text) <= LONGEST:
        return escaped(text)
    return f"{escaped(text[: LONGEST // 2])}... ({len(text)} characters)"


def escaped(text: str) -> str:
    r"""A text on one line, what cannot be printed as Python writes it.

    >>> escaped("a\nb")
    'a\\nb'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
