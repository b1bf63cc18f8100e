"""What a training will take, measured without writing anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from undiffuse.data.dataset import InMemory
from undiffuse.errors import RunFailed, UndiffuseError
from undiffuse.training import checkpoint
from undiffuse.training.plan import measure
from undiffuse.training.recipe import Recipe
from undiffuse.training.session import Session


def test_the_figures_of_a_small_network(points: InMemory, short: Recipe, tmp_path: Path) -> None:
    recipe = short.changed({"training.steps": 40, "training.checkpoint_every": 10})
    session = Session(points, tmp_path / "x", recipe)
    network = session.state.denoiser.network
    plan = measure(session)
    assert plan.weights == sum(p.numel() for p in network.parameters())
    # A matrix [i, o] takes 2 i o operations for one sample; the rest is small beside that.
    matrices = sum(2 * p.numel() for p in network.parameters() if p.ndim == 2)
    assert plan.flops == pytest.approx(matrices, rel=0.2)
    assert (plan.steps, plan.done, plan.timed) == (40, 0, 20)
    assert plan.seconds == pytest.approx(40 * plan.seconds_per_step)
    assert 0 < plan.seconds_per_step < 5
    assert 0 <= plan.data_share <= 1
    assert plan.memory > 10e6
    assert plan.memory_left is None or plan.memory_left > 1e6
    assert plan.disk_free > plan.disk
    assert not list(tmp_path.iterdir())


def test_the_disk_is_that_of_the_checkpoints_that_are_there_at_once(
    points: InMemory, short: Recipe, tmp_path: Path
) -> None:
    few = short.changed({"training.steps": 3, "training.checkpoint_every": 3})
    many = short.changed({"training.steps": 100, "training.keep": 2, "training.keep_best": 1})
    rare = many.changed({"training.keep_every": 20})
    for recipe, checkpoints in ((few, 2), (many, 4), (rare, 9)):
        session = Session(points, tmp_path / "x", recipe)
        plan = measure(session)
        assert plan.checkpoint == checkpoint.estimated(session.state)
        assert plan.disk == checkpoints * plan.checkpoint


def test_a_run_to_be_resumed_is_measured_from_where_it_is_and_left_as_it_is(
    points: InMemory, short: Recipe, tmp_path: Path
) -> None:
    session = Session(points, tmp_path / "x", short)
    for record in session.records():
        session.stop = record.step == 4
    before = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    plan = measure(Session(points, tmp_path / "x", short, resume=True))
    assert (plan.steps, plan.done) == (6, 4)
    assert plan.seconds == pytest.approx(2 * plan.seconds_per_step)
    assert {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()} == before
    with session.run.locked(), pytest.raises(UndiffuseError, match="is being written by"):
        measure(Session(points, tmp_path / "x", short, resume=True))


def test_minutes_become_steps(points: InMemory, short: Recipe, tmp_path: Path) -> None:
    plan = measure(Session(points, tmp_path / "x", short, minutes=2.0))
    assert plan.seconds == pytest.approx(120, rel=0.01)


def test_steps_that_fail_are_told_before_the_run(points: InMemory, tmp_path: Path) -> None:
    wild = InMemory(points.batch(range(10)).x.sign() * 3e38, source="wild")
    settings = {"prediction.sigma_data": 1.0, "weight.sigma_data": 1.0}
    with pytest.raises(RunFailed, match="were skipped"):
        measure(Session(wild, tmp_path / "x", settings=settings))
    assert not list(tmp_path.iterdir())
