"""What a run refuses, and how it ends when something goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import undiffuse as ud
from undiffuse import noise, storage
from undiffuse.data.dataset import InMemory
from undiffuse.denoiser import Learned
from undiffuse.errors import RunFailed, UndiffuseError
from undiffuse.model import load
from undiffuse.predictions.edm import EDMNetwork
from undiffuse.schedules.edm import EDM
from undiffuse.training import checkpoint
from undiffuse.training.recipe import Recipe
from undiffuse.training.run import Run
from undiffuse.training.session import Session

Until = Callable[..., None]


def test_a_run_leaves_what_it_says(
    tmp_path: Path, images: InMemory, recipe: Recipe, run_until: Until
) -> None:
    out = tmp_path / "deep" / "run"
    run_until(Session(images, out, recipe, settings={"training.sample_every": 5}))
    assert {f.name for f in out.iterdir() if f.name[0] != "."} == {
        *("config.toml", "metrics.jsonl", "checkpoints", "samples", "model"),
    }
    pictures = sorted(f.name for f in (out / "samples").iterdir())
    assert pictures == [f"step-{n:08d}-{kind}.png" for n in (5, 10, 11) for kind in ("ema", "raw")]
    text: dict[Any, Any] = Image.open(out / "samples" / pictures[0]).info
    assert (text["step"], text["weights"], text["seed"]) == ("5", "ema", "0")
    last: dict[Any, Any] = Image.open(out / "samples" / pictures[-2]).info  # the ema of the end
    assert (last["sampler"], last["model"]) == ("universal", load(out).digest)
    assert Run(out).read_config()[0].network["width"] == 8
    assert storage.problem(out / "model") is None
    for folder in checkpoint.listed(out):
        assert storage.problem(folder) is None


def test_train_is_a_session(tmp_path: Path, short: Recipe) -> None:
    seen: list[int] = []
    run = ud.train(
        noise.normal(0, "x", (10, 2)), tmp_path / "run", short, watch=lambda r: seen.append(r.step)
    )
    assert seen == [1, 2, 3, 4, 5, 6]
    assert ud.load(run).shape == (2,)


def test_the_seed_decides(
    tmp_path: Path,
    points: InMemory,
    short: Recipe,
    run_until: Until,
    remains: Callable[[Path], dict[str, Any]],
) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        run_until(Session(points, tmp_path / name, short, seed=seed))
    a, b, c = (remains(tmp_path / name) for name in "abc")
    assert a == b
    assert a["metrics"] != c["metrics"]


def test_pictures_change_nothing(
    tmp_path: Path,
    points: InMemory,
    short: Recipe,
    run_until: Until,
    remains: Callable[[Path], dict[str, Any]],
) -> None:
    for name, every in (("a", 1), ("b", 4)):
        settings = {"training.sample_every": every}
        run_until(Session(points, tmp_path / name, short, settings=settings))
    assert remains(tmp_path / "a") == remains(tmp_path / "b")


# ------------------------------------------------------------------ refusals


def test_an_existing_run_is_not_overwritten(
    tmp_path: Path, points: InMemory, short: Recipe, run_until: Until
) -> None:
    out = tmp_path / "run"
    first, late = Session(points, out, short), Session(points, out, short)
    run_until(first, 1)
    before = {f: f.read_bytes() for f in out.rglob("*") if f.is_file()}
    with pytest.raises(UndiffuseError, match="already holds a run; add --resume"):
        Session(points, out, short)
    with pytest.raises(UndiffuseError, match="already holds a run; add --resume"):
        next(late.records())  # made when there was none
    assert {f: f.read_bytes() for f in out.rglob("*") if f.is_file()} == before


def test_other_places_are_refused(tmp_path: Path, points: InMemory, short: Recipe) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UndiffuseError, match="file is a file; --out must be a directory"):
        Session(points, tmp_path / "file", short)
    with pytest.raises(UndiffuseError, match=r"cannot make .*file/run"):
        next(Session(points, tmp_path / "file" / "run", short).records())
    with pytest.raises(UndiffuseError, match="is not empty and holds no run"):
        Session(points, tmp_path, short)
    with pytest.raises(UndiffuseError, match="is not empty and holds no run"):
        Session(points, tmp_path, short, resume=True)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_start_that_a_crash_cut_short_is_no_obstacle(
    tmp_path: Path, points: InMemory, short: Recipe, run_until: Until
) -> None:
    with Run(tmp_path).locked():  # all that there is before the config is written
        pass
    run_until(Session(points, tmp_path, short))


def test_a_run_has_one_writer(tmp_path: Path, points: InMemory, short: Recipe) -> None:
    out = tmp_path / "run"
    writer = Session(points, out, short).records()
    next(writer)
    second = Session(points, out, short, resume=True)
    with pytest.raises(UndiffuseError, match="is being written by process"):
        next(second.records())
    assert [record.step for record in writer] == [2, 3, 4, 5, 6]  # unhurt


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"training.lrr": 1}, r"no setting 'training\.lrr'; did you mean 'training\.lr'"),
        ({"training.lr": 5}, "lr must be between 0 and 1, not 5"),
        ({"network.name": "mpl"}, "no network 'mpl'; did you mean 'mlp'"),
        ({"network.widht": 3}, "network 'mlp'.*'widht'"),
        ({"sampling.sampler": "dimm"}, "no sampler 'dimm'; did you mean 'ddim'"),
        ({"schedule.rho": -1}, "rho must be positive"),
        ({"weight.sigma_data": "dat"}, "sigma_data must be"),
    ],
)
def test_wrong_settings_are_told_before_anything_is_written(
    settings: dict[str, Any], named: str, tmp_path: Path, points: InMemory, short: Recipe
) -> None:
    with pytest.raises(UndiffuseError, match=named):
        Session(points, tmp_path / "run", short, settings=settings)
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------ what goes wrong while training


@dataclass(eq=False)
class Cusp(nn.Module):
    """F = x + sqrt(p): finite at p = 0, its gradient not."""

    name: ClassVar[str] = "cusp"

    def __post_init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        return x + self.p.sqrt()


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(
    tmp_path: Path, points: InMemory, short: Recipe
) -> None:
    own = Learned(Cusp(), EDMNetwork(), EDM())
    session = Session(points, tmp_path / "run", short, denoiser=own)
    with pytest.raises(RunFailed, match=r"6 steps in a row were skipped, .* the gradient is"):
        list(session.records())
    assert own.network.p.item() == 0
    assert not session.state.optimizers[0].state[own.network.p]


@dataclass(eq=False)
class Nameless(nn.Module):
    def __post_init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.zeros(1))


@pytest.mark.parametrize("network", [nn.Linear(2, 2), Nameless()])
def test_a_network_that_cannot_be_written_down_is_told_at_once(
    network: nn.Module, tmp_path: Path, points: InMemory, short: Recipe
) -> None:
    own = Learned(network, EDMNetwork(), EDM())
    with pytest.raises(UndiffuseError, match=r"cannot be written down: .* name: ClassVar\[str\] ="):
        Session(points, tmp_path / "run", short, denoiser=own)
    assert not (tmp_path / "run").exists()
