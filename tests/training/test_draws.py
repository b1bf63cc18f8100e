"""How a run draws its times and pairs its noise, and that a resumed run does the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import undiffuse as ud
from undiffuse import storage
from undiffuse.errors import UndiffuseError
from undiffuse.objectives.times import Importance
from undiffuse.training.checkpoint import newest
from undiffuse.training.recipe import read
from undiffuse.training.session import Session

SMALL = {
    "network": {"name": "mlp", "width": 16, "depth": 1},
    "training.batch_size": 32,
    "training.steps": 12,
    "training.warmup": 2,
    "training.checkpoint_every": 5,
    "training.sample_every": 1000,
    "sampling.steps": 2,
}
CHOICES: dict[str, dict[str, Any]] = {
    "importance": {"times": {"name": "importance", "cells": 6}},
    "bound": {
        "times": {"name": "integral", "drawn": {"kind": "objectives.times.importance", "cells": 4}},
        "weight": {"name": "simple"},
    },
    "low-discrepancy": {"training.time_draws": "low-discrepancy"},
    "coupled": {
        "training.coupling": "optimal-transport",
        "schedule": {"name": "flow"},
        "prediction": {"name": "flow"},
        "times": {"name": "logit-normal"},
        "weight": {"name": "flow"},
    },
}


def losses(out: Path, settings: dict[str, Any], stop: int | None = None) -> list[float]:
    data = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    session = Session(data, out, settings=SMALL | settings, resume=out.exists())
    found = []
    for record in session.records():
        found.append(record.loss)
        session.stop = record.step == stop
    return found


@pytest.mark.parametrize("choice", CHOICES)
def test_a_resumed_run_equals_an_uninterrupted_one(choice: str, tmp_path: Path) -> None:
    whole = losses(tmp_path / "whole", CHOICES[choice])
    parts = losses(tmp_path / "parts", CHOICES[choice], stop=7)
    parts += losses(tmp_path / "parts", CHOICES[choice])
    assert parts == whole
    ends = [newest(tmp_path / name)[0] for name in ("whole", "parts")]
    one, other = (storage.tensors(end, "weights") for end in ends if end is not None)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert ud.load(tmp_path / "parts").sample(2).shape == (2, 2)


def test_every_choice_changes_what_is_learned(tmp_path: Path) -> None:
    plain = losses(tmp_path / "plain", {})
    assert losses(tmp_path / "low", CHOICES["low-discrepancy"]) != plain
    flow = {k: v for k, v in CHOICES["coupled"].items() if "coupling" not in k}
    uncoupled = losses(tmp_path / "uncoupled", flow)
    assert losses(tmp_path / "coupled", CHOICES["coupled"]) != uncoupled


def test_importance_learns_during_a_run(tmp_path: Path) -> None:
    losses(tmp_path / "run", CHOICES["importance"])
    folder = newest(tmp_path / "run")[0]
    assert folder is not None
    stored = ud.catalogue.build(storage.read_json(folder / "state.json")["times"])
    assert isinstance(stored, Importance)
    assert all(s > 0 for s in stored.squares)
    assert float(stored.weights.std()) > 0.01


@pytest.mark.parametrize(
    ("key", "message"),
    [("time_draws", "stratified or low-discrepancy"), ("coupling", "independent or optimal")],
)
def test_unknown_choices_are_refused(key: str, message: str) -> None:
    with pytest.raises(UndiffuseError, match=f"{key} must be {message}"):
        read("digits").changed({f"training.{key}": "sometimes"})
