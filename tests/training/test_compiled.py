"""Training with a compiled network: the same steps, and what is said where nothing can compile."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

from undiffuse.data.dataset import InMemory
from undiffuse.errors import UndiffuseError
from undiffuse.guidance.noisy_classifier import NoisyClassifier
from undiffuse.networks.compilation import with_compiled
from undiffuse.networks.mlp import MLP
from undiffuse.schedules.vp import VP
from undiffuse.training import loop
from undiffuse.training.recipe import Recipe
from undiffuse.training.session import Session


def losses(session: Session) -> list[float]:
    return [record.loss for record in session.records()]


def test_it_learns_the_same(
    tmp_path: Path, images: InMemory, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def backend(graph: object, _: object) -> object:
        seen.append("compiled")
        return graph

    monkeypatch.setattr(loop, "with_compiled", functools.partial(with_compiled, backend=backend))
    plain = Session(images, tmp_path / "plain", recipe)
    quick = Session(images, tmp_path / "quick", recipe, settings={"training.compile": True})
    assert losses(quick) == pytest.approx(losses(plain), rel=1e-4)
    assert seen
    assert quick.state.denoiser.network.state_dict().keys() == plain.state.ema.weights.keys()


def test_a_classifier_is_compiled_whole() -> None:
    seen: list[str] = []

    def backend(graph: object, _: object) -> object:
        seen.append("compiled")
        return graph

    plain = NoisyClassifier(MLP(size=2, width=8, depth=1), (2,), 3, VP())
    x = torch.randn(4, 2)
    quick = with_compiled(plain, backend=backend)
    assert torch.allclose(quick(x, 0.5), plain(x, 0.5), atol=1e-6)
    assert seen


def test_without_a_compiler_nothing_begins(
    tmp_path: Path, images: InMemory, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UndiffuseError, match=r"needs a C\+\+ compiler"):
        Session(images, tmp_path / "run", recipe, settings={"training.compile": True})
    assert not (tmp_path / "run").exists()
