"""A guide through a model: in place of its guidance."""

from __future__ import annotations

import pytest
import torch

import undiffuse as ud
from undiffuse.denoiser import Learned
from undiffuse.errors import UndiffuseError
from undiffuse.guidance import ClassifierFree, StaticThreshold
from undiffuse.model import Model
from undiffuse.networks import MLP
from undiffuse.predictions import V


@pytest.fixture
def model() -> Model:
    """Random weights: what it samples means nothing and depends on labels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MLP(size=2, width=8, depth=1, classes=3)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    data = {"shape": [2], "classes": 3, "class_names": ["a", "b", "c"]}
    sampling = {"sampler": "ddim", "steps": 5, "guidance": 1.5}
    return Model(Learned(network, V(), ud.schedules.VP()).eval(), data, sampling)


def test_a_guide_takes_the_place_of_guidance(model: Model) -> None:
    guided = model.sample(4, 1, guide=lambda d: ClassifierFree(d, 3.0))
    assert torch.equal(guided, model.sample(4, 1, guidance=3.0))
    assert not torch.equal(guided, model.sample(4, 1))
    assert torch.equal(model.sample(4, 1, guide=lambda d: d), model.sample(4, 1, guidance=1))


def test_a_guide_without_labels(model: Model) -> None:
    x = model.sample(4, guide=lambda d: StaticThreshold(d, -0.1, 0.1))
    assert float(x.abs().max()) <= 0.1 + 1e-6


def test_not_both(model: Model) -> None:
    with pytest.raises(UndiffuseError, match="give guidance or a guide, not both"):
        model.sample(4, 1, 2.0, guide=lambda d: d)
