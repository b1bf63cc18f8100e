"""The precision "auto": what the figures say is chosen, once, and stands in the run's config."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from undiffuse.data.dataset import InMemory
from undiffuse.errors import UndiffuseError
from undiffuse.training import precision
from undiffuse.training import session as sessions
from undiffuse.training.assemble import make_learner, make_objective, measured
from undiffuse.training.loop import State
from undiffuse.training.precision import Pace
from undiffuse.training.recipe import Recipe, TrainingOptions
from undiffuse.training.run import Run
from undiffuse.training.session import Session

Until = Callable[..., None]
Remains = Callable[[Path], dict[str, Any]]
AUTO = {"training.precision": "auto"}


@pytest.mark.parametrize(
    ("figures", "gain", "choice"),
    [
        (Pace(1.0, 2.0), 0.5, "float32"),
        (Pace(1.0, 1.0), 1.0, "float32"),
        (Pace(1.09, 1.0), 1.09, "float32"),
        (Pace(1.11, 1.0), 1.11, "bfloat16"),
        (Pace(0.003, 0.001), 3.0, "bfloat16"),
    ],
)
def test_bfloat16_has_to_be_a_tenth_quicker(figures: Pace, gain: float, choice: str) -> None:
    assert figures.gain == pytest.approx(gain)
    assert figures.choice == choice


def test_measuring_leaves_the_denoiser_as_it_was(images: InMemory, recipe: Recipe) -> None:
    edm2 = {"name": "edm2", "width": 8, "blocks": 1, "head_channels": 8}
    whole = measured(recipe.changed({"network": edm2, **AUTO}), images)
    learned = make_learner(whole, images, 0).eval()  # its weights move in a forward that trains
    before = {k: v.clone() for k, v in learned.state_dict().items()}
    generator = torch.get_rng_state()
    found = precision.pace(learned, make_objective(whole), images, 0, whole)
    assert min(found) > 0
    assert not learned.training
    assert torch.equal(generator, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in learned.parameters())
    for name, value in learned.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("choice", ["float32", "bfloat16"])
def test_a_run_measures_once_and_is_the_run_of_what_it_chose(
    choice: str,
    tmp_path: Path,
    points: InMemory,
    short: Recipe,
    run_until: Until,
    remains: Remains,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = {"float32": Pace(1.0, 1.0), "bfloat16": Pace(2.0, 1.0)}
    answers = [told[choice]]  # for one run; another question would find none
    monkeypatch.setattr(sessions, "pace", lambda *_: answers.pop())
    first = Session(points, tmp_path / "a", short, precision="auto")
    assert first.pace == told[choice]
    run_until(first, 3)
    assert Run(tmp_path / "a").read_config()[0].training.precision == choice
    again = Session(points, tmp_path / "a", short, settings=AUTO, resume=True)
    assert again.pace is None
    assert again.state.step == 3
    assert again.recipe.training.precision == choice
    run_until(again)
    run_until(Session(points, tmp_path / "b", short, precision=choice))
    assert remains(tmp_path / "a") == remains(tmp_path / "b")


def test_a_real_run_has_a_precision(
    tmp_path: Path, points: InMemory, short: Recipe, run_until: Until
) -> None:
    session = Session(points, tmp_path / "a", short.changed(AUTO))
    assert session.pace is not None
    run_until(session, 1)
    assert Run(tmp_path / "a").read_config()[0].training.precision == session.pace.choice
    assert session.pace.choice in {"float32", "bfloat16"}


def test_the_loop_wants_a_precision(points: InMemory, short: Recipe) -> None:
    learned = make_learner(measured(short, points), points, 0)
    with pytest.raises(UndiffuseError, match="by now, not 'auto'"):
        State.new(learned, TrainingOptions(precision="auto"))
