"""A model's stream and its compiled twin: the same samples in other ways."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import undiffuse as ud
from undiffuse.denoiser import Learned
from undiffuse.errors import RunFailed, UndiffuseError
from undiffuse.model import Model
from undiffuse.networks import MLP, compiled
from undiffuse.predictions import V


@pytest.fixture(scope="module")
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


def test_a_stream_is_the_samples_in_batches(model: Model) -> None:
    labels = torch.arange(11) % 3
    whole = model.sample(11, labels, seed=3, batch_size=4)
    parts = list(model.stream(11, labels, seed=3, batch_size=4))
    assert [len(x) for x in parts] == [4, 4, 3]
    assert torch.equal(torch.cat(parts), whole)
    one = list(model.stream(5, 1, guidance=3.0, steps=3, batch_size=5))
    assert torch.equal(one[0], model.sample(5, 1, guidance=3.0, steps=3))
    with pytest.raises(UndiffuseError, match="no label 7"):
        model.stream(5, 7)


def test_a_stream_has_the_recipe_s_guides(model: Model) -> None:
    guided = replace(
        model, sampling={**model.sampling, "guide": ["interval(noise_min=0, noise_max=2)"]}
    )
    own = torch.cat(list(guided.stream(6, 1, seed=3, batch_size=4)))
    assert torch.equal(own, guided.sample(6, 1, seed=3, batch_size=4))
    asked = torch.cat(
        list(
            model.stream(
                6, 1, 1.5, guide="interval(noise_min=0, noise_max=2)", seed=3, batch_size=4
            )
        )
    )
    assert torch.equal(own, asked)
    assert not torch.equal(own, model.sample(6, 1, seed=3, batch_size=4))


def test_a_billion_can_be_asked_for(model: Model) -> None:
    """Neither noise nor labels are there before their batch."""
    first = next(model.stream(10**9, 2, batch_size=3))
    torch.testing.assert_close(first, model.sample(3, 2), rtol=0, atol=1e-5)


def test_compiled_it_is_the_same_model(model: Model) -> None:
    fast = model.compiled(backend="aot_eager")
    assert fast.denoiser.config() == model.denoiser.config()
    assert fast.digest == model.digest
    own, other = (dict(m.denoiser.network.named_parameters()) for m in (model, fast))
    assert all(own[name] is other[name] for name in own)
    options = {"label": torch.arange(6) % 3, "guidance": 2.0, "seed": 1}
    x, y = model.sample(6, **options), fast.sample(6, **options)
    torch.testing.assert_close(x, y, rtol=0, atol=1e-5)
    assert not hasattr(model.denoiser.network.forward, "__wrapped__")  # itself untouched


def test_what_cannot_be_compiled_is_one_sentence() -> None:
    def broken(graph: object, inputs: object) -> object:
        raise ValueError("no kernels today")

    network = compiled(MLP(size=2), backend=broken)  # type: ignore[arg-type]
    with pytest.raises(RunFailed, match=r"^torch could not compile MLP: .*go on without it$"):
        network(torch.zeros(3, 2), torch.zeros(3))


def test_without_a_compiler(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(UndiffuseError, match=r"needs a C\+\+ compiler, and there is no \S+ here"):
        model.compiled()
