"""What samples should show, and how closely: labels, guidance and guides, as options of a verb."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import UseAppendAction, arg

from undiffuse.cli.outputs import TURNS
from undiffuse.cli.verb import Number, Text, check_range
from undiffuse.errors import UndiffuseError
from undiffuse.guidance.options import catalogued
from undiffuse.guidance.words import Guides, Words, refuse_two_weights

if TYPE_CHECKING:
    from undiffuse.model import Model


@dataclass(frozen=True, eq=False)
class Followed:
    """What is asked of one model, understood and found possible.

    Attributes:
        guides: those asked for, or else the recipe's, with the runs that they name.
        classes: how many labels there are to ask for; 0: none.
        label: the label of every sample, or several at once; None: each in turn.
        negative: the label to keep away from.
        settings: all of it in words.
    """

    guides: Guides
    classes: int
    label: int | tuple[int, ...] | None = None
    negative: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def plain(self) -> bool:
        """Whether it is about one label alone for each sample."""
        return self.negative is None and not isinstance(self.label, tuple)


@dataclass(frozen=True)
class Guiding:
    """What to show, and how closely.

    Raises:
        UndiffuseError: no such guide, an unknown or missing option of one, or two weights.
    """

    label: Annotated[
        Text,
        arg(
            metavar="K",
            help="the class to draw, by its number from 0 or its name; several at once as 3+7",
            help_behavior_hint=f"(default: {TURNS})",
        ),
    ] = None
    negative_label: Annotated[
        Text, arg(metavar="K", help="a class to keep away from", help_behavior_hint="")
    ] = None
    guidance: Annotated[
        Number,
        arg(
            metavar="W",
            help="how closely to follow the label: 1 as learned, 0 not at all",
            help_behavior_hint="(default: the run's, with the run's guides around it)",
        ),
    ] = None
    guide: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(
            metavar="NAME(OPTION=VALUE)",
            help="a guide; given again, one around the one before: "
            + catalogued()
            + "; bad and classifier are paths of runs",
            help_behavior_hint="(default, without --guidance: the run's)",
        ),
    ] = ()

    def __post_init__(self) -> None:
        check_range("--guidance", self.guidance, least=0, most=1000)
        refuse_two_weights(self.words, self.guidance)

    @property
    def words(self) -> tuple[Words, ...]:
        """The guides asked for, from the inner to the outer one."""
        return tuple(Words.read(text) for text in self.guide)

    def read(self, model: Model) -> Followed:
        """What this asks of a model.

        Raises:
            UndiffuseError: a label that does not exist, a run that cannot guide, or guides and
                labels that do not go with each other.
        """
        from undiffuse import labels

        guides = model.guides(self.words)
        facts = guides.facts(model.data)
        classes = int(facts["classes"])
        asked = None if self.label is None else labels.read(self.label, facts)
        away = None if self.negative_label is None else labels.read(self.negative_label, facts)
        if away is not None and len(away) > 1:
            raise UndiffuseError("--negative-label takes one label, not several")
        if self.guidance not in {None, 0, 1} and not classes:
            raise UndiffuseError(
                "--guidance needs labels to follow, and this model was trained without them"
            )
        own = model.sampling["guidance"]
        count = len(asked) if asked else min(classes, 1)
        guides = guides.standing(self.guidance, model.sampling, count, away is not None)
        guides.complete(self.guidance, own, count, away is not None)
        settings: dict[str, Any] = {}
        if classes and not any(guide.weighed for guide in guides.words):
            settings["guidance"] = own if self.guidance is None else self.guidance
        if guides.words:
            settings["guide"] = str(guides)
        if guides.runs:
            settings["guiding models"] = ", ".join(run.digest for run in guides.runs.values())
        if away is not None:
            settings["negative label"] = away[0]
        label = asked[0] if asked and len(asked) == 1 else asked
        return Followed(guides, classes, label, away[0] if away else None, settings)
