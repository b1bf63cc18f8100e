"""A batch in parts is the batch, and what is said where memory does not suffice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from undiffuse import storage
from undiffuse.data.dataset import InMemory
from undiffuse.errors import RunFailed, UndiffuseError
from undiffuse.training import checkpoint
from undiffuse.training.batches import Batches
from undiffuse.training.recipe import DataOptions, Recipe, TrainingOptions
from undiffuse.training.session import Session


def weights(out: Path) -> dict[str, Tensor]:
    folder, _ = checkpoint.newest(out)
    assert folder is not None
    return storage.tensors(folder, "weights")


@pytest.mark.parametrize("parts", [2, 3, 5])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_batch_in_parts_is_the_batch(
    parts: int, precision: str, tmp_path: Path, images: InMemory, recipe: Recipe
) -> None:
    plain = recipe.changed({"network.dropout": 0.0, "training.precision": precision})
    plain = plain.changed({"times": {"name": "importance", "cells": 4}})
    losses: dict[int, list[float]] = {}
    norms: dict[int, list[float]] = {}
    for count in (1, parts):
        settings = {"training.accumulate": count}
        session = Session(images, tmp_path / f"{count}", plain, settings=settings)
        records = list(session.records())
        losses[count] = [record.loss for record in records]
        norms[count] = [record.gradient_norm for record in records]
    tolerance = 1e-4 if precision == "float32" else 3e-2
    assert losses[parts] == pytest.approx(losses[1], rel=tolerance)
    assert norms[parts] == pytest.approx(norms[1], rel=30 * tolerance)
    one, other = (weights(tmp_path / f"{count}") for count in (1, parts))
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=0, atol=20 * tolerance * 0.01 + 1e-5)


def test_parts_share_the_draws_of_the_whole(images: InMemory) -> None:
    options = TrainingOptions(batch_size=7)
    drawn = Batches(images, 0, options, DataOptions()).at(3)
    for count in (1, 2, 3, 7):
        parts = list(drawn.parts(count))
        assert [len(part.x_0) for part in parts] == [len(x) for x in drawn.x_0.tensor_split(count)]
        for name in ("indices", "x_0", "label", "u", "eps"):
            joined = torch.cat([getattr(part, name) for part in parts])
            assert torch.equal(joined, getattr(drawn, name))


def test_more_parts_than_samples_are_refused() -> None:
    with pytest.raises(UndiffuseError, match="accumulate must be from 1 to batch_size, not 9"):
        Recipe().changed({"training.batch_size": 8, "training.accumulate": 9})


def too_much(*_: Any, **__: Any) -> Tensor:
    return torch.empty(2**60)  # which no machine has


@pytest.mark.parametrize(
    "error", [None, torch.OutOfMemoryError("CUDA out of memory"), MemoryError()]
)
def test_without_memory_it_is_said_what_to_do(
    error: Exception | None,
    tmp_path: Path,
    points: InMemory,
    short: Recipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = Session(points, tmp_path / "run", short)
    records = session.records()
    for _ in range(3):
        next(records)

    def fails(*arguments: Any, **options: Any) -> Tensor:
        if error is None:
            return too_much()
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(session.state.denoiser.network, "forward", fails)
        said = r"not enough memory for step 4 with 4 samples at once: .*training\.accumulate=2"
        with pytest.raises(RunFailed, match=said):
            next(records)
    smaller = Session(
        points, tmp_path / "run", short, settings={"training.accumulate": 2}, resume=True
    )
    assert [record.step for record in smaller.records()] == [3, 4, 5, 6]


def test_other_errors_stay_what_they_are(tmp_path: Path, points: InMemory, short: Recipe) -> None:
    session = Session(points, tmp_path / "run", short)

    def fails(*_: Any, **__: Any) -> Tensor:
        raise RuntimeError("shapes do not fit")

    session.state.denoiser.network.forward = fails
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        next(session.records())


def test_a_picture_without_memory_does_not_end_the_run(
    tmp_path: Path, points: InMemory, short: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, told = Session(points, tmp_path / "run", short), list[str]()
    session.tell = told.append
    monkeypatch.setattr("undiffuse.training.session.draw", too_much)
    assert len(list(session.records())) == 6
    assert "no memory for the picture of step 6" in told[0]


def test_what_is_kept_may_change_when_a_run_is_resumed(
    tmp_path: Path, points: InMemory, short: Recipe
) -> None:
    session = Session(points, tmp_path / "run", short)
    for record in session.records():
        session.stop = record.step == 3
    settings = {"training.keep": 5, "training.checkpoint_every": 1, "training.skip_limit": 3}
    session = Session(points, tmp_path / "run", short, settings=settings, resume=True)
    list(session.records())
    names = [folder.name for folder in checkpoint.listed(tmp_path / "run")]
    assert names == [f"step-{n:08d}" for n in (2, 3, 4, 5, 6)]
    assert session.run.read_config()[0].training.keep == 5
