"""What guides take, told by their files: nothing is imported, so a help text can say it at once."""

from __future__ import annotations

import ast

from undiffuse import catalogue

FAMILY = "guidance"
RUNS = ("bad", "classifier")  # options that are written as the path of a run
TOLD = ("denoiser", "times")  # what sampling itself knows
FUNCTION = "log_likelihood"  # what only Python can give


def parameters(name: str) -> dict[str, bool]:
    """What the __init__ of a guide takes, in order, and whether it must be given.

    >>> parameters("rescaled")
    {'denoiser': True, 'weight': True, 'phi': False}
    """
    entry = catalogue.entries(FAMILY)[name]
    file = catalogue.ROOT.parent.joinpath(*entry.module.split(".")).with_suffix(".py")
    made = next(
        line
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name == entry.qualname
        for line in node.body
        if isinstance(line, ast.FunctionDef) and line.name == "__init__"
    )
    given = [argument.arg for argument in made.args.args[1:]]
    needed = len(given) - len(made.args.defaults)
    return {argument: i < needed for i, argument in enumerate(given)}


def spoken() -> list[str]:
    """The guides that have words: all but those that need a function."""
    return [name for name in catalogue.names(FAMILY) if FUNCTION not in parameters(name)]


def options_of(name: str) -> dict[str, bool]:
    """The options that can be written for a guide, and whether they must be."""
    return {option: needed for option, needed in parameters(name).items() if option not in TOLD}


def catalogued() -> str:
    """All guides that have words, with their options, for a help text."""
    return ", ".join(f"{name}({', '.join(options_of(name))})" for name in spoken())
