"""`undiffuse runs` and `undiffuse recipes`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from undiffuse.cli import main
from undiffuse.cli.runs import COLUMNS
from undiffuse.training import recipe as recipes


def test_runs_stand_side_by_side(
    run: Path, vectors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", str(run.parent)]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == list(COLUMNS)
    cells = line.split()
    assert cells[:4] == [str(run), "finished", "3/3", "48"]
    assert cells[-2:] == ["digits", "digits"]  # the data, and the recipe that was chosen for it
    assert main(["runs", str(vectors.parent), "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert [each["recipe"] for each in seen] == ["vectors"]
    assert seen[0]["step"] == 3


def test_damaged_runs_are_explained_below(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "[b]x").mkdir()
    (tmp_path / "[b]x" / "config.toml").write_text("nonsense")
    assert main(["runs", str(tmp_path)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[1].split()[:2] == [str(tmp_path / "[b]x"), "damaged"]
    assert "is not valid TOML" in told[2]


def test_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"there are no runs in {tmp_path}\n"
    assert main(["runs", str(tmp_path / "x")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_recipes_are_listed_with_what_they_reach(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    told = capsys.readouterr().out
    for name in recipes.shipped():
        recipe = recipes.read(name)
        assert f"\n{name}  " in f"\n{told}"
        assert f" {recipe.description}\n" in told
        assert recipe.expected in told
    assert "% of 1,000 samples recognised" in told


@pytest.mark.parametrize("name", recipes.shipped())
def test_a_recipe_is_printed_with_its_reasons_and_can_be_used_again(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recipes", name]) == 0
    told = capsys.readouterr().out
    assert "# " in told
    (tmp_path / "mine.toml").write_text(told)
    assert recipes.read(str(tmp_path / "mine.toml")) == recipes.read(name)


def test_an_unknown_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "digit"]) == 2
    assert "there is no recipe 'digit'; did you mean 'digits'?" in capsys.readouterr().err
