from __future__ import annotations

import shlex

import pytest

from undiffuse.reports import repeat
from undiffuse.training import recipe as recipes
from undiffuse.training.recipe import Recipe, settings
from undiffuse.training.run import Run

STD = 0.75193


def kept(tmp_path, recipe: Recipe, **facts: object) -> list[str]:
    """The train command of a run with this recipe, as words."""
    table = recipes.to_table(recipe)
    measured = {
        f"{room}.{key}": round(STD, 4)
        for room, part in table.items()
        if isinstance(part, dict)
        for key, value in part.items()
        if value == "data"
    }
    Run(tmp_path).write_config(recipe.changed(measured), {"data": "digits", **facts})
    return shlex.split(repeat.commands(tmp_path, STD, 10)[0])


def option(words: list[str], flag: str) -> str:
    return words[words.index(flag) + 1]


@pytest.mark.parametrize("name", recipes.shipped())
def test_a_shipped_recipe_is_named_and_nothing_else_is_said(name, tmp_path):
    recipe = recipes.read(name)
    words = kept(tmp_path, recipe, seed=3, steps=recipe.training.steps)
    assert words[:5] == ["undiffuse", "train", "digits", "--recipe", name]
    assert option(words, "--seed") == "3"
    assert "--set" not in words
    assert "--steps" not in words


def test_the_command_leads_back_to_the_recipe(tmp_path):
    changes = {
        "training.lr": 1e-5,
        "training.batch_size": 7,
        "network.attention": (True, False),
        "schedule.name": "vp",
        "sampling.sampler": "ddim(eta=1)",
        "data.size": 16,
    }
    recipe = recipes.read("digits").changed(changes)
    words = kept(tmp_path, recipe, seed=0, steps=11)
    assert option(words, "--steps") == "11"
    assert option(words, "--batch-size") == "7"
    sets = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    again = recipes.read(option(words, "--recipe")).changed(settings(sets))
    again = again.changed({"training.steps": 11, "training.batch_size": 7})
    wanted = recipe.changed({"training.steps": 11})
    assert recipes.to_table(again) == recipes.to_table(wanted)


def test_what_no_shipped_recipe_can_be_turned_into_is_a_file(tmp_path):
    name, changes = repeat.nearest(recipes.read("digits"), STD)
    assert (name, changes) == ("digits", {})
    bare = Recipe(network={"name": "unet"}, times={"name": "log-normal"})
    assert repeat.nearest(bare, STD)[0] == repeat.UNSHIPPED


def test_words_are_quoted_for_the_shell_and_data_in_memory_has_no_name(tmp_path):
    Run(tmp_path).write_config(recipes.read("digits"), {"data": "my pictures; rm -rf", "seed": 0})
    first = repeat.commands(tmp_path, STD, 0)[0]
    assert shlex.split(first)[2] == "my pictures; rm -rf"
    Run(tmp_path).write_config(
        recipes.read("digits"), {"data": "memory", "seed": 0, "minutes": 2.0}
    )
    words = shlex.split(repeat.commands(tmp_path, STD, 0)[0])
    assert words[2] == "DATA"
    assert option(words, "--minutes") == "2"
