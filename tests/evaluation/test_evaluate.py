from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import undiffuse
from undiffuse import catalogue
from undiffuse.data.dataset import InMemory
from undiffuse.data.open import open_data
from undiffuse.errors import UndiffuseError
from undiffuse.evaluation import features
from undiffuse.evaluation.evaluate import evaluate, summary
from undiffuse.evaluation.table import table
from undiffuse.samplers.non_stationary import NonStationary
from undiffuse.tuned import TunedRule

VECTORS = {"network": {"name": "mlp", "width": 16}, "sampling.steps": 3}


def train(data, out, **settings):
    options = {**VECTORS, **settings}
    return undiffuse.train(data, out, "digits", steps=3, batch_size=16, settings=options).path


def test_figures_of_labelled_images_are_measured_and_kept(digits_run, judge):
    told = []
    figures = evaluate(
        digits_run, num=30, seed=1, progress=lambda *at: told.append(at), judge=judge
    )
    assert json.loads((digits_run / "evaluation.json").read_text()) == figures
    assert 0 <= figures["recognised"] <= 1
    assert figures["judge_accuracy"] >= 0.95
    assert figures["model"] == undiffuse.load(digits_run).digest
    assert (figures["num"], figures["seed"], figures["steps"]) == (30, 1, 3)
    assert figures["energy"] is None
    near = figures["neighbours"]
    assert near["generated"]["median"] > near["held_out"]["median"] > 0
    assert told[-1] == (30, 30)
    line = summary(figures)
    assert line.count("\n") == 0
    assert f"recognised {100 * figures['recognised']:.1f} % of 30" in line
    assert "held-out real" in line
    assert line.endswith("3 steps of universal")


def test_it_measures_the_recipes_sampler_also_where_another_was_tuned(digits_run, judge, tmp_path):
    run = Path(shutil.copytree(digits_run, tmp_path / "run"))
    before = evaluate(run, num=30, judge=judge)["distribution"]
    rule = NonStationary((2.0, 0.3), ((-0.4,), (-0.7, 0.2)))
    facts = {"model": undiffuse.load(run).digest, "steps": 3, "guidance": 1.0, "guide": ""}
    TunedRule(rule, start="universal", before=0.2, after=0.1, **facts).write(run)
    assert undiffuse.load(run).tuned
    assert evaluate(run, num=30, judge=judge)["distribution"] == before


def test_every_metric_stands_beside_that_of_real_samples(digits_run, judge):
    found = evaluate(digits_run, num=30, judge=judge)["distribution"]
    assert set(found) == {"space", "compared", "draws", *catalogue.names("metrics")}
    assert (found["space"], found["compared"], found["draws"]) == ("features", 30, 5)
    for name in ("frechet", "energy", "kernel"):  # nothing has been learned
        assert found[name]["generated"] > found[name]["real"]["largest"]
    assert evaluate(digits_run, num=30, judge=judge)["distribution"] == found
    words = table({"distribution": found})
    assert words[0].startswith("metric (30 samples)")
    assert len(words) == 1 + len(catalogue.names("metrics"))


def test_the_run_keeps_its_judge(digits_run, monkeypatch):
    monkeypatch.setattr(features, "STEPS", 10)
    first = evaluate(digits_run, num=8)["distribution"]
    monkeypatch.setattr(features, "learn", None)  # nothing is trained again
    assert evaluate(digits_run, num=8)["distribution"] == first
    assert features.open_features(digits_run / "judge").facts["shape"] == [1, 8, 8]


def test_images_without_labels_take_the_judge_of_others(tmp_path, judge):
    x = open_data("digits").batch(range(60)).x
    data = InMemory(x, held_out=InMemory(x[:20]))
    run = train(data, tmp_path / "run", network={"name": "unet", "width": 8, "blocks": 1})
    figures = evaluate(run, num=5, data=data)
    assert figures["distribution"] is None
    assert "Frechet" not in summary(figures)
    assert table(figures) == []
    found = evaluate(run, num=5, data=data, judge=judge)["distribution"]
    assert found["frechet"]["generated"] > found["frechet"]["real"]["largest"] > 0
    other = InMemory(torch.linspace(-1, 1, 1620).reshape(20, 1, 9, 9))
    run = train(other, tmp_path / "other", network={"name": "unet", "width": 8, "blocks": 1})
    with pytest.raises(UndiffuseError, match=r"shape \[1, 8, 8\], not \[1, 9, 9\]"):
        evaluate(run, num=5, data=other, judge=judge)


def test_figures_of_points_have_an_energy_distance(tmp_path):
    figures = evaluate(train("moons", tmp_path / "run"), num=200)
    assert figures["distribution"]["space"] == "samples"
    frechet = figures["distribution"]["frechet"]
    assert frechet["generated"] > frechet["real"]["largest"]
    assert figures["energy"]["generated"] > 2 * figures["energy"]["real"] > 0
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
