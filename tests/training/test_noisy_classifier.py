"""A trained classifier of noisy samples against the exact one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.classifier import load_classifier
from undiffuse.data.dataset import InMemory
from undiffuse.errors import UndiffuseError
from undiffuse.guidance import ClassifierGuided
from undiffuse.networks import MLP
from undiffuse.training import fit_classifier
from undiffuse.training.recipe import Recipe, from_table, read, to_table
from undiffuse.training.session import Session

VP = ud.schedules.VP()
MIXTURE = ud.exact.GaussianMixture(
    torch.tensor([[-1.0, 0.0], [1.0, 0.4], [0.0, 1.2]]),
    None,
    VP,
    std=torch.tensor([0.2, 0.3, 0.4]),
    labels=torch.tensor([0, 1, 2]),
)


def data(count: int = 4096) -> InMemory:
    parts = [MIXTURE.draw(count, seed=k, label=k) for k in range(3)]
    return InMemory(values=torch.cat(parts), labels=torch.arange(3).repeat_interleave(count))


def network() -> MLP:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MLP(size=2, width=64, depth=2)


def exact(x: Tensor, t: float) -> Tensor:
    labels = [torch.full((len(x),), k) for k in range(3)]
    return torch.stack([MIXTURE.log_prob(x, t, label=k) for k in labels], 1).softmax(1)


def test_it_nears_bayes_rule_at_every_noise_level_and_guides() -> None:
    judge = fit_classifier(data(), network(), VP, steps=300, batch_size=256, lr=3e-3)
    assert not judge.training
    for t in (0.02, 0.3, 0.9):
        x = MIXTURE.draw(512, t, seed=9)
        assert float((judge(x, t).exp() - exact(x, t)).abs().mean()) < 0.03
    label = torch.tensor([0, 1, 2]).repeat(20)
    x = ud.sample(ClassifierGuided(MIXTURE, judge), (60, 2), steps=20, label=label)
    assert isinstance(x, Tensor)
    assert float((exact(x.double(), 0.01).argmax(1) == label).double().mean()) > 0.9


def test_equal_seeds_give_equal_weights() -> None:
    one, two, other = (
        fit_classifier(data(64), network(), VP, steps=3, seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(one.head.weight, two.head.weight)
    assert not torch.equal(one.head.weight, other.head.weight)


def test_mistakes() -> None:
    with pytest.raises(UndiffuseError, match="has no labels"):
        fit_classifier(InMemory(values=torch.zeros(4, 2)), network(), VP)
    with pytest.raises(UndiffuseError, match="at least 1, not 0"):
        fit_classifier(data(4), network(), VP, steps=0)


# ------------------------------------------------------------------ as a run, by a recipe


def recipe(**changes: Any) -> Recipe:
    base = read("noisy-classifier").changed(
        {
            "network": {"name": "mlp", "width": 32, "depth": 2},
            "training.steps": 200,
            "training.lr": 5e-3,
            "training.warmup": 10,
            "training.checkpoint_every": 100,
        }
    )
    return base.changed(changes)


def test_a_run_makes_a_classifier_that_guides(tmp_path: Path) -> None:
    """Trained by the engine under EDM, it follows Bayes' rule, and guides a model under VP."""
    run = ud.train(data(1024), tmp_path / "judge", recipe())
    judge = load_classifier(run)
    assert judge.data["classes"] == 3
    assert judge.digest
    assert not list((tmp_path / "judge" / "samples").glob("*"))
    network = judge.under(VP)
    for t in (0.1, 0.4):
        x = MIXTURE.draw(512, t, seed=9)
        assert float((network(x, t).exp() - exact(x, t)).abs().mean()) < 0.06
    label = torch.tensor([0, 1, 2]).repeat(20)
    x = ud.sample(ClassifierGuided(MIXTURE, network), (60, 2), steps=20, label=label)
    assert float((exact(x.double(), 0.01).argmax(1) == label).double().mean()) > 0.9


def test_a_stopped_run_is_continued_bit_for_bit(tmp_path: Path) -> None:
    samples, short = data(64), recipe(**{"training.steps": 8, "training.checkpoint_every": 2})
    ud.train(samples, tmp_path / "whole", short)
    session = Session(samples, tmp_path / "parts", short)
    for record in session.records():
        session.stop = record.step == 4
    ud.train(samples, tmp_path / "parts", short, resume=True)
    whole, parts = (load_classifier(tmp_path / name) for name in ("whole", "parts"))
    assert whole.digest == parts.digest
    old = load_classifier(tmp_path / "parts" / "checkpoints" / "step-00000006")
    assert old.digest != parts.digest


def test_it_is_no_model_to_sample_from(tmp_path: Path) -> None:
    short = recipe(**{"training.steps": 1})
    ud.train(data(64), tmp_path / "judge", short)
    with pytest.raises(UndiffuseError, match="holds a classifier, which guides and makes no"):
        ud.load(tmp_path / "judge")


def test_a_recipe_of_a_classifier_has_no_tables_of_a_denoiser(tmp_path: Path) -> None:
    with pytest.raises(UndiffuseError, match="of kind 'classifier' has no table 'prediction'"):
        from_table({"kind": "classifier", "prediction": {"name": "v"}})
    with pytest.raises(UndiffuseError, match="there is no setting 'sampling'"):
        recipe(**{"sampling.steps": 3})
    with pytest.raises(UndiffuseError, match="kind must be denoiser or classifier"):
        from_table({"kind": "judge"})
    table = to_table(recipe())
    assert not {"prediction", "weight", "sampling"} & set(table)
    assert from_table(table) == recipe()
    with pytest.raises(UndiffuseError, match="has no labels, so there is nothing to classify"):
        ud.train(InMemory(values=torch.randn(8, 2)), tmp_path / "judge", recipe())
