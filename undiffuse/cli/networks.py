"""`undiffuse networks`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from tyro.conf import Positional, arg

from undiffuse import calls, catalogue
from undiffuse.cli.verb import Text, Verb
from undiffuse.errors import UndiffuseError, unknown

FAMILY = "networks"
PICTURE, VECTOR = (1, 28, 28), (2,)  # what is counted where no shape is asked for


@dataclass(frozen=True)
class Networks(Verb):
    """Show the networks: their sizes, parameters, and operations for one sample.

    NAME is a network (unet), one of its sizes (unet.small), or either with options
    (unet.small(classes=10)), as in the setting network.name of a recipe.
    """

    name: ClassVar[str] = "networks"
    examples: ClassVar[tuple[str, str]] = (
        "undiffuse networks",
        "undiffuse networks dit --shape 3x32x32",
    )

    network: Annotated[
        Positional[Text],
        arg(name="name", metavar="NAME", help="which one", help_behavior_hint="(default: all)"),
    ] = None
    shape: Annotated[
        Text,
        arg(
            metavar="CxHxW",
            help="the shape of one sample",
            help_behavior_hint="(default: 1x28x28, for vectors 2)",
        ),
    ] = None
    debug: Annotated[
        bool, arg(help="show where an error arose", help_behavior_hint="(or UNDIFFUSE_DEBUG=1)")
    ] = False

    def __post_init__(self) -> None:
        if self.network is not None and _family(self.network) not in catalogue.names(FAMILY):
            raise unknown("network", _family(self.network), catalogue.names(FAMILY))
        if self.shape is not None:
            _edges(self.shape)

    def run(self) -> int:
        for text in catalogue.names(FAMILY) if self.network is None else [self.network]:
            known = catalogue.load(FAMILY, _family(text))
            shape = _edges(self.shape) if self.shape else _usual(known)
            if self.network is None and (len(shape) == 1) != (len(_usual(known)) == 1):
                continue  # it is for another kind of shape
            lines = list(_rows(text, known, shape))
            print(catalogue.entries(FAMILY)[_family(text)].summary, *lines, "", sep="\n")
        print(
            "GFLOP: 10^9 operations to evaluate one sample; a training step takes three times that"
        )
        return 0


def _rows(text: str, known: type[Any], shape: tuple[int, ...]) -> Iterator[str]:
    """A table: the sizes of a network, or the one that was named."""
    from undiffuse.networks.cost import cost, fitted

    name, options = calls.read(text)
    yield f"  {'x'.join(map(str, shape)):<14}{'parameters':>12}{'GFLOP':>10}   options"
    alone = "." in name or bool(options)
    for row in [name] if alone else [f"{name}.{size}" for size in known.sizes]:
        counted = cost(fitted(row, shape, **options), shape)
        size: dict[str, Any] = known.sizes.get(row.partition(".")[2], {})
        told = " ".join(f"{k}={_short(v)}" for k, v in {**size, **options}.items())
        yield f"  {row:<14}{counted.parameters:>12,}{counted.flops / 1e9:>10.3g}   {told}".rstrip()


def _family(text: str) -> str:
    """The network itself, without size and options."""
    return calls.read(text)[0].partition(".")[0]


def _usual(known: type[Any]) -> tuple[int, ...]:
    """A shape for a network: that of a small picture, or of a point."""
    return PICTURE if "channels" in known.__dataclass_fields__ else VECTOR


def _edges(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[1-9]\d{0,4}(x[1-9]\d{0,4}){0,3}", text):
        raise UndiffuseError(f"--shape {text} is no shape; write it as 1x28x28, or 2 for vectors")
    return tuple(map(int, text.split("x")))


def _short(value: Any) -> str:
    """An option as it would be written: (1, 2) as [1,2], True as true."""
    return str(list(value) if isinstance(value, tuple) else value).replace(" ", "").lower()
