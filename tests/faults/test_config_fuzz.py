r"""Every option and every setting, given what it must not be: exit 2, at once, naming it.

The words go through the command line in this process. A value is either refused, in one sentence
that names the option, or accepted; then a dry run must go through with it, or end with a reason.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import random
import shutil
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import tiny
import tomli_w
from figures import Figures
from hypothesis import strategies as st

from undiffuse import catalogue
from undiffuse.cli import main
from undiffuse.training import recipe as recipes
from undiffuse.training.recipe import Recipe, from_table, to_table

SECONDS = 2.0  # of computing, for a refusal
LONGEST = 600  # characters of one
HUGE = 2**63
NEVER = ("nan", "inf", "-inf", "-1", str(HUGE), str(-HUGE), "", "x", "☃ é", "[1]", "9" * 5000)
WORDS = ("", "☃ é", "nan", "-1", "no/such", "y" * 5000, "a\nb")

# What each option of each verb must never be. Every field of every verb has its line.
OPTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "data": {
        "data": ("☃ é", "no/such", "y" * 5000, "digits(", "moons(count=nan)", "moons(cuont=3)"),
        "--out": ("", "x", "a.jpg", "/dev/null/a.png"),
        "--set": ("", "=", "x", "data.size=0", "data.sise=8", "training.lr=1", "data.size=nan"),
    },
    "doctor": {  # as every verb that computes
        "--device": (*WORDS, "cuda:", "cuda:-1", "cuda:1000", "tpu", "CPU"),
        "--precision": (*WORDS, "float64", "32", "None"),
        "--threads": (*NEVER, "0", "1.5"),
    },
    "evaluate": {
        "run": ("☃ é", "no/such", "y" * 5000),
        "--num": (*NEVER, "0", "1.5"),
        "--out": ("", "x", "a.png", "/dev/null/a.json"),
    },
    "recipes": {"name": WORDS},
    "report": {"run": ("☃ é", "no/such", "y" * 5000)},
    "runs": {"DIR": ("", "☃ é", "no/such", "y" * 5000)},
    "sample": {
        "run": ("☃ é", "no/such", "y" * 5000),
        "--out": ("a.jpg", "/dev/null/a.png"),
        "--num": (*NEVER, "0", "1.5"),
        "--steps": (*NEVER, "0", "1.5"),
        "--processes": (*NEVER, "0", "1.5"),
        "--grid": (*WORDS, "karras(", "karras(rho=nan)", "karras(roh=1)", "karras(rho=-1)"),
        "--sampler": (*WORDS, "ddim(", "ddim(eta=nan)", "ddim(eat=1)", "ddim(eta=-1)"),
        "--label": ("☃ é", "-1", "99", "nan", str(HUGE)),
        "--guidance": NEVER,
        "--seed": (*NEVER, "1.5"),
        "--batch-size": (*NEVER, "0", "1.5"),
    },
    "train": {
        "data": ("☃ é", "no/such", "y" * 5000, "digits(", "moons(count=nan)", "moons(cuont=3)"),
        "--out": ("", "/dev/null/x"),
        "--recipe": (*WORDS, "no.toml", "../digits", "/dev/null"),
        "--from": ("", "☃ é", "no/such"),
        "--steps": (*NEVER, "0", "1.5"),
        "--minutes": (*NEVER, "0", "1e300"),
        "--seed": (*NEVER, "1.5"),
        "--batch-size": (*NEVER, "0", "1.5", "65537"),
        "--set": (
            "",
            "=",
            "x",
            "=3",
            ".=3",
            "x.y=3",
            "training.=3",
            "training.stpes=3",
            "a=" * 999,
        ),
        "--log": (*WORDS, "tensorbord"),
    },
}
OTHERS = {"guiding", "from_model", "judge"}  # groups of options, other names, a folder
# A message names an argument without a flag by what it should have been.
NAMES = {
    "data": ("data", "moons", "digits"),
    "run": ("run", "too long"),  # as the system says it
    "name": ("recipe",),
    "DIR": ("folder",),
}

ROOMS = {
    "network": "networks",
    "schedule": "schedules",
    "prediction": "predictions",
    "times": "objectives.times",
    "weight": "objectives.weights",
}
ODD = (
    *("nan", "inf", "-inf", "-1", "0", str(HUGE), str(-HUGE), "1e308", "1e400", "9" * 5000),
    *("0x" + "f" * 2000, '""', '"☃ é"', "☃ é", "true", "[]", "[nan]", "[[1]]", "{}", "{a = 1}"),
    *("1979-05-27", "[" * 1000, "[true, 1]", "1.5", '"a\\nb"', "y" * 5000),
)


def told(words: list[str]) -> tuple[int, str, float]:
    """Exit code, standard error and seconds of a command line."""
    err, begun = io.StringIO(), time.process_time()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        code = main(words)
    return code, err.getvalue(), time.process_time() - begun


def objection(words: list[str], *names: str) -> str | None:
    """What is wrong with how a command line is refused; None: it names its mistake at once."""
    code, err, seconds = told(words)
    shown = f"{' '.join(words)[-150:]!r}: exit {code} after {seconds:.1f} s, {err[:300]!r}"
    fine = code == 2 and seconds < SECONDS and len(err) < LONGEST and "Traceback" not in err
    return None if fine and any(name in err.lower() for name in names) else shown


def options(run: Path, tmp: Path) -> Iterator[tuple[list[str], tuple[str, ...]]]:
    """Every option with each of its wrong values: the words, and how a message may name it."""
    needed = {
        "sample": [str(run), "--out", str(tmp / "a.png")],
        "train": ["moons", "--out", str(tmp / "x")],
        "data": ["moons"],
        "evaluate": [str(run)],
        "report": [str(run)],
    }
    for verb, fields in OPTIONS.items():
        first, *rest = needed.get(verb, [""])
        for flag, values in fields.items():
            for value in values:
                if flag.startswith("--"):
                    yield (
                        [verb, *filter(None, [first]), *rest, f"{flag}={value}"],
                        named(flag, value),
                    )
                else:
                    yield [verb, value, *rest], NAMES[flag]


def named(flag: str, value: str) -> tuple[str, ...]:
    """How a message may name an option: by its flag, or by what is wrong within its value."""
    return {
        "--set": ("setting", "table", "size", "training"),
        "--sampler": ("sampler", "ddim"),
        "--grid": ("grid", "karras"),
        "--from": ("model",),
        "--label": ("label",),
        "--log": ("logger",),
        "--recipe": ("recipe",),
    }.get(flag, (flag,))


def settings() -> Iterator[tuple[str, list[str]]]:
    """Every setting of every object that a recipe can name, and what makes it stand there."""
    for room in ("data", "training", "sampling"):
        for field in dataclasses.fields(getattr(Recipe(), room)):
            yield f"{room}.{field.name}", []
    for room, family in ROOMS.items():
        for name in catalogue.names(family):
            for field in dataclasses.fields(catalogue.load(family, name)):
                if field.init:
                    yield f"{room}.{field.name}", [f"{room}.name={name}"]


SETTINGS = list(settings())


def try_setting(key: str, with_: list[str], value: str, tmp: Path) -> str | None:
    """One setting with one odd value: what is wrong with how it is met, or None."""
    room, _, field = key.partition(".")
    small = [] if room == "network" else ["network.name=mlp", "network.width=8"]
    if room == "network" and value.isdecimal() and 16 < int(value[:9]) <= 65536:
        return None  # a network that is allowed, and may be too large for this machine
    points = room != "network" or with_ == ["network.name=mlp"]
    words = [
        "train",
        "moons" if points else str(tiny.data(tmp)),
        "--out",
        str(tmp / "never"),
        "--batch-size",
        "2",
        "--dry-run",
    ]
    words = [
        word for word in words if key != "training.batch_size" or word not in {"--batch-size", "2"}
    ]
    words += [] if key == "training.steps" else ["--steps", "2"]
    for text in (*small, *with_, f"{key}={value}"):
        words += ["--set", text]
    code, err, seconds = told(words)
    shown = f"{key}={value[:40]!r} {with_}: exit {code} after {seconds:.1f} s, {err[:300]!r}"
    if (tmp / "never").exists() or "Traceback" in err or "--debug" in err or len(err) > LONGEST:
        return shown
    if code == 0 or (code == 1 and "were skipped" in err):  # a number that is allowed, and too wild
        return None
    named = field in err or "cannot read" in err or (room == "network" and "takes x" in err)
    return None if code == 2 and seconds < SECONDS and named else shown


def files(tmp: Path) -> Iterator[Path]:
    """Recipe files that are none."""
    texts = {
        "nested": "x = " + "[" * 1000 + "]" * 1000,
        "tables": "[" + ".".join("a" * 1000) + "]\nb = 1",
        "inline": "x = " + "{a = " * 1000 + "1" + "}" * 1000,
        "large": "description = '''" + "a" * 10_000_000 + "'''",
        "lines": "".join(f"a{i} = 1\n" for i in range(700_000)),
        "number": "[training]\nsteps = " + "9" * 100_000,
        "empty key": '"" = 1',
        "unknown": "[trainnig]\nsteps = 1",
        "twice": "[training]\nsteps = 1\nsteps = 2",
        "nul": 'description = "a\0b"',
        "date": "training = 1979-05-27",
        "half": '[network\nname = "unet"',
    }
    for name, text in texts.items():
        file = tmp / f"{name}.toml"
        file.write_text(text, encoding="utf-8")
        yield file
    (tmp / "bytes.toml").write_bytes(b"\xff\xfe\x00\x01" * 100)
    yield tmp / "bytes.toml"
    (tmp / "folder.toml").mkdir(exist_ok=True)
    yield tmp / "folder.toml"


def attack_options(count: int, seed: int, tmp: Path, run: Path) -> Figures:
    """`count` wrong options, or all of them where there are fewer."""
    cases = list(options(run, tmp))
    random.Random(seed).shuffle(cases)
    tried = cases[:count]
    found = [wrong for words, names in tried if (wrong := objection(words, *names))]
    return Figures(len(tried), tuple(found))


def attack(count: int, seed: int, tmp: Path) -> Figures:
    """`count` settings, each with an odd value: from the list, or any number or text."""
    failures: list[str] = []
    value = st.one_of(
        st.sampled_from(ODD),
        st.floats().map(repr),
        st.integers(-(2**70), 2**70).map(str),
        st.text(st.characters(exclude_characters="\0\r\n", codec="utf-8"), max_size=30),
    )

    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=count, derandomize=False, database=None, deadline=None)
    @hypothesis.given(st.sampled_from(SETTINGS), value)
    def one(setting: tuple[str, list[str]], value: str) -> None:
        wrong = try_setting(*setting, value, tmp)
        if wrong is not None:
            failures.append(wrong)

    one()
    return Figures(count, tuple(failures))


# ------------------------------------------------------------------ tests


def test_every_option_of_every_verb_refuses_what_it_must_not_be(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told(["doctor"])  # what is loaded once is not counted
    found = attack_options(60, 0, tmp_path, whole)
    assert not found.failures
    assert found.runs == 60
    assert not list(tmp_path.iterdir())


def test_every_option_is_attacked() -> None:
    """An option that is new has to be added to the table above."""
    for verb, fields in OPTIONS.items():
        known = {f.name: f for f in dataclasses.fields(catalogue.load("cli", verb))}
        tried = {flag.removeprefix("--").replace("-", "_") for flag in fields}
        flags = {name for name in known if "bool" not in str(known[name].type)}
        aside = {"machine", "source", "settings", "shown", "folder", *OTHERS}  # of other names
        assert flags - aside <= tried, verb


def test_recipe_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    for file in files(tmp_path / "x"):
        words = ["train", "moons", "--out", str(tmp_path / "run"), "--recipe", str(file)]
        assert (
            objection(words, str(file), "steps", "description", "trainnig", "training", "''")
            is None
        )
    shutil.rmtree(tmp_path / "x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "told_of"),
    [
        (["--steps", "3", "--minutes", "1"], "--minutes"),
        (["--steps", "3", "--set", "training.steps=3"], "training.steps"),
        (["--batch-size", "3", "--set", "training.batch_size=3"], "training.batch_size"),
        (["--precision", "float32", "--set", "training.precision=auto"], "training.precision"),
        (["--set", "training.batch_size=4", "training.accumulate=5"], "accumulate"),
        (["--set", "training.checkpoint_every=4", "training.keep_every=5"], "keep_every"),
        (
            ["--set", "schedule.name=ve", "schedule.sigma_min=3", "schedule.sigma_max=2"],
            "sigma_max",
        ),
    ],
)
def test_options_that_must_agree(words: list[str], told_of: str, tmp_path: Path) -> None:
    assert objection(["train", "moons", "--out", str(tmp_path / "x"), *words], told_of) is None


def test_settings_of_all_objects_with_odd_values(tmp_path: Path) -> None:
    told(["doctor"])
    found = attack(60, 0, tmp_path)
    assert not found.failures
    assert {file.name for file in tmp_path.iterdir()} <= {"images.npz"}


@pytest.mark.parametrize("key", sorted({key for key, with_ in SETTINGS if not with_}))
def test_a_recipe_that_is_accepted_is_the_same_after_toml(key: str) -> None:
    for value in (*ODD, "1", "7", "0.01", "[0.5, 0.5]", "float32", "[0.1, 0.2]"):
        with contextlib.suppress(recipes.UndiffuseError):
            made = Recipe().changed(recipes.settings([f"{key}={value}"]))
            assert from_table(tomllib.loads(tomli_w.dumps(to_table(made)))) == made
