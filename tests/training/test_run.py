"""The directory of a run: its config, its metrics, its lock."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from undiffuse.errors import UndiffuseError
from undiffuse.training.recipe import Recipe
from undiffuse.training.run import Run

HOLD = """
import sys, time
from pathlib import Path
from undiffuse.training.run import Run
with Run(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(60)
"""


def test_config_round_trip(tmp_path: Path) -> None:
    run, recipe = Run(tmp_path), Recipe(description="a «test»")
    run.write_config(recipe, {"seed": 2**40, "steps": None, "minutes": 0.5, "data": "x\ny"})
    again, facts = run.read_config()
    assert again == recipe
    assert facts == {"seed": 2**40, "minutes": 0.5, "data": "x\ny"}
    assert [f.name for f in tmp_path.iterdir()] == ["config.toml"]


def test_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(UndiffuseError, match=r"no run in .*config\.toml"):
        Run(tmp_path / "nothing").read_config()
    (tmp_path / "config.toml").write_text("run = [")
    with pytest.raises(UndiffuseError, match=r"config\.toml is not valid TOML"):
        Run(tmp_path).read_config()


def test_a_torn_line_ends_the_metrics(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert list(run.metrics()) == []
    lines = [json.dumps({"step": n, "loss": 1 / n}) for n in (1, 2, 3, 4)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines)[:-5])
    assert [line["step"] for line in run.metrics()] == [1, 2, 3]
    run.trim_metrics(2)
    assert (tmp_path / "metrics.jsonl").read_text() == "\n".join(lines[:2]) + "\n"


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with (
        Run(tmp_path).locked(),
        pytest.raises(UndiffuseError, match="is being written by process"),
        Run(tmp_path).locked(),
    ):
        pass
    with Run(tmp_path).locked():  # free again
        pass


def test_the_lock_of_another_process_is_named_and_dies_with_it(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(UndiffuseError, match=f"process {holder.pid} on .*; wait or stop it"),
            Run(tmp_path).locked(),
        ):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with Run(tmp_path).locked():
        pass


def test_a_run_is_a_path(tmp_path: Path) -> None:
    assert Path(Run(tmp_path)) == tmp_path


def test_a_place_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UndiffuseError, match=r"cannot make .*file/run"):
        Run(tmp_path / "file" / "run").create()
