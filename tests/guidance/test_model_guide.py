"""A guide through a model: in place of its guidance."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import undiffuse as ud
from undiffuse.denoiser import Denoiser, Learned
from undiffuse.errors import UndiffuseError
from undiffuse.guidance import (
    Autoguidance,
    ClassifierFree,
    ClassifierFreePlusPlus,
    Composed,
    Interval,
    Negative,
    Rescaled,
    StaticThreshold,
)
from undiffuse.model import Model
from undiffuse.networks import MLP
from undiffuse.predictions import V
from undiffuse.samplers import DDIM
from undiffuse.samplers.loop import times_of


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


def test_guides_in_words(model: Model) -> None:
    made = model.sample(4, 1, guide="rescaled(weight=3, phi=0.5)")
    assert torch.equal(made, model.sample(4, 1, guide=lambda d: Rescaled(d, 3.0, 0.5)))
    texts = ["interval(noise_min=0.2, noise_max=5)", "static-threshold(low=-0.2, high=0.2)"]
    made = model.sample(4, 1, 3.0, guide=texts)

    def by_hand(denoiser: Denoiser) -> Denoiser:
        limited = Interval(ClassifierFree(denoiser, 3.0), 0.2, 5.0)
        return StaticThreshold(limited, -0.2, 0.2)

    assert torch.equal(made, model.sample(4, 1, guide=by_hand))
    own = model.sample(4, 1, guide="static-threshold(low=-9, high=9)")
    assert torch.equal(own, model.sample(4, 1))  # the run's own guidance lies within
    parts = torch.cat(list(model.stream(4, 1, guide="rescaled(weight=3)", batch_size=4)))
    assert torch.equal(parts, model.sample(4, 1, guide="rescaled(weight=3)"))


def test_a_label_to_keep_away_from(model: Model) -> None:
    made = model.sample(4, 1, 2.0, negative_label=2)

    def by_hand(denoiser: Denoiser) -> Denoiser:
        return Negative(denoiser, 2.0)

    assert torch.equal(made, model.sample(4, 1, guide=by_hand, negative_label=2))
    assert not torch.equal(made, model.sample(4, 1, 2.0))


def test_several_labels_at_once(model: Model) -> None:
    made = model.sample(4, [[0, 2]], 2.0)
    assert torch.equal(made, model.sample(4, [[0, 2]] * 4, guide="composed(weights=[2, 2])"))
    assert torch.equal(made, model.sample(4, [[0, 2]], guide=lambda d: Composed(d, [2.0, 2.0])))
    one = model.sample(4, 1, guide="composed(weights=[2])")
    torch.testing.assert_close(one, model.sample(4, 1, 2.0))


def test_the_times_of_the_sampler_are_told_to_the_guide(model: Model) -> None:
    times = times_of(model.denoiser.schedule, DDIM(), 7)
    made = model.sample(4, 1, guide="classifier-free-plus-plus(weight=0.6)", steps=7)
    guide = ClassifierFreePlusPlus(model.denoiser, 0.6, times)
    assert torch.equal(made, model.sample(4, 1, guide=lambda d: guide, steps=7))


def test_an_earlier_version_of_the_model_guides_it(model: Model, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = MLP(size=2, width=8, depth=1, classes=3)
        torch.nn.init.normal_(network.head.weight, std=0.5)
    bad = Model(Learned(network, V(), ud.schedules.EDM()), model.data, model.sampling)
    bad.save(tmp_path / "bad")
    made = model.sample(4, 1, guide=f"autoguidance(bad={tmp_path / 'bad'}, weight=2)")
    other = ud.load(tmp_path / "bad").denoiser.with_schedule(model.denoiser.schedule)
    assert torch.equal(made, model.sample(4, 1, guide=lambda d: Autoguidance(d, other, 2.0)))


def test_a_run_for_other_samples_cannot_guide(model: Model, tmp_path: Path) -> None:
    network = MLP(size=3, width=8, depth=1)
    data = {"shape": [3], "classes": 0, "class_names": []}
    Model(Learned(network, V(), ud.schedules.VP()), data, model.sampling).save(tmp_path / "bad")
    with pytest.raises(UndiffuseError, match=r"is for samples of \[3\], and cannot guide"):
        model.sample(4, 1, guide=f"autoguidance(bad={tmp_path / 'bad'}, weight=2)")
    with pytest.raises(UndiffuseError, match="holds no classifier of noisy samples"):
        model.sample(4, 1, guide=f"classifier-guided(classifier={tmp_path / 'bad'})")


def test_the_adaptive_pair_needs_no_steps(model: Model) -> None:
    path = model.sample(4, 1, sampler="adaptive(rtol=1e-3)", trajectory=True)
    assert path.evaluations > 10
    with pytest.raises(UndiffuseError, match="leave the number of steps"):
        model.sample(4, 1, sampler="adaptive", steps=20)
