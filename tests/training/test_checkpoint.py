"""Checkpoints: what is kept, what is deleted, what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from undiffuse import storage
from undiffuse.data.dataset import InMemory
from undiffuse.errors import RunFailed, UndiffuseError
from undiffuse.training import checkpoint
from undiffuse.training.assemble import make_denoiser, make_objective, measured
from undiffuse.training.course import Course
from undiffuse.training.loop import State, train_steps
from undiffuse.training.recipe import Recipe


@pytest.fixture
def state(points: InMemory, short: Recipe) -> State:
    """After two steps."""
    recipe = measured(short, points)
    made = State.new(make_denoiser(recipe, points, 0), recipe.training)
    objective = make_objective(recipe)
    list(train_steps(made, points, objective, 2, 0, recipe.training, recipe.data))
    return made


def test_restore_puts_everything_back(
    tmp_path: Path, state: State, points: InMemory, short: Recipe
) -> None:
    folder = checkpoint.save(tmp_path, state, {}, {"seed": 5})
    assert folder == tmp_path / "checkpoints" / "step-00000002"
    recipe = measured(short, points)
    fresh = State.new(make_denoiser(recipe, points, 1), recipe.training)
    facts = checkpoint.restore(folder, fresh)
    assert (facts["seed"], facts["step"], fresh.step) == (5, 2, 2)
    for mine, other in (
        (fresh.denoiser.network.state_dict(), state.denoiser.network.state_dict()),
        (fresh.ema.weights, state.ema.weights),
    ):
        assert all(torch.equal(mine[k], other[k]) for k in other)
    pairs = zip(fresh.denoiser.parameters(), state.denoiser.parameters(), strict=True)
    for p, q in pairs:
        assert fresh.optimizers[0].state[p].keys() == state.optimizers[0].state[q].keys()
        for key, value in state.optimizers[0].state[q].items():
            assert torch.equal(fresh.optimizers[0].state[p][key], value)


def test_the_average_is_not_the_network(tmp_path: Path, state: State) -> None:
    folder = checkpoint.save(tmp_path, state, {}, {})
    weights, ema = storage.tensors(folder, "weights"), storage.tensors(folder, "ema")
    assert weights.keys() == ema.keys()
    assert any(not torch.equal(weights[k], ema[k]) for k in ema)


def test_another_network_is_refused(
    tmp_path: Path, state: State, points: InMemory, short: Recipe
) -> None:
    folder = checkpoint.save(tmp_path, state, {}, {})
    recipe = measured(short.changed({"network.width": 16}), points)
    other = State.new(make_denoiser(recipe, points, 0), recipe.training)
    with pytest.raises(UndiffuseError, match="does not belong to this network"):
        checkpoint.restore(folder, other)


def test_a_parameter_without_a_gradient_has_no_moments(tmp_path: Path, state: State) -> None:
    idle = torch.nn.Parameter(torch.ones(2))
    state.denoiser.network.register_parameter("idle", idle)
    state.ema.weights["idle"] = idle.detach().clone()
    folder = checkpoint.save(tmp_path, state, {}, {})
    assert not any("idle" in name for name in storage.tensors(folder, "optimizer"))
    checkpoint.restore(folder, state)
    assert not state.optimizers[0].state[idle]


def saved(run: Path, state: State, steps: list[int]) -> None:
    for step in steps:
        state.step = step
        checkpoint.save(run, state, {}, {})


def test_the_newest_whole_one(tmp_path: Path, state: State) -> None:
    assert checkpoint.newest(tmp_path) == (None, [])
    saved(tmp_path, state, [9, 10, 100])
    (tmp_path / "checkpoints" / "step-notes").mkdir()
    folder, damaged = checkpoint.newest(tmp_path)
    assert folder is not None
    assert (folder.name, damaged) == ("step-00000100", [])
    (folder / "manifest.json").unlink()
    (tmp_path / "checkpoints/step-00000010/ema.safetensors").unlink()
    folder, damaged = checkpoint.newest(tmp_path)
    assert folder is not None
    assert folder.name == "step-00000009"
    assert [(d.folder.name, d.reason) for d in damaged] == [
        ("step-00000100", "cannot read manifest.json: no such file or directory"),
        ("step-00000010", "ema.safetensors is missing"),
    ]  # fmt: skip


def test_prune_keeps_the_newest_whole_ones(tmp_path: Path, state: State) -> None:
    saved(tmp_path, state, [1, 2, 3, 4])
    (tmp_path / "checkpoints/step-00000004/ema.safetensors").write_bytes(b"")
    checkpoint.prune(tmp_path, 2)
    assert [f.name for f in checkpoint.listed(tmp_path)] == ["step-00000002", "step-00000003"]
    for folder in checkpoint.listed(tmp_path):
        (folder / "manifest.json").unlink()
    checkpoint.prune(tmp_path, 1)  # none is whole: nothing to keep, nothing to delete
    assert len(checkpoint.listed(tmp_path)) == 2


def rated(run: Path, state: State, losses: list[float]) -> None:
    """Checkpoints of the steps 1, 2, ... with these smoothed losses."""
    for step, loss in enumerate(losses, 1):
        state.step, state.course = step, Course(total=loss, weight=1.0)
        checkpoint.save(run, state, {}, {})


def kept(run: Path) -> list[int]:
    return [int(folder.name[5:]) for folder in checkpoint.listed(run)]


def test_the_best_and_every_nth_stay(tmp_path: Path, state: State) -> None:
    rated(tmp_path, state, [3.0, 1.0, 5.0, 2.0, 6.0, 7.0, 8.0, 9.0])
    checkpoint.prune(tmp_path, 2, keep_best=2, keep_every=3)
    assert kept(tmp_path) == [2, 3, 4, 6, 7, 8]
    (tmp_path / "checkpoints/step-00000002/ema.safetensors").write_bytes(b"")
    checkpoint.prune(tmp_path, 1, keep_best=1)  # the damaged one is not the best
    assert kept(tmp_path) == [4, 8]


def test_a_loss_of_few_steps_is_not_the_best(tmp_path: Path, state: State) -> None:
    rated(tmp_path, state, [3.0, 2.0, 4.0])
    state.step, state.course = 4, Course().taken(0.1, 1.0)
    checkpoint.save(tmp_path, state, {}, {})
    state.step, state.course = 5, Course(total=9.0, weight=1.0)
    checkpoint.save(tmp_path, state, {}, {})
    checkpoint.prune(tmp_path, 1, keep_best=1)
    assert kept(tmp_path) == [2, 5]


def test_what_is_written_is_read_back(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that does not keep what it gets is told before an old checkpoint is deleted."""
    monkeypatch.setattr(storage, "problem", lambda _: "ema.safetensors is damaged")
    with pytest.raises(RunFailed, match=r"was written, but ema.safetensors is damaged"):
        checkpoint.save(tmp_path, state, {}, {})


def test_a_state_that_is_not_finite_is_named(state: State) -> None:
    checkpoint.check_finite(state)
    parameter = state.denoiser.network.head.weight
    state.optimizers[0].state[parameter]["exp_avg_sq"].view(-1)[0] = torch.inf
    with pytest.raises(RunFailed, match=r"the optimiser's 'exp_avg_sq/head\.weight' is not finite"):
        checkpoint.check_finite(state)
    state.ema.weights["head.weight"].view(-1)[0] = torch.nan
    with pytest.raises(RunFailed, match=r"the averaged weight 'head\.weight' is not finite"):
        checkpoint.check_finite(state)
