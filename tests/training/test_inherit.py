"""A run may start from the weights of another model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import undiffuse as ud
from undiffuse import storage
from undiffuse.cli import main
from undiffuse.data.dataset import InMemory
from undiffuse.errors import UndiffuseError
from undiffuse.training import checkpoint
from undiffuse.training.inherit import recipe_of
from undiffuse.training.recipe import Recipe
from undiffuse.training.session import Session


@pytest.fixture
def first(tmp_path: Path, points: InMemory, short: Recipe) -> Path:
    """The run to start from."""
    return ud.train(points, tmp_path / "first", short, seed=5).path


def test_the_average_becomes_the_first_weights(
    first: Path, tmp_path: Path, points: InMemory
) -> None:
    session = Session(points, tmp_path / "second", from_model=first, seed=6)
    ema = ud.load(first).denoiser.network.state_dict()
    state = session.state
    for name, value in ema.items():
        assert torch.equal(state.denoiser.network.state_dict()[name], value)
        assert torch.equal(state.ema.weights[name], value)
    assert state.step == 0
    assert session.recipe.network == {"name": "mlp", "width": 8, "depth": 1}  # its run's recipe
    list(session.records())
    facts = session.run.read_config()[1]
    assert facts["from"] == str(first)
    assert facts["from_digest"] == ud.load(first).digest
    assert facts["seed"] == 6


@pytest.mark.parametrize("part", ["model", "checkpoints/step-00000004"])
def test_a_model_folder_or_a_checkpoint_will_do(
    part: str, first: Path, tmp_path: Path, points: InMemory, short: Recipe
) -> None:
    recipe = short.changed({"prediction.sigma_data": 0.8})
    session = Session(points, tmp_path / "second", recipe, from_model=first / part)
    stem = "ema" if "step" in part else "weights"
    stored = storage.tensors(first / part, stem)
    network = session.state.denoiser.network.state_dict()
    assert all(torch.equal(network[name], stored[name]) for name in stored)


@pytest.mark.parametrize("part", [".", "model", "checkpoints/step-00000004"])
def test_the_recipe_is_that_of_the_run_it_lies_in(
    part: str, first: Path, tmp_path: Path, points: InMemory
) -> None:
    session = Session(points, tmp_path / "second", from_model=first / part)
    assert session.recipe.network == {"name": "mlp", "width": 8, "depth": 1}


def test_a_model_that_was_handed_on_has_no_recipe(first: Path, tmp_path: Path) -> None:
    assert recipe_of(shutil.copytree(first / "model", tmp_path / "elsewhere" / "model")) is None


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"network.width": 16},
            r"its weight blocks\.0\.\S+ is \[16\] and this network's is \[32\]",
        ),
        ({"network.depth": 2}, r"its weight blocks\.1\S+ is missing and this network's is \["),
        ({"prediction.name": "noise"}, "its prediction is 'edm' and this recipe's is 'noise'"),
    ],
)
def test_another_network_is_refused(
    settings: dict[str, Any], told: str, first: Path, tmp_path: Path, points: InMemory
) -> None:
    with pytest.raises(UndiffuseError, match=f"cannot start from {first}: {told}"):
        Session(points, tmp_path / "second", from_model=first, settings=settings)
    assert not (tmp_path / "second").exists()


def test_what_holds_no_model_is_refused(first: Path, tmp_path: Path, points: InMemory) -> None:
    with pytest.raises(UndiffuseError, match="holds no whole checkpoint and no model"):
        Session(points, tmp_path / "second", from_model=tmp_path / "nothing")
    (first / "model" / "weights.safetensors").write_bytes(b"")
    with pytest.raises(UndiffuseError, match=r"weights\.safetensors"):
        Session(points, tmp_path / "second", from_model=first / "model")


def test_a_damaged_checkpoint_is_passed_over_and_named(
    first: Path, tmp_path: Path, points: InMemory
) -> None:
    (first / "checkpoints" / "step-00000006" / "ema.safetensors").write_bytes(b"")
    session = Session(points, tmp_path / "second", from_model=first)
    assert [damaged.folder.name for damaged in session.passed_over] == ["step-00000006"]


def run_to(session: Session, stop: int | None) -> None:
    for record in session.records():
        session.stop = record.step == stop


def test_resuming(first: Path, tmp_path: Path, points: InMemory, remains: Any) -> None:
    run_to(Session(points, tmp_path / "whole", from_model=first), None)
    out = tmp_path / "parts"
    records = Session(points, out, from_model=first).records()
    next(records)
    records.close()  # before there is a checkpoint
    run_to(Session(points, out, from_model=first, resume=True), 3)
    (first / "checkpoints").rename(first / "moved")  # from now on it is not needed
    run_to(Session(points, out, from_model=first, resume=True), None)
    assert remains(out) == remains(tmp_path / "whole")
    with pytest.raises(UndiffuseError, match=r"it was run with from = .*first, not None"):
        Session(points, out, resume=True)


def test_an_origin_that_has_changed_is_refused(
    first: Path, tmp_path: Path, points: InMemory
) -> None:
    records = Session(points, tmp_path / "second", from_model=first).records()
    next(records)
    records.close()
    checkpoint.listed(first)[-1].rename(first / "moved")
    with pytest.raises(UndiffuseError, match="holds other weights than those it was started from"):
        Session(points, tmp_path / "second", from_model=first, resume=True)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--steps", "2", "--set", "network.width=8", "sampling.steps=1"]
    assert main(["train", "moons", "--out", str(tmp_path / "a"), *small]) == 0
    more = ["--from", str(tmp_path / "a"), "--steps", "3", "--seed", "1"]
    assert main(["train", "moons", "--out", str(tmp_path / "b"), *more]) == 0
    assert main(["train", "moons", "--out", str(tmp_path / "b"), *more, "--resume"]) == 0
    capsys.readouterr()
    assert main(["train", "mixture", "--out", str(tmp_path / "c"), *more]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: cannot start from {tmp_path / 'a'}: its weight ")
    assert len(told.splitlines()) == 1


def test_tied_weights_are_stored(tmp_path: Path, points: InMemory, short: Recipe) -> None:
    session = Session(points, tmp_path / "whole", short)
    network = session.state.denoiser.network
    network.head_norm.weight = network.blocks[0].norm_1.weight
    run_to(session, None)
    folder, _ = checkpoint.newest(tmp_path / "whole")
    assert folder is not None
    stored = storage.tensors(folder, "weights")
    assert torch.equal(stored["head_norm.weight"], stored["blocks.0.norm_1.weight"])
    assert ud.load(tmp_path / "whole").sample(2).shape == (2, 2)
