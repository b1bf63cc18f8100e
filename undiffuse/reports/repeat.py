r"""The commands that repeat a run: the nearest shipped recipe and what was set differently.

A run keeps its recipe resolved, every setting written out. What the user must type to have it again
is the shipped recipe with the fewest differences, and one --set for each of those. Measured values
(sigma_data) are measured again.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from undiffuse.training import recipe as recipes
from undiffuse.training.recipe import Recipe, Table, from_table, to_table

MEMORY = "memory"  # the source of data that was given in Python
UNSHIPPED = "RECIPE.toml"  # stands for the settings, saved as a file
OPTIONS = {
    "training.steps": "--steps",
    "training.batch_size": "--batch-size",
    "training.precision": "--precision",
}


def commands(run: Path, std: float, classes: int) -> list[str]:
    """The lines to type in a shell, from training to this report.

    Args:
        run: the run directory, which holds config.toml.
        std: the standard deviation of the data, which the word "data" of a recipe stands for.
        classes: how many labels the model knows.
    """
    table = recipes.load_toml(run / "config.toml")
    facts = table.pop("run", {})
    steps = facts.get("steps")
    recipe = from_table(table)
    if steps is not None:
        recipe = recipe.changed({"training.steps": steps})
    name, settings = nearest(recipe, std)
    data = facts.get("data", MEMORY)
    words = ["undiffuse", "train", "DATA" if data == MEMORY else data, "--recipe", name]
    if steps is None:  # stopped before the minutes had become steps
        words += ["--minutes", f"{facts.get('minutes', 1):g}"]
    words += ["--out", str(run), "--seed", str(facts.get("seed", 0))]
    for key in [key for key in OPTIONS if key in settings]:
        words += [OPTIONS[key], str(settings.pop(key))]
    for key, value in settings.items():
        words += ["--set", f"{key}={literal(value)}"]
    draw = ["undiffuse", "sample", str(run), "--num", "10", "--seed", "0"]
    draw += ["--label", "0"] if classes else []
    lines = [words, [*draw, "--out", "samples.png"]]
    lines += [["undiffuse", verb, str(run)] for verb in ("evaluate", "report")]
    return [shlex.join(line) for line in lines]


def nearest(recipe: Recipe, std: float) -> tuple[str, dict[str, Any]]:
    """The shipped recipe closest to `recipe`, and the settings in which it differs.

    UNSHIPPED and no settings if no shipped one can be turned into it: the recipe itself then
    has to be saved as a file.
    """
    found: list[tuple[int, str, dict[str, Any]]] = []
    for name in recipes.shipped():
        base = recipes.read(name)
        changes = settings_between(base, recipe, std)
        if changes is not None:
            other = int(base.description != recipe.description)
            found.append((len(changes) + other, name, changes))
    if not found:
        return UNSHIPPED, {}
    return min(found, key=lambda each: each[:2])[1:]


def settings_between(base: Recipe, recipe: Recipe, std: float) -> dict[str, Any] | None:
    """The settings that make `recipe` of `base`; None if settings cannot express it."""
    changes: dict[str, Any] = {}
    old, new = to_table(base), to_table(recipe)
    if base.kind != recipe.kind:
        return None
    for room in (r for r in new if isinstance(new[r], dict)):
        before, after = old[room], new[room]
        if before.get("name") != after.get("name"):
            changes[f"{room}.name"] = after["name"]
            before = {"name": after["name"]}
        if not before.keys() <= after.keys():
            return None
        for key, value in after.items():
            measured = before.get(key) == "data" and value == round(std, 4)
            if before.get(key) != value and not measured:
                changes[f"{room}.{key}"] = value
    return changes


def literal(value: Any) -> str:
    """A value as TOML writes it on one line.

    >>> literal([True, 1e-05, "a"]), literal({"name": "vp"})
    ('[true, 1e-05, "a"]', '{name = "vp"}')
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k} = {literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(literal, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def rooms(table: Table) -> dict[str, dict[str, str]]:
    """Every setting of config.toml as texts, by table, for reading; a fingerprint is cut short."""
    return {
        room: {
            key: value[: 12 if key == "fingerprint" else None]
            if isinstance(value, str)
            else literal(value)
            for key, value in part.items()
        }
        for room, part in table.items()
        if isinstance(part, dict)
    }
