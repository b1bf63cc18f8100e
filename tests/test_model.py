"""A model is stored, found, checked and loaded as what it was, and samples the same."""

from __future__ import annotations

import dataclasses
import pickle  # noqa: TID251 (to see it refused)
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse import noise, storage
from undiffuse.data.dataset import InMemory
from undiffuse.errors import UndiffuseError
from undiffuse.model import Model
from undiffuse.training.recipe import Recipe
from undiffuse.training.session import Session


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on labelled images of 4x5, with the checkpoints of steps 4 and 6."""
    data = InMemory(
        noise.normal(0, "images", (12, 1, 4, 5)).clamp(-1, 1),
        source="noise",
        labels=torch.arange(12) % 3,
        class_names=("ant", "bee", "cat"),
    )
    recipe = Recipe(network={"name": "unet", "width": 8, "blocks": 1}).changed(
        {
            "training.steps": 6,
            "training.batch_size": 4,
            "training.lr": 0.05,
            "training.warmup": 0,
            "training.checkpoint_every": 4,
            "sampling.steps": 3,
            "sampling.guidance": 1.5,
        }
    )
    out = tmp_path_factory.mktemp("model") / "run"
    list(Session(data, out, recipe).records())
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may damage."""
    return shutil.copytree(trained, tmp_path / "run")


def weights(model: Model) -> dict[str, Tensor]:
    state: dict[str, Tensor] = model.denoiser.network.state_dict()
    return state


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# ------------------------------------------------------------------ loading


def test_a_run_is_its_newest_checkpoint(trained: Path) -> None:
    newest = trained / "checkpoints" / "step-00000006"
    model, raw = ud.load(trained), ud.load(trained, weights="raw")
    assert same(weights(model), storage.tensors(newest, "ema"))
    assert same(weights(raw), storage.tensors(newest, "weights"))
    assert not same(weights(model), weights(raw))
    manifest = storage.read_json(newest / "manifest.json")
    assert model.digest == manifest["files"]["ema.safetensors"]["sha256"]
    assert raw.digest == manifest["files"]["weights.safetensors"]["sha256"]
    assert (model.shape, model.classes, model.skipped) == ((1, 4, 5), 3, ())
    assert model.data["class_names"] == ["ant", "bee", "cat"]
    assert model.sampling["steps"] == 3
    assert not model.denoiser.training
    assert same(weights(ud.load(newest)), weights(model))
    older = trained / "checkpoints" / "step-00000004"
    assert same(weights(ud.load(older)), storage.tensors(older, "ema"))


def test_the_model_folder_is_the_average(trained: Path) -> None:
    model = ud.load(trained / "model")
    assert same(weights(model), weights(ud.load(trained)))
    assert torch.equal(model.sample(3, label=1), ud.load(trained).sample(3, label=1))
    with pytest.raises(UndiffuseError, match="without raw weights; name the run instead"):
        ud.load(trained / "model", weights="raw")
    with pytest.raises(UndiffuseError, match="'ema' or 'raw', not 'best'"):
        ud.load(trained, weights="best")


def test_saved_and_loaded_it_samples_the_same(trained: Path, tmp_path: Path) -> None:
    model = ud.load(trained)
    model.save(tmp_path / "saved")
    again = ud.load(tmp_path / "saved")
    options: dict[str, Any] = {"label": [0, 1, 2, -1], "guidance": 2.0, "seed": 3}
    assert torch.equal(again.sample(4, **options), model.sample(4, **options))
    assert (again.data, again.sampling) == (model.data, model.sampling)
    assert again.denoiser.config() == model.denoiser.config()
    assert again.denoiser.log_snr_range == model.denoiser.log_snr_range


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_a_damaged_checkpoint_is_passed_over_and_told(run: Path) -> None:
    checkpoints = run / "checkpoints"
    damage(checkpoints / "step-00000006" / "ema.safetensors")
    model = ud.load(run)
    assert model.skipped == ("step-00000006: ema.safetensors is damaged",)
    assert same(weights(model), storage.tensors(checkpoints / "step-00000004", "ema"))
    with pytest.raises(UndiffuseError, match=r"step-00000006 cannot be used: ema\.safetensors"):
        ud.load(checkpoints / "step-00000006")  # asked for by name

    damage(checkpoints / "step-00000004" / "optimizer.safetensors")
    model = ud.load(run)
    assert len(model.skipped) == 2
    assert same(weights(model), weights(ud.load(run / "model")))

    damage(run / "model" / "weights.safetensors")
    with pytest.raises(
        UndiffuseError, match=r"model cannot be used: weights\.safetensors is damaged"
    ):
        ud.load(run)
    shutil.rmtree(run / "model")
    with pytest.raises(UndiffuseError, match=r"no usable checkpoint .*step-00000006: ema"):
        ud.load(run)


def test_where_there_is_no_model(tmp_path: Path, run: Path) -> None:
    with pytest.raises(UndiffuseError, match=r"no run or model at .*nothing; check the path"):
        ud.load(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UndiffuseError, match="holds neither a run nor a model"):
        ud.load(tmp_path / "empty")
    shutil.rmtree(run / "checkpoints")
    shutil.rmtree(run / "model")
    with pytest.raises(UndiffuseError, match="run has no usable checkpoint yet"):
        ud.load(run)


def vouch(folder: Path) -> None:
    """Write a manifest that fits what is there, as one with bad intentions would."""
    files = [f for f in folder.iterdir() if f.name != "manifest.json"]
    entries = {f.name: {"size": f.stat().st_size, "sha256": storage.digest(f)} for f in files}
    storage.write_json(folder / "manifest.json", {"format": 1, "files": entries})


class Canary:
    """Unpickled, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def test_a_pickle_is_refused_without_being_run(run: Path, tmp_path: Path) -> None:
    canary, file = tmp_path / "canary", run / "model" / "weights.safetensors"
    content = pickle.dumps(Canary(canary))
    pickle.loads(content)  # what it would do
    canary.unlink()
    file.write_bytes(content)
    vouch(run / "model")
    with pytest.raises(UndiffuseError, match=r"weights\.safetensors holds no tensors"):
        ud.load(run / "model")
    torch.save({"a": Canary(canary)}, file)  # noqa: TID251
    vouch(run / "model")
    with pytest.raises(UndiffuseError, match=r"weights\.safetensors holds no tensors"):
        ud.load(run / "model")
    assert not canary.exists()


def at(*path: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    def edit(facts: dict[str, Any]) -> Any:
        place = facts
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        return facts

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        at("denoiser", "network", "kind", value="networks.os"),
        at("denoiser", "network", "kind", value="os.system"),
        at("denoiser", "network", "kind", value="training.train"),
        at("denoiser", "network", "width", value=12),
        at("denoiser", "network", "width", value="x"),
        at("denoiser", "network", "depth", value=3),
        at("denoiser", "network", value=3),
        at("denoiser", "network", value=None),
        at("denoiser", "schedule", "rho", value=-1),
        at("denoiser", "log_snr_range", value=[1]),
        at("denoiser", value=[]),
        at("data", value=3),
        at("data", value={}),
        at("data", "shape", value=4),
        lambda facts: {"denoiser": facts["denoiser"]},
        lambda _: [],
        lambda _: None,
    ],
)
def test_facts_that_make_no_model(run: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    file = run / "model" / "model.json"
    storage.write_json(file, edit(storage.read_json(file)))
    vouch(run / "model")
    with pytest.raises(UndiffuseError):
        ud.load(run / "model")


# ------------------------------------------------------------------ sampling


def test_samples_do_not_depend_on_the_batch_size(trained: Path) -> None:
    model = ud.load(trained)
    labels = torch.arange(64) % 3
    reference = model.sample(64, labels, seed=5, batch_size=64)
    assert reference.shape == (64, 1, 4, 5)
    assert reference.dtype == torch.float32
    for batch_size in (1, 7):
        other = model.sample(64, labels, seed=5, batch_size=batch_size)
        assert float((other - reference).abs().max()) < 1e-4
    assert torch.equal(model.sample(64, labels, seed=5, batch_size=64), reference)
    assert not torch.equal(model.sample(64, labels, seed=6, batch_size=64), reference)
    part = model.sample(4, labels[60:], seed=5, first_index=60)
    assert float((part - reference[60:]).abs().max()) < 1e-4


def test_the_recipe_s_defaults_are_used(trained: Path) -> None:
    model = ud.load(trained)
    expected = model.sample(2, 1, 1.5, sampler="universal", steps=3, grid=None, batch_size=None)
    assert torch.equal(model.sample(2, 1), expected)
    assert not torch.equal(model.sample(2, 1, guidance=1), expected)
    assert not torch.equal(model.sample(2, 1, steps=4), expected)
    assert not torch.equal(model.sample(2, 1, sampler="ddim"), expected)
    path = model.sample(2, 1, trajectory=True)
    assert torch.equal(path.x[-1], expected)
    assert path.evaluations == 3


def test_the_recipe_s_guides_are_used_where_none_is_asked_for(trained: Path) -> None:
    guide = "interval(noise_min=0.1, noise_max=3)"
    plain = ud.load(trained)
    model = dataclasses.replace(plain, sampling={**plain.sampling, "guide": [guide]})
    shaped = plain.sample(2, 1, 1.5, guide=guide)
    assert torch.equal(model.sample(2, 1), shaped)
    assert not torch.equal(plain.sample(2, 1), shaped)
    for options in (
        {"label": 1, "guidance": 1.5},
        {"label": 1, "guidance": 1.0},
        {"label": 1, "guide": "static-threshold"},
        {"label": [[0, 1]] * 2},
        {"label": 1, "negative_label": 2},
        {},
    ):
        assert torch.equal(model.sample(2, **options), plain.sample(2, **options))  # type: ignore[arg-type]
    free = dataclasses.replace(model, sampling={**model.sampling, "guidance": 1.0})
    assert torch.equal(free.sample(2, 1), plain.sample(2, 1, 1.0))  # nothing to stand around


def test_a_recipe_s_guide_that_cannot_be_made_is_told_before_training(tmp_path: Path) -> None:
    recipe = Recipe(network={"name": "unet", "width": 8, "blocks": 1}).changed(
        {"sampling.guidance": 2, "sampling.guide": ["interval(noise_min=2, noise_max=1)"]}
    )
    with pytest.raises(UndiffuseError, match="noise_max must be larger than noise_min"):
        Session(noise.normal(0, "x", (5, 1, 4, 4)), tmp_path / "run", recipe)


def test_guidance(trained: Path) -> None:
    model = ud.load(trained)
    free = model.sample(3)  # the default guidance has no label to guide towards
    assert torch.equal(model.sample(3, guidance=1), free)
    assert torch.equal(model.sample(3, guidance=0), free)
    assert torch.equal(model.sample(3, label=-1, guidance=1), free)
    assert torch.equal(model.sample(3, label=2, guidance=0), free)
    assert not torch.equal(model.sample(3, label=2, guidance=1), free)
    with pytest.raises(UndiffuseError, match=r"guidance needs a label to guide towards$"):
        model.sample(3, guidance=2)
    with pytest.raises(UndiffuseError, match="guidance weight -1"):
        model.sample(3, label=1, guidance=-1)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (3, r"no label 3; labels run from 0 to 2 \(0 ant, 1 bee, 2 cat\)"),
        (-2, "no label -2"),
        ([0, 1], "2 labels were given for 4 samples"),
        ([], "0 labels were given for 4 samples"),
        ([0, 1, 2, 5], "no label 5"),
        (1.5, "labels are whole numbers, not 1.5"),
        (torch.tensor([0.0, 1.0, 2.0, 0.0]), "labels are whole numbers"),
    ],
)
def test_labels_are_checked(trained: Path, label: Any, message: str) -> None:
    with pytest.raises(UndiffuseError, match=message):
        ud.load(trained).sample(4, label)


def test_bad_counts_and_steps(trained: Path) -> None:
    model = ud.load(trained)
    for wrong in ({"steps": 0}, {"sampler": "dimm"}, {"batch_size": 0}, {"grid": "x"}):
        with pytest.raises(UndiffuseError):
            model.sample(2, **wrong)
    with pytest.raises(UndiffuseError, match="N >= 1"):
        model.sample(0)


def test_a_model_without_labels(tmp_path: Path) -> None:
    recipe = Recipe(network={"name": "mlp", "width": 4, "depth": 1}).changed(
        {"training.steps": 1, "sampling.steps": 2}
    )
    model = ud.load(ud.train(noise.normal(0, "x", (5, 2)), tmp_path / "run", recipe))
    assert model.sample(3).shape == (3, 2)
    with pytest.raises(UndiffuseError, match="trained without labels; leave the label out"):
        model.sample(3, label=0)
    with pytest.raises(UndiffuseError, match="guide towards; this model was trained without"):
        model.sample(3, guidance=2)
