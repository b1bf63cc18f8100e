"""A run that was stopped, killed or damaged and then resumed is the run that was not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from undiffuse import storage
from undiffuse.data.dataset import InMemory
from undiffuse.errors import UndiffuseError
from undiffuse.training import checkpoint
from undiffuse.training.recipe import Recipe
from undiffuse.training.session import Session

Until = Callable[..., None]
Remains = Callable[[Path], dict[str, Any]]


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory,
    images: InMemory,
    recipe: Recipe,
    run_until: Until,
    remains: Remains,
) -> dict[str, Any]:
    """What is left of the uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    run_until(Session(images, out, recipe, seed=3))
    return remains(out)


@pytest.mark.parametrize("stops", [[1], [3], [4], [10], [2, 5, 9]])
def test_a_stopped_run(
    stops: list[int],
    tmp_path: Path,
    images: InMemory,
    recipe: Recipe,
    whole: dict[str, Any],
    run_until: Until,
    remains: Remains,
) -> None:
    out = tmp_path / "run"
    for stop in [*stops, None]:
        session = Session(images, out, recipe, seed=3, resume=True)
        run_until(session, stop)
        assert session.passed_over == []
        assert session.state.step == (stop or 11)
    assert remains(out) == whole
    assert [line["step"] for line in whole["metrics"]] == list(range(1, 12))


def test_a_killed_run_goes_on_from_its_last_checkpoint(
    tmp_path: Path,
    images: InMemory,
    recipe: Recipe,
    whole: dict[str, Any],
    run_until: Until,
    remains: Remains,
) -> None:
    out = tmp_path / "run"
    records = Session(images, out, recipe, seed=3).records()
    for _ in range(6):
        next(records)
    records.close()  # without a checkpoint: the last one is of step 4
    with (out / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
        metrics.write('{"step": 7, "los')  # torn
    (out / "checkpoints" / ".tmp-1-abcd").mkdir()
    (out / ".tmp-1-abcd").mkdir()
    session = Session(images, out, recipe, seed=3, resume=True)
    assert session.state.step == 4
    run_until(session)
    assert remains(out) == whole
    assert not list(out.rglob(".tmp-*"))
    assert [f.name for f in checkpoint.listed(out)] == ["step-00000008", "step-00000011"]


FILES = ["weights.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"]


@pytest.mark.parametrize("file", [*FILES, "model.json", "manifest.json"])
def test_a_damaged_checkpoint_is_passed_over_and_named(
    file: str,
    tmp_path: Path,
    images: InMemory,
    recipe: Recipe,
    whole: dict[str, Any],
    run_until: Until,
    remains: Remains,
) -> None:
    out = tmp_path / "run"
    run_until(Session(images, out, recipe, seed=3), 9)
    damaged = out / "checkpoints" / "step-00000009" / file
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 4
    damaged.write_bytes(content)
    session = Session(images, out, recipe, seed=3, resume=True)
    assert session.state.step == 8
    assert [entry.folder.name for entry in session.passed_over] == ["step-00000009"]
    assert file in session.passed_over[0].reason
    run_until(session)
    assert remains(out) == whole


def test_where_every_checkpoint_is_damaged_training_starts_again(
    tmp_path: Path, points: InMemory, short: Recipe, run_until: Until, remains: Remains
) -> None:
    out, settings = tmp_path / "run", {"training.keep": 1}
    run_until(Session(points, out, short, settings=settings))
    expected = remains(out)
    for folder in checkpoint.listed(out):
        (folder / "ema.safetensors").write_bytes(b"")
    session = Session(points, out, short, settings=settings, resume=True)
    assert session.state.step == 0
    assert len(session.passed_over) == 1
    run_until(session, 2)  # the new checkpoint stays, though the damaged one has a higher number
    assert [f.name for f in checkpoint.listed(out)] == ["step-00000002"]
    run_until(Session(points, out, short, settings=settings, resume=True))
    assert remains(out) == expected


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precisions(
    precision: str,
    tmp_path: Path,
    points: InMemory,
    short: Recipe,
    run_until: Until,
    remains: Remains,
) -> None:
    settings = {"training.precision": precision}
    run_until(Session(points, tmp_path / "a", short, settings=settings))
    for stop in (3, None):
        run_until(Session(points, tmp_path / "b", short, settings=settings, resume=True), stop)
    assert remains(tmp_path / "a") == remains(tmp_path / "b")


def test_a_finished_run_stays_as_it_is(
    tmp_path: Path, points: InMemory, short: Recipe, run_until: Until, remains: Remains
) -> None:
    run_until(Session(points, tmp_path / "a", short))
    before = remains(tmp_path / "a")
    assert list(Session(points, tmp_path / "a", short, resume=True).records()) == []
    assert remains(tmp_path / "a") == before


@pytest.mark.parametrize(
    ("options", "settings", "named"),
    [
        ({}, {"training.lr": 1e-4}, r"training\.lr was 0\.002, not 0\.0001"),
        ({}, {"network.width": 16}, r"network\.width was 8, not 16"),
        ({}, {"network.dropout": 0.1}, r"no option 'dropout'"),
        ({"steps": 7}, {}, r"training\.steps was 6, not 7"),
        ({"batch_size": 3}, {}, r"training\.batch_size was 4, not 3"),
        ({"seed": 1}, {}, "seed = 0, not 1"),
        ({"minutes": 1.0}, {}, "minutes = None, not 1.0"),
    ],
)
def test_other_options_are_refused_by_name(
    options: dict[str, Any],
    settings: dict[str, Any],
    named: str,
    tmp_path: Path,
    points: InMemory,
    short: Recipe,
    run_until: Until,
) -> None:
    run_until(Session(points, tmp_path / "run", short), 1)
    with pytest.raises(UndiffuseError, match=named):
        Session(points, tmp_path / "run", short, settings=settings, resume=True, **options)


def test_other_data_are_refused(
    tmp_path: Path, points: InMemory, short: Recipe, run_until: Until
) -> None:
    run_until(Session(points, tmp_path / "run", short), 1)
    moved = InMemory(points.values.flip(0), source="points")  # equal but for the order
    with pytest.raises(UndiffuseError, match="fingerprint"):
        Session(moved, tmp_path / "run", short, resume=True)


# ------------------------------------------------------------------ --minutes


def clock(seconds: float) -> SimpleNamespace:
    """A clock by which every step takes so long."""
    ticks = itertools.count()
    return SimpleNamespace(perf_counter=lambda: next(ticks) * seconds)


def test_minutes_become_steps_once(
    tmp_path: Path,
    points: InMemory,
    short: Recipe,
    run_until: Until,
    remains: Remains,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def session(name: str) -> Session:
        return Session(points, tmp_path / name, short, minutes=0.02, resume=True)

    monkeypatch.setattr("undiffuse.training.loop.time", clock(0.05))
    run_until(session("a"))  # 0.02 x 60 / 0.05
    expected = remains(tmp_path / "a")
    assert [line["step"] for line in expected["metrics"]] == list(range(1, 25))
    for stops in ([7], [20], [7, 20, 22]):
        out = f"b{len(stops)}{stops[0]}"
        for stop in stops:
            run_until(session(out), stop)
        assert session(out).run.read_config()[1].get("steps") == (24 if stops[-1] >= 20 else None)
        if stops[-1] > 20:
            monkeypatch.setattr("undiffuse.training.loop.time", clock(0.5))  # slower by now
        run_until(session(out))
        assert session(out).run.read_config()[1]["steps"] == 24
        assert remains(tmp_path / out) == expected


def test_minutes_need_a_warm_up_that_does_not_depend_on_the_number_of_steps(
    tmp_path: Path, points: InMemory, short: Recipe
) -> None:
    with pytest.raises(UndiffuseError, match=r"training\.warmup of at least 20"):
        Session(points, tmp_path, short, minutes=1, settings={"training.warmup": 19})
    for minutes in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UndiffuseError, match="minutes must be a positive number"):
            Session(points, tmp_path, short, minutes=minutes)
    with pytest.raises(UndiffuseError, match="not both"):
        Session(points, tmp_path, short, minutes=1, steps=3)


def test_moments_keep_the_layout_of_their_parameter(
    tmp_path: Path, images: InMemory, recipe: Recipe, run_until: Until
) -> None:
    """Fused AdamW reads both by address: a moment laid out otherwise is another moment."""
    run_until(Session(images, tmp_path / "run", recipe), 1)
    state = Session(images, tmp_path / "run", recipe, resume=True).state
    stored = storage.tensors(tmp_path / "run/checkpoints/step-00000001", "optimizer")
    for name, parameter in state.denoiser.network.named_parameters():
        for key in ("exp_avg", "exp_avg_sq"):
            moment = state.optimizers[0].state[parameter][key]
            assert moment.stride() == parameter.stride()
            assert torch.equal(moment, stored[f"{key}/{name}"])
