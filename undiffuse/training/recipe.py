r"""Recipes: everything that decides what a training run does, as data.

A recipe is a TOML file. Its tables `network`, `schedule`, `prediction`, `times`, `weight` name
objects of the catalogue with their options; `training`, `sampling` and `data` are the dataclasses
below. Nothing here needs torch, so a wrong key is told before anything is loaded.

Where an object's option is the word "data", the value is measured: sigma_data = "data" becomes the
standard deviation of the data set.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import tomli_w

from undiffuse.catalogue import check, finite, real
from undiffuse.errors import UndiffuseError, escaped, one_line, shown, unknown
from undiffuse.guidance.words import Words
from undiffuse.kinds import fits, spoken

Table = dict[str, Any]
DEEPEST = 20  # levels of tables and lists in a file, a few more than any recipe has
LARGEST = 1_000_000  # bytes of a file
MOST = 10**9  # of anything that is counted
KINDS = ("denoiser", "classifier")
DENOISING = ("prediction", "weight", "sampling")  # tables that only a denoiser has


@dataclass(frozen=True)
class DataOptions:
    """How the data is read."""

    size: int | None = None  # images: short side and crop, in pixels; None: as they are
    flip: bool = False  # mirror half of the images, left to right

    def __post_init__(self) -> None:
        check(self.size is None or 1 <= self.size <= 4096, self, "size", "from 1 to 4096 pixels")


@dataclass(frozen=True)
class TrainingOptions:
    """How long and how fast to learn."""

    steps: int = 2000
    batch_size: int = 128
    optimizer: str = "adamw"  # or "muon", for all weights but biases and scales
    lr: float = 2e-3  # highest learning rate
    warmup: int = 50  # steps until it is reached; it then decays as a cosine,
    decay_to: float = 0.0025  # to this share of it
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    clip: float = 1.0  # largest norm of the gradient
    ema: float = 0.05  # width of the weight average, as a fraction of the run
    label_dropout: float = 0.1  # share of the labels hidden, for guidance
    time_draws: str = "stratified"  # one time in each 1/B, or "low-discrepancy": at equal distances
    coupling: str = "independent"  # of data and noise, or "optimal-transport" within a batch
    precision: str = "float32"  # or bfloat16, float16; "auto": bfloat16 where it is found quicker
    compile: bool = False  # the network by torch.compile: a minute or more before the first step
    accumulate: int = 1  # parts in which a batch goes through the network, for less memory
    skip_limit: int = 10  # steps in a row without a finite gradient that end the run
    checkpoint_every: int = 1000
    sample_every: int = 500
    keep: int = 2  # how many of the newest checkpoints stay,
    keep_best: int = 1  # how many of those with the lowest smoothed loss,
    keep_every: int = 0  # and those of every so many steps; 0: none

    def __post_init__(self) -> None:
        for name in ("steps", "skip_limit", "checkpoint_every", "sample_every", "keep"):
            check(1 <= getattr(self, name) <= MOST, self, name, f"from 1 to {MOST}")
        for name in ("warmup", "keep_best", "keep_every"):
            check(0 <= getattr(self, name) <= MOST, self, name, f"from 0 to {MOST}")
        check(1 <= self.batch_size <= 65536, self, "batch_size", "from 1 to 65536")
        fine = 1 <= self.accumulate <= self.batch_size
        check(fine, self, "accumulate", "from 1 to batch_size")
        fine = self.keep_every % self.checkpoint_every == 0
        check(fine, self, "keep_every", f"a multiple of checkpoint_every, {self.checkpoint_every}")
        check(finite(self.lr) and 0 < self.lr < 1, self, "lr", "between 0 and 1")
        fine = finite(self.decay_to) and 0 <= self.decay_to <= 1
        check(fine, self, "decay_to", "in [0, 1]")
        betas = tuple(self.betas)
        object.__setattr__(self, "betas", betas)
        fine = len(betas) == 2 and finite(*betas) and all(0 <= b < 1 for b in betas)
        check(fine, self, "betas", "two numbers in [0, 1)")
        decay = self.weight_decay
        check(finite(decay) and 0 <= decay <= 100, self, "weight_decay", "in [0, 100]")
        check(finite(self.clip) and self.clip > 0, self, "clip", "above 0 and finite")
        check(finite(self.ema) and 0 < self.ema < 0.28, self, "ema", "between 0 and 0.28")
        dropout = self.label_dropout
        check(finite(dropout) and 0 <= dropout <= 1, self, "label_dropout", "in [0, 1]")
        draws = {"stratified", "low-discrepancy"}
        check(self.time_draws in draws, self, "time_draws", "stratified or low-discrepancy")
        couplings = {"independent", "optimal-transport"}
        check(self.coupling in couplings, self, "coupling", "independent or optimal-transport")
        check(self.optimizer in {"adamw", "muon"}, self, "optimizer", "adamw or muon")
        known = {"float32", "bfloat16", "float16", "auto"}
        check(self.precision in known, self, "precision", "float32, bfloat16, float16 or auto")


@dataclass(frozen=True)
class SamplingOptions:
    """How samples are drawn when nothing else is asked for."""

    sampler: str = "universal"
    steps: int = 20
    guidance: float = 1.0  # w of classifier-free guidance; where it is not 1, these are around it,
    guide: tuple[str, ...] = ()  # from inner to outer: "interval(noise_min=0.2, noise_max=2)"

    def __post_init__(self) -> None:
        check(1 <= self.steps <= 10**6, self, "steps", "from 1 to 1000000")
        fine = finite(self.guidance) and self.guidance >= 0
        check(fine, self, "guidance", "at least 0 and finite")
        check(not isinstance(self.guide, str), self, "guide", "a list of guides in words")
        object.__setattr__(self, "guide", tuple(self.guide))
        for guide in map(Words.read, self.guide):
            whole = guide.weighed or guide.runs or guide.timed
            rule = f"of guides without a weight, a run or times of their own, unlike {guide.name}"
            check(not whole, self, "guide", rule)


@dataclass(frozen=True)
class Recipe:
    """One way to train a model, complete. Equal recipes, data and seeds give equal models."""

    network: Table = field(default_factory=lambda: {"name": "unet"})
    schedule: Table = field(default_factory=lambda: {"name": "edm"})
    prediction: Table = field(default_factory=lambda: {"name": "edm", "sigma_data": "data"})
    times: Table = field(default_factory=lambda: {"name": "log-normal"})
    weight: Table = field(default_factory=lambda: {"name": "edm", "sigma_data": "data"})
    data: DataOptions = DataOptions()
    training: TrainingOptions = TrainingOptions()
    sampling: SamplingOptions = SamplingOptions()
    kind: str = "denoiser"  # or "classifier", of noisy samples: without the tables DENOISING
    description: str = ""
    expected: str = ""  # what was measured with it

    def __post_init__(self) -> None:
        check(self.kind in KINDS, self, "kind", " or ".join(KINDS))

    def changed(self, settings: Mapping[str, Any]) -> Recipe:
        """The recipe with dotted keys replaced: {"training.lr": 1e-3, "network.width": 64}.

        Raises:
            UndiffuseError: a key that does not exist (with the nearest that does) or a bad value.
        """
        table = to_table(self)
        # Whole tables come first, then names, then single options.
        for key in sorted(settings, key=lambda key: ("." in key, not key.endswith(".name"))):
            value, (room, _, option) = settings[key], key.partition(".")
            if room not in table:
                raise unknown("setting", room, table)
            if not option:
                named = isinstance(value, str) and isinstance(table[room], dict)
                table[room] = {"name": value} if named else value
            elif not isinstance(table[room], dict):
                raise UndiffuseError(f"'{room}' is a text and has no option '{option}'")
            elif option == "name" and table[room].get("name") != value:
                table[room] = {"name": value}  # options of another object do not carry over
            else:
                table[room][option] = value
        return from_table(table)


def to_table(recipe: Recipe) -> Table:
    """The recipe as nested tables, ready for TOML (which has no null: absent is None)."""
    table: Table = {}
    for f in dataclasses.fields(recipe):
        value = getattr(recipe, f.name)
        if f.name in DENOISING and recipe.kind != "denoiser":
            continue
        if f.name in {"data", "training", "sampling"}:
            value = dataclasses.asdict(value)
        if isinstance(value, dict):
            value = {k: list(v) if isinstance(v, tuple) else v for k, v in value.items()}
            value = {k: v for k, v in value.items() if v is not None}
        table[f.name] = value
    return table


def from_table(table: Mapping[str, Any]) -> Recipe:
    """The recipe of nested tables, every key and type checked.

    Raises:
        UndiffuseError: naming the key, what it should be, and what it is.
    """
    made: Table = {}
    known = get_type_hints(Recipe)
    for key, value in table.items():
        if key not in known:
            raise unknown("table in a recipe", key, known)
        if key in DENOISING and table.get("kind", "denoiser") != "denoiser":
            raise UndiffuseError(
                f"a recipe of kind '{table['kind']}' has no table '{key}': what it trains makes no"
                " samples"
            )
        kind = known[key]
        if kind is str:
            if not isinstance(value, str):
                raise UndiffuseError(f"{key} must be a text, not {shown(value)}")
            made[key] = value
        elif isinstance(value, str) and kind == Table:
            made[key] = {"name": value}
        elif not isinstance(value, Mapping):
            raise UndiffuseError(f"'{key}' must be a table of options, not {shown(value)}")
        elif kind == Table:
            if not isinstance(value.get("name"), str):
                raise UndiffuseError(f"table '{key}' needs a name, such as name = \"...\"")
            made[key] = dict(value)
        else:
            made[key] = _options(kind, key, _renewed(value) if key == "training" else value)
    return Recipe(**made)


def _renewed(training: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of training where an older recipe has the last rate itself, `lr_end`."""
    lr, end = training.get("lr", TrainingOptions.lr), training.get("lr_end")
    if "decay_to" in training or not (fits(end, "float") and fits(lr, "float") and lr > 0):
        return training
    return {**{k: v for k, v in training.items() if k != "lr_end"}, "decay_to": end / lr}


def _options(kind: type, room: str, table: Mapping[str, Any]) -> Any:
    kinds = {f.name: str(f.type) for f in dataclasses.fields(kind)}
    for key, value in table.items():
        if key not in kinds:
            raise unknown("setting", f"{room}.{key}", [f"{room}.{name}" for name in kinds])
        if not fits(value, kinds[key]):
            raise UndiffuseError(f"{room}.{key} must be {spoken(kinds[key])}, not {shown(value)}")
    return kind(**{k: real(v) if kinds[k] == "float" else v for k, v in table.items()})


# ------------------------------------------------------------------ files


def folder() -> Path:
    """Where the shipped recipes are: in the package, or beside it in a checkout."""
    inside = Path(__file__).parent.parent / "recipes"
    return inside if inside.is_dir() else inside.parent.parent / "recipes"


def shipped() -> list[str]:
    """The names of the shipped recipes."""
    return sorted(file.stem for file in folder().glob("*.toml"))


def read(name: str) -> Recipe:
    """The shipped recipe of that name, or the one in a .toml file.

    Raises:
        UndiffuseError: no such recipe or file, or something wrong in it.
    """
    if name in shipped():
        return from_table(load_toml(folder() / f"{name}.toml"))
    if not name.endswith(".toml"):
        raise unknown("recipe", name, shipped())
    if not os.path.isfile(name):
        raise UndiffuseError(f"there is no recipe file {escaped(name)}; check the path")
    return from_table(load_toml(Path(name)))


def load_toml(path: Path) -> Table:
    """A TOML file as tables; an error says where it is not TOML."""
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise UndiffuseError(f"{path} has {size} bytes; a recipe has at most {LARGEST}")
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        deepest = _depth(table)
    except (ValueError, RecursionError) as error:  # also of bytes and of numbers that cannot be
        raise UndiffuseError(f"{path} is not valid TOML: {one_line(str(error))}") from error
    except OSError as error:
        raise UndiffuseError(f"cannot read {path}: {error.strerror}") from error
    if deepest > DEEPEST:
        raise UndiffuseError(f"{path} nests its tables {deepest} deep; {DEEPEST} is the most")
    return table


def _depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    inside = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_depth, inside), default=0)


def save_toml(path: Path, table: Mapping[str, Any]) -> None:
    """Write tables as TOML."""
    path.write_text(tomli_w.dumps(table), encoding="utf-8")


def settings(texts: Iterable[str]) -> dict[str, Any]:
    """Settings written key=value; values are TOML literals, or plain words.

    >>> settings(["training.lr=1e-3", "network.name=mlp"])
    {'training.lr': 0.001, 'network.name': 'mlp'}

    Raises:
        UndiffuseError: a text without "=".
    """
    made: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip() or len(text) > LARGEST:
            raise UndiffuseError(f"cannot read the setting '{one_line(text)}'; write key=value")
        try:
            table = tomllib.loads(f"value = {value}")
            plain = len(table) > 1 or _depth(table) > DEEPEST  # a line of its own, or a maze
        except (ValueError, RecursionError):
            plain = True
        made[key.strip()] = value if plain else table["value"]
    return made
