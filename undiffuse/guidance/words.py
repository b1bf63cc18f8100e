r"""Guides in words: "rescaled(weight=3, phi=0.7)", checked, and put around a denoiser in order.

Several guides stand from the inner to the outer one,

    classifier-free(weight=3), interval(noise_min=0.2, noise_max=5), static-threshold(low=-1)

and each takes the one before it for its denoiser; the first takes the model's own. Where none of
them holds a weight, the number w of `guidance` stands for the innermost one:

    one label                     classifier-free(weight=w)
    one label and a negative one  negative(weight=w)
    n labels at once              composed(weights=[w, ..., w])

Some options are no plain values. `bad` and `classifier` are written as the path of a run, and
`times` are those of the sampler and cannot be written. What needs a function has no words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

from undiffuse import calls, catalogue
from undiffuse.errors import UndiffuseError, unknown
from undiffuse.guidance.options import FAMILY, RUNS, options_of, parameters, spoken

if TYPE_CHECKING:
    from torch import Tensor

    from undiffuse.denoiser import Denoiser
    from undiffuse.schedules.base import Schedule


class Opened(Protocol):
    """A run that a guide asks: a model, or a classifier."""

    @property
    def data(self) -> dict[str, Any]:
        """Facts about what it has learned from."""

    @property
    def digest(self) -> str:
        """The sha256 of its weights."""

    @property
    def shape(self) -> tuple[int, ...]:
        """That of one sample."""

    def under(self, schedule: Schedule) -> Any:
        """What the guide asks, for x_t of this schedule."""

    def to(self, device: Any) -> Any:
        """Move it to a device."""


Readers = Mapping[str, Callable[[str], Opened]]  # what reads a path, by the option that names it


@dataclass(frozen=True)
class Words:
    """One guide: its name, and the options that were given with it.

    Raises:
        UndiffuseError: there is no such guide or option, or one is missing.

    >>> Words.read("rescaled(weight=3)")
    Words(name='rescaled', options={'weight': 3})
    >>> print(Words.read("interval( noise_max=5.0,noise_min=0.2)"))
    interval(noise_min=0.2, noise_max=5)
    """

    name: str
    options: dict[str, Any]

    def __post_init__(self) -> None:
        if self.name not in (known := spoken()):
            if self.name in catalogue.names(FAMILY):
                raise UndiffuseError(
                    f"the guide '{self.name}' needs a function: make it in Python, and give it as"
                    " guide=lambda denoiser: ..."
                )
            raise unknown("guide", self.name, known)
        taken = options_of(self.name)
        for option in self.options:
            if option not in taken:
                raise unknown(f"option of the guide '{self.name}'", option, taken)
        missing = [o for o, needed in taken.items() if needed and o not in self.options]
        if missing:
            raise UndiffuseError(
                f"the guide '{self.name}' needs {' and '.join(missing)}: write"
                f" {self.name}({', '.join(f'{option}=...' for option in missing)})"
            )

    @classmethod
    def read(cls, text: str) -> Self:
        """The guide that a text names."""
        return cls(*calls.read(text, RUNS))

    def __str__(self) -> str:
        """As it is written, the same for the same options."""
        given = {o: self.options[o] for o in options_of(self.name) if o in self.options}
        return calls.written(self.name, given)

    @property
    def weighed(self) -> bool:
        """Whether it holds a weight of its own."""
        return bool({"weight", "weights"} & set(options_of(self.name)))

    @property
    def timed(self) -> bool:
        """Whether it has to know the times of the sampler."""
        return "times" in parameters(self.name)

    @property
    def runs(self) -> dict[str, str]:
        """Its options that name a run, and the paths."""
        return {key: str(value) for key, value in self.options.items() if key in RUNS}

    def around(
        self,
        denoiser: Denoiser,
        runs: Mapping[str, Opened],
        times: Callable[[], Tensor] | None = None,
    ) -> Denoiser:
        """The guide around a denoiser.

        Args:
            denoiser: the one underneath.
            runs: what stands at the paths.
            times: makes those of the sampler, for a guide that has to know them.

        Raises:
            UndiffuseError: an option out of range, or of another kind.
        """
        options = self.options | {
            option: runs[path].under(denoiser.schedule) for option, path in self.runs.items()
        }
        if self.timed and times is not None:
            options["times"] = times()
        try:
            made: Denoiser = catalogue.load(FAMILY, self.name)(denoiser, **options)
        except TypeError as error:
            raise UndiffuseError(f"the guide {self} cannot be made: {error}") from error
        return made


@dataclass(frozen=True, eq=False)
class Guides:
    """Guides from the inner to the outer one, with the runs that they name.

    Attributes:
        words: the guides.
        runs: what stands at their paths.
    """

    words: tuple[Words, ...] = ()
    runs: Mapping[str, Opened] = field(default_factory=dict)

    @classmethod
    def open(cls, guides: Sequence[str | Words], readers: Readers) -> Self:
        """Guides in words, their runs read: each by the reader of the option that names it."""
        words = tuple(Words.read(guide) if isinstance(guide, str) else guide for guide in guides)
        named = {path: readers[key] for guide in words for key, path in guide.runs.items()}
        return cls(words, {path: read(path) for path, read in named.items()})

    def __str__(self) -> str:
        """As they are written."""
        return ", ".join(map(str, self.words))

    def facts(self, own: dict[str, Any]) -> dict[str, Any]:
        """What is known of the labels: by the classifier, if one is followed, or by the model."""
        followed = [g.runs["classifier"] for g in self.words if "classifier" in g.runs]
        return self.runs[followed[0]].data if followed else own

    def standing(
        self, guidance: float | None, own: Mapping[str, Any], labels: int, negative: bool
    ) -> Guides:
        """These guides; those of a recipe, if neither guides nor a weight were asked for.

        Args:
            guidance: the weight asked for; None: none was.
            own: `guidance` and, where there are some around it, `guide` of the recipe.
            labels: how many each sample has; the recipe's guides are for one.
            negative: whether there is a negative label.
        """
        asked = bool(self.words) or guidance is not None
        if asked or labels != 1 or negative or own["guidance"] == 1:
            return self
        return Guides.open(own.get("guide", ()), {})

    def complete(
        self, guidance: float | None, default: float, labels: int, negative: bool
    ) -> Guides:
        """These guides, with the innermost one that a bare weight stands for.

        Args:
            guidance: the weight asked for; None: none was.
            default: the weight where none was asked for and no guide holds one.
            labels: how many each sample has; 0: none.
            negative: whether there is a negative label.

        Raises:
            UndiffuseError: guides that do not go with each other or with the labels.

        >>> print(Guides((Words("static-threshold", {}),)).complete(2.0, 1.0, 1, False))
        classifier-free(weight=2), static-threshold
        """
        refuse_two_weights(self.words, guidance)
        words = self.words
        if not any(guide.weighed for guide in words):
            w = default if guidance is None else guidance
            words = (*_innermost(w, labels, negative), *words)
        counts = [_length(g.options["weights"]) for g in words if "weights" in g.options]
        if counts and counts[0] != labels:
            raise UndiffuseError(
                f"the guide composed has one weight for each label, but {counts[0]} weights were"
                f" given and {labels} labels, such as 3+7"
            )
        if labels > 1 and not counts:
            raise UndiffuseError(
                f"{labels} labels at once are for the guide composed, with a weight for each:"
                f" composed(weights={[1] * labels})"
            )
        if negative != any(guide.name == "negative" for guide in words):
            raise UndiffuseError(
                "a negative label is for the guide negative, which is not among those asked for"
                if negative
                else "the guide negative needs a negative label to keep away from"
            )
        return Guides(words, self.runs)

    @property
    def composed(self) -> bool:
        """Whether they take several labels at once, [B, n]."""
        return any(guide.name == "composed" for guide in self.words)

    def around(self, denoiser: Denoiser, times: Callable[[], Tensor] | None = None) -> Denoiser:
        """All of them around a denoiser; `times` makes those of the sampler.

        Raises:
            UndiffuseError: an option out of range, or of another kind.
        """
        for guide in self.words:
            denoiser = guide.around(denoiser, self.runs, times)
        return denoiser


def opened(
    guides: Guides | str | Sequence[str | Words] | None,
    readers: Readers,
    shape: tuple[int, ...],
    device: Any,
) -> Guides:
    """Guides with their runs read, found to be for samples of a shape, and moved to a device.

    Raises:
        UndiffuseError: no such guide or option; no run at a path, or one for other samples.
    """
    if isinstance(guides, Guides):
        return guides
    made = Guides.open([guides] if isinstance(guides, str) else guides or (), readers)
    for path, run in made.runs.items():
        if run.shape != shape:
            raise UndiffuseError(
                f"{path} is for samples of {list(run.shape)}, and cannot guide a model of"
                f" {list(shape)}"
            )
        run.to(device)
    return made


def refuse_two_weights(guides: Sequence[Words], guidance: float | None) -> None:
    """Refuse a bare weight beside a guide that holds its own.

    Raises:
        UndiffuseError: naming the guide.
    """
    weighed = [guide.name for guide in guides if guide.weighed]
    if weighed and guidance is not None:
        raise UndiffuseError(
            f"give guidance or the guide {weighed[0]}, not both: a guide holds its own weight"
        )


def _innermost(w: float, labels: int, negative: bool) -> tuple[Words, ...]:
    """What a bare weight stands for."""
    if labels > 1:
        return (Words("composed", {"weights": [w] * labels}),)
    if negative:
        return (Words("negative", {"weight": w}),)
    return (Words("classifier-free", {"weight": w}),) if labels and w != 1 else ()


def _length(weights: Any) -> int:
    if not isinstance(weights, list):
        raise UndiffuseError("the guide composed takes a list of weights: composed(weights=[1, 1])")
    return len(weights)
