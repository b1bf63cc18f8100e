"""A folder of runs in figures, whatever state their files are in."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import undiffuse as ud
from undiffuse.data.dataset import InMemory
from undiffuse.errors import UndiffuseError
from undiffuse.training.overview import find, overview
from undiffuse.training.recipe import Recipe, read
from undiffuse.training.run import Run
from undiffuse.training.session import Session


@pytest.fixture(scope="module")
def made(points: InMemory, short: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = replace(short, description=read("vectors").description)
    ud.train(points, folder / "finished", recipe)
    return folder


def test_a_finished_run(made: Path) -> None:
    run = Run(made / "finished")
    seen, lines = overview(run), list(run.metrics())
    assert (seen.state, seen.detail, seen.step, seen.steps, seen.images) == (
        *("finished", None, 6, 6, 24),
    )
    assert seen.loss == pytest.approx(sum(line["loss"] for line in lines) / 6)
    speed = 24 / sum(line["seconds"] for line in lines)
    assert seen.images_per_second == pytest.approx(speed)
    assert seen.seconds_left is None
    assert seen.size == sum(f.stat().st_size for f in run.path.rglob("*") if f.is_file())
    assert (seen.data, seen.recipe) == ("points", "vectors")


def test_a_run_that_runs_and_then_stops(points: InMemory, short: Recipe, tmp_path: Path) -> None:
    session = Session(points, tmp_path / "x", short)
    before = overview(session.run)
    assert before.state == "damaged"  # there is none yet
    for record in session.records():
        seen = overview(session.run)
        assert seen.state == "running"
        assert seen.detail is not None
        assert seen.detail.startswith("process ")
        session.stop = record.step == 4
    seen = overview(session.run)
    assert (seen.state, seen.step, seen.steps) == ("stopped", 4, 6)
    assert list((tmp_path / "x" / "checkpoints").iterdir())
    assert Session(points, tmp_path / "x", short, resume=True).state.step == 4


def test_looking_changes_nothing_and_stops_nobody(made: Path) -> None:
    before = {f: (f.stat().st_mtime_ns, f.read_bytes()) for f in made.rglob("*") if f.is_file()}
    with Run(made / "finished").locked():
        held = {f for f in made.rglob("*") if f.is_file()}
        assert overview(Run(made / "finished")).state == "running"
        assert {f for f in made.rglob("*") if f.is_file()} == held
    overview(Run(made / "finished"))
    after = {f: (f.stat().st_mtime_ns, f.read_bytes()) for f in made.rglob("*") if f.is_file()}
    changed = {f.name for f in after if after[f] != before.get(f)}
    assert changed <= {".owner", ".lock"}  # by the writer


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("config.toml", b"x = [", "is not valid TOML"),
        ("config.toml", None, "holds no config.toml"),
        ("checkpoints/step-00000006/ema.safetensors", b"short", "ema.safetensors is damaged"),
        ("checkpoints/step-00000006/ema.safetensors", None, "ema.safetensors is missing"),
        ("checkpoints/step-00000006/manifest.json", b"[]", "manifest.json is missing or damaged"),
        ("checkpoints/step-00000006/manifest.json", None, "manifest.json is missing or damaged"),
    ],
)
def test_a_damaged_run_is_listed_with_what_is_wrong(
    file: str, content: bytes | None, told: str, made: Path, tmp_path: Path
) -> None:
    shutil.copytree(made / "finished", tmp_path / "broken")
    shutil.copytree(made / "finished", tmp_path / "whole")
    if content is None:
        (tmp_path / "broken" / file).unlink()
    else:
        (tmp_path / "broken" / file).write_bytes(content)
    broken, whole = (overview(run) for run in find(tmp_path))
    assert broken.state == "damaged"
    assert broken.detail is not None
    assert told in broken.detail
    assert whole.state == "finished"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\n",
        b"[1]\n{}\n",
        b'{"step": "x"}\n',
        b'{"step": 6, "loss": null}\n',
        b"{" * 9999,
    ],
)
def test_metrics_that_cannot_be_read_leave_their_figures_open(
    content: bytes, made: Path, tmp_path: Path
) -> None:
    shutil.copytree(made / "finished", tmp_path / "x")
    (tmp_path / "x" / "metrics.jsonl").write_bytes(content)
    seen = overview(Run(tmp_path / "x"))
    assert (seen.state, seen.step, seen.loss, seen.images_per_second) == ("finished", 6, None, None)


def test_only_the_end_of_long_metrics_is_read(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "finished", tmp_path / "x")
    lines = [{"step": n, "loss": float(n), "seconds": 0.5} for n in range(-20000, 7)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "x" / "metrics.jsonl").write_text(text)
    seen = overview(Run(tmp_path / "x"))
    assert seen.loss == pytest.approx(sum(range(-93, 7)) / 100)
    assert seen.images_per_second == pytest.approx(4 / 0.5)


def test_runs_are_found_in_folders_and_by_name(made: Path, tmp_path: Path) -> None:
    assert [run.path for run in find(made / "finished")] == [made / "finished"]
    for place in ("b", "a/x", "a/y/z", "one/two/three/four"):
        (tmp_path / place / "checkpoints").mkdir(parents=True)
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "file").write_text("")
    found = [run.path.relative_to(tmp_path).as_posix() for run in find(tmp_path)]
    assert found == ["a/x", "a/y/z", "b"]
    with pytest.raises(UndiffuseError, match="there is no folder"):
        next(find(tmp_path / "nothing"))
