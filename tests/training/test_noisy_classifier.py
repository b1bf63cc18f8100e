"""A trained classifier of noisy samples against the exact one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.data.dataset import InMemory
from undiffuse.errors import UndiffuseError
from undiffuse.guidance import ClassifierGuided
from undiffuse.networks import MLP
from undiffuse.training import fit_classifier

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
