"""Tuned samplers beside a run: which model, how many steps, which guidance they were tuned for.

`undiffuse tune` writes one JSON file for each number of steps and guidance, in a folder of its own
with a manifest, below `tuned/` in the run. A rule fits one denoiser only, so it is used where the
digest of the weights, the steps and the guidance are all those it was made for, and nowhere else.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from undiffuse import catalogue, storage
from undiffuse.errors import UndiffuseError
from undiffuse.samplers.non_stationary import NonStationary

FOLDER, STEM = "tuned", "sampler"
FORMAT = 1
FACTS = ("model", "steps", "guidance", "guide", "start", "before", "after")


@dataclass(frozen=True)
class TunedRule:
    """A non-stationary rule, what it was tuned for, and what it left on fresh noise.

    Attributes:
        rule: noise levels and weights.
        model: sha256 of the weights file.
        steps: evaluations.
        guidance: w of classifier-free guidance; None: without labels.
        guide: guides around it in words; empty: none.
        start: the fixed rule with which tuning began, the best of them.
        before: median error of that rule on noise that tuning never saw.
        after: median error of this one on the same noise.
    """

    rule: NonStationary
    model: str
    steps: int
    guidance: float | None
    guide: str
    start: str
    before: float
    after: float

    @property
    def title(self) -> str:
        """Its name in what samples tell of themselves."""
        guided = "" if self.guidance is None else f" and guidance {self.guidance:g}"
        around = f" in {self.guide}" if self.guide else ""
        return f"{self.rule.name} tuned for {self.steps} steps{guided}{around}"

    def fits(self, model: str, steps: int, guidance: float | None, guide: str) -> bool:
        """Whether it was made for these weights, steps, guidance and guides around it."""
        made_for = self.model, self.steps, self.guidance, self.guide
        return made_for == (model, steps, guidance, guide)

    def write(self, run: Path) -> Path:
        """Store it in the run, in the place of an older one for the same steps and guides.

        Raises:
            RunFailed: the disk is full or the place cannot be written.
        """
        guided = "" if self.guidance is None else f"-guidance-{self.guidance:g}"
        around = f"-{hashlib.sha256(self.guide.encode()).hexdigest()[:8]}" if self.guide else ""
        folder = run / FOLDER / f"steps-{self.steps}{guided}{around}"
        facts = {key: getattr(self, key) for key in FACTS}
        stored = {"format": FORMAT, "rule": catalogue.describe(self.rule), **facts}
        storage.write(folder, {}, {STEM: stored})
        return folder / f"{STEM}.json"


def read_tuned(run: Path) -> tuple[tuple[TunedRule, ...], tuple[str, ...]]:
    """The tuned rules of a run, and what is wrong with those that cannot be used, in words."""
    found: list[TunedRule] = []
    wrong: list[str] = []
    for folder in sorted(run.glob(f"{FOLDER}/steps-*")):
        try:
            found.append(_read(folder))
        except UndiffuseError as error:
            wrong.append(f"{FOLDER}/{folder.name}: {error}")
    return tuple(found), tuple(wrong)


def _read(folder: Path) -> TunedRule:
    storage.verify(folder)
    stored = storage.read_json(folder / f"{STEM}.json")
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise UndiffuseError(f"its format is not {FORMAT}; tune again")
    stored.setdefault("guide", "")  # which older ones do not tell
    if stored.keys() != {"format", "rule", *FACTS}:
        raise UndiffuseError("it has not the entries of a tuned rule; tune again")
    rule = catalogue.build(stored["rule"], "samplers")
    if type(rule) is not NonStationary or len(rule.noise_levels) + 1 != stored["steps"]:
        raise UndiffuseError("it holds no rule for its number of steps; tune again")
    return TunedRule(rule, **{key: stored[key] for key in FACTS})
