from __future__ import annotations

import json

import pytest
import torch

import undiffuse
from undiffuse.data.dataset import InMemory
from undiffuse.errors import UndiffuseError
from undiffuse.evaluation.evaluate import evaluate, summary

VECTORS = {"network": {"name": "mlp", "width": 16}, "sampling.steps": 3}


def train(data, out, **settings):
    options = {**VECTORS, **settings}
    return undiffuse.train(data, out, "digits", steps=3, batch_size=16, settings=options).path


def test_figures_of_labelled_images_are_measured_and_kept(digits_run):
    told = []
    figures = evaluate(digits_run, num=30, seed=1, progress=lambda *at: told.append(at))
    assert json.loads((digits_run / "evaluation.json").read_text()) == figures
    assert 0 <= figures["recognised"] <= 1
    assert figures["judge_accuracy"] >= 0.95
    assert figures["model"] == undiffuse.load(digits_run).digest
    assert (figures["num"], figures["seed"], figures["steps"]) == (30, 1, 3)
    assert figures["energy"] is None
    near = figures["neighbours"]
    assert near["generated"]["median"] > near["held_out"]["median"] > 0
    assert told[-1] == (30, 30)
    assert evaluate(digits_run, num=30, seed=1)["neighbours"] == near
    line = summary(figures)
    assert line.count("\n") == 0
    assert f"recognised {100 * figures['recognised']:.1f} % of 30" in line
    assert "held-out real" in line
    assert line.endswith("3 steps of exponential-adams")


def test_figures_of_points_have_an_energy_distance(tmp_path):
    figures = evaluate(train("moons", tmp_path / "run"), num=200)
    assert figures["energy"]["generated"] > 3 * figures["energy"]["real"] > 0
    assert figures["judge_accuracy"] > 0.95
    assert "energy distance" in summary(figures)


def test_figures_of_data_given_in_python_without_labels_or_held_out_part(tmp_path):
    data = InMemory(torch.randn(40, 3, generator=torch.Generator().manual_seed(0)))
    run = train(data, tmp_path / "run")
    with pytest.raises(UndiffuseError, match="given in Python"):
        evaluate(run, num=5)
    figures = evaluate(run, num=5, data=data)
    assert figures["recognised"] is figures["judge_accuracy"] is figures["guidance"] is None
    assert figures["neighbours"]["held_out"] is None
    assert figures["neighbours"]["training"]["median"] > 0
    assert "recognised" not in summary(figures)
    assert "real ones to each other" in summary(figures)


def test_what_cannot_be_evaluated_is_refused(tmp_path, digits_run):
    with pytest.raises(UndiffuseError, match="at least 1 sample"):
        evaluate(digits_run, num=0)
    with pytest.raises(UndiffuseError, match="precision"):
        evaluate(digits_run, precision="double")
    with pytest.raises(UndiffuseError, match="no run"):
        evaluate(tmp_path)


def test_data_that_changed_is_not_compared_with(tmp_path, monkeypatch):
    import numpy as np

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez("points.npz", vectors=rng.normal(size=(40, 2)).astype(np.float32))
    run = train("points.npz", tmp_path / "run")
    np.savez("points.npz", vectors=rng.normal(size=(40, 2)).astype(np.float32))
    with pytest.raises(UndiffuseError, match="changed"):
        evaluate(run, num=5)
