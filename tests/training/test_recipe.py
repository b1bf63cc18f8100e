"""Recipes as text: round trips, the shipped ones, and every way to write a wrong one."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from hypothesis import given
from hypothesis import strategies as st

from undiffuse.data.dataset import InMemory
from undiffuse.errors import UndiffuseError
from undiffuse.training.assemble import make_learner, make_objective, measured
from undiffuse.training.loop import State
from undiffuse.training.recipe import (
    DataOptions,
    Recipe,
    SamplingOptions,
    TrainingOptions,
    from_table,
    read,
    save_toml,
    settings,
    shipped,
    to_table,
)

# ------------------------------------------------------------------ round trips

words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
keys = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True).filter(lambda key: key != "name")
leaves = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), words
)
options = st.dictionaries(keys, leaves, max_size=3)
tables = st.builds(lambda name, rest: {"name": name, **rest}, words, options)
small = st.floats(0, 0.999)

recipes = st.builds(
    Recipe,
    network=tables,
    schedule=tables,
    prediction=tables,
    times=tables,
    weight=tables,
    description=words,
    data=st.builds(DataOptions, st.none() | st.integers(1, 4096), st.booleans()),
    training=st.builds(
        TrainingOptions,
        steps=st.integers(1, 10**9),
        batch_size=st.integers(1, 65536),
        warmup=st.integers(0, 10**6),
        lr=st.floats(1e-4, 0.9),
        decay_to=st.floats(0, 1),
        betas=st.tuples(small, small),
        clip=st.floats(1e-9, 1e9),
        ema=st.floats(1e-3, 0.279),
        precision=st.sampled_from(["float32", "bfloat16", "float16", "auto"]),
    ),
    sampling=st.builds(SamplingOptions, words, st.integers(1, 10**6), st.floats(0, 1e6)),
)


@given(recipe=recipes)
def test_recipe_to_toml_and_back(recipe: Recipe) -> None:
    assert from_table(tomllib.loads(tomli_w.dumps(to_table(recipe)))) == recipe


def test_an_older_recipe_tells_the_last_rate_and_not_its_share_of_the_highest() -> None:
    old = from_table({"training": {"lr": 0.5, "lr_end": 0.125}})
    assert old == from_table({"training": {"lr": 0.5, "decay_to": 0.25}})
    assert from_table({"training": {"lr_end": 1e-3}}).training.decay_to == 0.5
    with pytest.raises(UndiffuseError, match=r"training\.lr_end"):
        from_table({"training": {"lr_end": "soon"}})
    with pytest.raises(UndiffuseError, match=r"training\.lr_end"):
        from_table({"training": {"lr": 0.05, "lr_end": 0.01, "decay_to": 0.2}})


@given(recipe=recipes)
def test_a_change_to_what_is_already_there_changes_nothing(recipe: Recipe) -> None:
    table = to_table(recipe)
    same = {
        f"{room}.{key}": value
        for room, values in table.items()
        if isinstance(values, dict)
        for key, value in values.items()
    }
    assert recipe.changed(same) == recipe


def test_files(tmp_path: Path) -> None:
    recipe = Recipe(description='"quotes", ünïcode\nand lines').changed({"data.size": 32})
    save_toml(tmp_path / "mine.toml", to_table(recipe))
    assert read(str(tmp_path / "mine.toml")) == recipe


# ------------------------------------------------------------------ the shipped ones


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_recipe_builds_its_objects_and_runs(name: str) -> None:
    recipe = read(name)
    assert recipe.description
    assert len(recipe.description) < 100
    shape = (2, 16, 16, 3) if name == "images" else (2, 8, 8, 1)
    pixels = torch.arange(2 * 16 * 16 * 3).reshape(2, 16, 16, 3)[:, : shape[1], : shape[2]]
    data = InMemory(
        torch.tensor([[0.0, 1.0], [2.0, 3.0]])
        if recipe.network["name"] == "mlp"
        else (pixels[..., : shape[3]] % 256).to(torch.uint8),
        labels=torch.tensor([0, 1]),
    )
    recipe = measured(recipe, data)
    denoiser, objective = make_learner(recipe, data, 0), make_objective(recipe)
    State.new(denoiser, recipe.training)
    x, label = data.batch([0, 1])
    u = torch.tensor([0.3, 0.6], dtype=torch.float64)
    loss = objective.loss(denoiser, x, u, torch.ones_like(x), label=label)
    assert loss.shape == (2,)
    assert bool(loss.isfinite().all())


def test_what_is_shipped() -> None:
    assert {"digits", "images", "lecture-ddpm", "mnist", "vectors"} <= set(shipped())


def test_lecture_ddpm_is_the_lectures_setting() -> None:
    recipe = read("lecture-ddpm")
    assert recipe.schedule == {"name": "discrete.linear", "steps": 200}
    assert recipe.prediction["name"] == "noise"
    assert recipe.times == {"name": "uniform", "steps": 200}
    assert recipe.weight == {"name": "simple"}
    assert (recipe.sampling.sampler, recipe.sampling.steps) == ("ddpm", 200)


# ------------------------------------------------------------------ settings


def test_settings_are_toml_literals_or_words() -> None:
    texts = [
        *("training.lr=1e-3", "training.steps = 7", "data.flip=true", "network.name=mlp"),
        *("network.multipliers=[1, 2]", 'description="a = b"', "schedule=cosine", "x.y=1=2"),
    ]
    assert settings(texts) == {
        "training.lr": 1e-3,
        "training.steps": 7,
        "data.flip": True,
        "network.name": "mlp",
        "network.multipliers": [1, 2],
        "description": "a = b",
        "schedule": "cosine",
        "x.y": "1=2",
    }
    assert settings(["a=" + "[" * 5000]) == {"a": "[" * 5000}
    for text in ("training.lr", "=3", ""):
        with pytest.raises(UndiffuseError, match="write key=value"):
            settings([text])


def test_another_object_drops_the_options_of_the_first() -> None:
    recipe = Recipe(network={"name": "unet", "width": 32, "patch": 2})
    assert recipe.changed({"network.name": "mlp"}).network == {"name": "mlp"}
    assert recipe.changed({"network.name": "unet"}).network == recipe.network
    assert recipe.changed({"network": "mlp"}).network == {"name": "mlp"}
    for order in (1, -1):  # in whatever order they were written
        both = [("network.width", 9), ("network.name", "mlp")][::order]
        assert recipe.changed(dict(both)).network == {"name": "mlp", "width": 9}
        both = [("network.width", 9), ("network", "mlp")][::order]
        assert recipe.changed(dict(both)).network == {"name": "mlp", "width": 9}


# ------------------------------------------------------------------ wrong ones


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("training.stesp", r"no setting 'training\.stesp'; did you mean 'training\.steps'"),
        ("trainig.steps", "no setting 'trainig'; did you mean 'training'"),
        ("sampling.guidence", r"did you mean 'sampling\.guidance'"),
        ("steps", "no setting 'steps'"),
        ("", "no setting ''"),
        ("description.x", "'description' is a text and has no option 'x'"),
    ],
)
def test_unknown_keys(key: str, message: str) -> None:
    with pytest.raises(UndiffuseError, match=message):
        Recipe().changed({key: 3})


RANGES: list[tuple[str, list[Any]]] = [
    ("training.steps", [0, -1]),
    ("training.batch_size", [0, 65537]),
    ("training.lr", [0, -1e-3, 1.0, float("nan"), float("inf")]),
    ("training.decay_to", [-1e-9, 1.1, float("nan")]),
    ("training.warmup", [-1]),
    ("training.betas", [[0.9], [0.9, 1.0], [0.9, 0.99, 0.5], [float("nan"), 0.5], []]),
    ("training.weight_decay", [-1, float("inf")]),
    ("training.clip", [0, float("nan")]),
    ("training.ema", [0, 0.28, float("nan")]),
    ("training.label_dropout", [-0.1, 1.1, float("nan")]),
    ("training.precision", ["float64", ""]),
    ("training.checkpoint_every", [0]),
    ("training.sample_every", [0]),
    ("training.keep", [0]),
    ("sampling.steps", [0]),
    ("sampling.guidance", [-1, float("inf")]),
    (
        "sampling.guide",
        ["interval", ["rescaled(weight=2)"], ["autoguidance(bad=runs/x, weight=2)"]],
    ),
    ("data.size", [0, 4097]),
]


@pytest.mark.parametrize(("key", "values"), RANGES)
def test_values_out_of_range_name_their_field(key: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(UndiffuseError, match=rf"\b{key.partition('.')[2]} must be"):
            Recipe().changed({key: value})


def test_every_number_has_a_range() -> None:
    for room in ("data", "training", "sampling"):
        for f in dataclasses.fields(getattr(Recipe(), room)):
            if type(f.default) in {int, float}:
                wrong = -1 if type(f.default) is int else float("nan")
                with pytest.raises(UndiffuseError, match=rf"\b{f.name} must be"):
                    Recipe().changed({f"{room}.{f.name}": wrong})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training.steps", 1.5),
        ("training.steps", True),
        ("training.steps", "7"),
        ("training.lr", "fast"),
        ("training.lr", True),
        ("training.betas", 0.9),
        ("training.betas", ["a", "b"]),
        ("training.precision", 32),
        ("data.flip", 1),
        ("data.size", 8.0),
        ("sampling.sampler", 3),
    ],
)
def test_wrong_types_name_the_key(key: str, value: object) -> None:
    with pytest.raises(UndiffuseError, match=rf"{key.replace('.', '[.]')} must be (a|true)"):
        Recipe().changed({key: value})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = 3", "no table in a recipe 'steps'"),
        ("[trainin]", "no table in a recipe 'trainin'; did you mean 'training'"),
        ("training = 3", "'training' must be a table of options, not 3"),
        ("network = 3", "'network' must be a table of options"),
        ("[network]\nwidth = 3", "table 'network' needs a name"),
        ("[network]\nname = 3", "table 'network' needs a name"),
        ("description = 3", "description must be a text"),
        ("[training]\nsteps = 1\nsteps = 2", "is not valid TOML"),
        ("x = ", "is not valid TOML"),
        ("x = " + "[" * 1000 + "]" * 1000, "is not valid TOML"),
        ("x = " + "[" * 50 + "]" * 50, "nests its tables 51 deep"),
        ("training.steps." + ".".join("a" * 1000) + " = 1", "is not valid TOML"),
        ("network." + ".".join("a" * 100) + " = 1", "nests its tables 101 deep"),
        ("\xff", "is not valid TOML"),
    ],
)
def test_wrong_files(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UndiffuseError, match=message):
        read(str(file))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UndiffuseError, match=r"no recipe file .*nothing\.toml; check the path"):
        read(str(tmp_path / "nothing.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(UndiffuseError, match="no recipe file"):
        read(str(tmp_path / "folder.toml"))
    with pytest.raises(UndiffuseError, match="no recipe 'digit'; did you mean 'digits'"):
        read("digit")
