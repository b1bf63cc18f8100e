"""Guides in words: what they become, what is said in their place, and what is refused."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse import catalogue
from undiffuse.errors import UndiffuseError
from undiffuse.guidance import ClassifierFree, Composed, Interval, Negative, StaticThreshold
from undiffuse.guidance.options import FUNCTION, catalogued, parameters, spoken
from undiffuse.guidance.words import Guides, Words

LABEL = torch.tensor([0, 1, 2, 0, 1, 2])


@dataclass
class Run:
    """A run that a guide asks."""

    asked: Any
    data: dict[str, Any] = field(default_factory=lambda: {"classes": 3, "class_names": []})
    digest: str = "d"
    shape: tuple[int, ...] = (2,)

    def under(self, schedule: Any) -> Any:
        return self.asked

    def to(self, device: Any) -> Any:
        return self


def around(denoiser: Any, *texts: str, **asked: Any) -> Any:
    readers = {key: lambda path, key=key: Run(asked[key]) for key in ("bad", "classifier")}
    guides = Guides.open(texts, readers)
    options = {"guidance": None, "default": 1.0, "labels": 1, "negative": False}
    options |= {key: asked[key] for key in options if key in asked}
    made = guides.complete(**options)
    return made.around(denoiser, lambda: torch.tensor([0.9, 0.5, 0.1]).double())


def test_every_guide_has_words_but_those_that_need_a_function() -> None:
    silent = {
        name
        for name in catalogue.names("guidance")
        if FUNCTION in inspect.signature(catalogue.load("guidance", name)).parameters
    }
    assert set(spoken()) == set(catalogue.names("guidance")) - silent
    assert silent == {"likelihood"}
    for name in spoken():
        signature = inspect.signature(catalogue.load("guidance", name)).parameters
        needed = {key: p.default is p.empty for key, p in signature.items()}
        assert parameters(name) == needed
        assert f"{name}(" in catalogued()


def test_they_are_read_without_torch() -> None:
    code = (
        "import sys; from undiffuse.guidance.words import Words;"
        "Words.read('rescaled(weight=3)'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_they_stand_from_the_inner_to_the_outer_one(labelled: Any, x: Tensor) -> None:
    oracle = labelled()
    texts = (
        "classifier-free(weight=3)",
        "interval(noise_min=0.2, noise_max=5)",
        "static-threshold(low=-0.5)",
    )
    found = around(oracle, *texts)
    expected = StaticThreshold(Interval(ClassifierFree(oracle, 3.0), 0.2, 5.0), -0.5)
    for t in (0.01, 0.3, 0.9):
        assert torch.equal(found(x, t, label=LABEL), expected(x, t, label=LABEL))


def test_what_a_bare_weight_stands_for(labelled: Any, x: Tensor) -> None:
    oracle, other = labelled(), LABEL.roll(1)
    t = torch.tensor(0.4).double()
    assert around(oracle) is oracle
    assert around(oracle, guidance=2.0, labels=0) is oracle
    found = around(oracle, guidance=2.0)
    assert torch.equal(found(x, t, label=LABEL), ClassifierFree(oracle, 2.0)(x, t, label=LABEL))
    assert around(oracle, default=2.0).weight == 2.0
    found = around(oracle, guidance=2.0, negative=True)
    pair = {"label": LABEL, "negative_label": other}
    assert torch.equal(found(x, t, **pair), Negative(oracle, 2.0)(x, t, **pair))
    found = around(oracle, guidance=2.0, labels=2)
    both = torch.stack([LABEL, other], 1)
    expected = Composed(oracle, [2.0, 2.0])(x, t, label=both)
    assert torch.equal(found(x, t, label=both), expected)


def test_a_weight_of_ones_own_stands_alone(labelled: Any) -> None:
    assert isinstance(
        around(labelled(), "rescaled(weight=3)", default=2.0).denoiser, type(labelled())
    )
    inner = around(labelled(), "dynamic-threshold", default=2.0).denoiser
    assert isinstance(inner, ClassifierFree)


def test_runs_and_times_are_filled_in(labelled: Any, classifier: Any, x: Tensor) -> None:
    oracle = labelled()
    bad = ud.exact.Gaussian(torch.zeros(2), oracle.schedule, std=1.0)
    guide = around(oracle, "autoguidance(bad=runs/bad, weight=2)", bad=bad)
    assert guide.bad is bad
    followed = around(oracle, "classifier-guided(classifier=c)", classifier=classifier())
    exact = oracle(x, 0.4, label=LABEL)
    torch.testing.assert_close(followed(x, 0.4, label=LABEL), exact, rtol=1e-7, atol=1e-7)
    plus = around(oracle, "classifier-free-plus-plus(weight=0.5)")
    assert plus.times.tolist() == pytest.approx([0.9, 0.5, 0.1])


def test_the_labels_are_those_of_the_classifier() -> None:
    own = {"classes": 0, "class_names": []}
    readers = {"classifier": lambda path: Run(None), "bad": lambda path: Run(None)}
    assert Guides.open(["classifier-guided(classifier=c)"], readers).facts(own)["classes"] == 3
    assert Guides.open(["autoguidance(bad=c, weight=2)"], readers).facts(own) is own


def test_they_are_written_as_they_are_read() -> None:
    for text in (
        "composed(weights=[1, -0.5])",
        "interval(noise_min=0.2, noise_max=Infinity)",
        "autoguidance(bad=runs/a b, weight=2)",
        "static-threshold",
    ):
        assert str(Words.read(text)) == text
        assert Words.read(str(Words.read(text))) == Words.read(text)


@pytest.mark.parametrize(
    ("texts", "options", "told"),
    [
        (["rescald(weight=3)"], {}, "there is no guide 'rescald'; did you mean 'rescaled'?"),
        (["rescaled(wait=3)"], {}, "option of the guide 'rescaled' 'wait'; did you mean 'weight'?"),
        (["rescaled"], {}, "the guide 'rescaled' needs weight: write rescaled(weight=...)"),
        (["likelihood(weight=1)"], {}, "the guide 'likelihood' needs a function"),
        (["rescaled(weight=3"], {}, "write name or name(option=value, ...)"),
        (
            ["rescaled(weight=3)"],
            {"guidance": 2.0},
            "give guidance or the guide rescaled, not both",
        ),
        (["rescaled(weight=-1)"], {}, "weight must be a finite number >= 0, not -1"),
        (["classifier-free(weight=much)"], {}, "guidance weight 'much' must be a finite number"),
        (["interval(noise_min=1, noise_max=2)"], {}, "and there is none: put it around one"),
        (["negative(weight=2)"], {}, "needs a negative label to keep away from"),
        (["rescaled(weight=2)"], {"negative": True}, "which is not among those asked for"),
        (["composed(weights=[1, 2])"], {}, "2 weights were given and 1 labels"),
        (["composed(weights=2)"], {"labels": 2}, "takes a list of weights"),
        (["rescaled(weight=2)"], {"labels": 2}, "2 labels at once are for the guide composed"),
        (["static-threshold(low=[1])"], {}, "low must be a finite number"),
    ],
)
def test_mistakes_are_one_sentence(
    texts: list[str], options: dict[str, Any], told: str, labelled: Any
) -> None:
    with pytest.raises(UndiffuseError) as caught:
        around(labelled(), *texts, **options)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
