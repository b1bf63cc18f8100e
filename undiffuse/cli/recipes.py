"""`undiffuse recipes`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from tyro.conf import Positional, arg

from undiffuse.cli.verb import Text, Verb
from undiffuse.errors import unknown
from undiffuse.training import recipe as shelf


@dataclass(frozen=True)
class Recipes(Verb):
    """List the shipped recipes and what each reaches, or print one with its reasons.

    What is printed is a TOML file. Keep it (undiffuse recipes mnist > mine.toml), change it, and
    train with --recipe mine.toml.
    """

    name: ClassVar[str] = "recipes"
    examples: ClassVar[tuple[str, str]] = (
        "undiffuse recipes",
        "undiffuse recipes mnist",
    )

    shown: Annotated[
        Positional[Text],
        arg(name="name", metavar="[NAME]", help="the recipe to print", help_behavior_hint=""),
    ] = None
    debug: Annotated[
        bool, arg(help="show where an error arose", help_behavior_hint="(or UNDIFFUSE_DEBUG=1)")
    ] = False

    def __post_init__(self) -> None:
        if self.shown is not None and self.shown not in shelf.shipped():
            raise unknown("recipe", self.shown, shelf.shipped())

    def run(self) -> int:
        if self.shown is not None:
            text = (shelf.folder() / f"{self.shown}.toml").read_text(encoding="utf-8")
            print(text.rstrip("\n"))
            return 0
        width = 2 + max(map(len, shelf.shipped()))
        for name in shelf.shipped():
            recipe = shelf.read(name)
            print(f"{name:<{width}}{recipe.description}")
            if recipe.expected:
                print(f"{'':<{width}}expected: {recipe.expected}")
        return 0
