"""What every guide of the catalogue must do, around an exact denoiser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse import catalogue, guidance
from undiffuse.denoiser import Denoiser
from undiffuse.schedules.base import Schedule

TIMES = [1.0, 0.7, 0.4, 0.1]
LABEL = torch.tensor([0, 1, 2, 0, 1, 2])


def log_p(x_t: Tensor, t: Tensor, x0_hat: Tensor, y: Tensor) -> Tensor:
    return -(y - x0_hat[:, 0]).square() / 0.5


# name -> (the guide around a mixture, its conditions); `c` makes the exact classifier
GUIDES: dict[str, tuple[Callable[[Any, Any], Denoiser], dict[str, Tensor]]] = {
    "autoguidance": (
        lambda d, c: guidance.Autoguidance(
            d, ud.exact.Gaussian(torch.zeros(2), d.schedule, std=1.0), 1.5
        ),
        {},
    ),
    "classifier-guided": (
        lambda d, c: guidance.ClassifierGuided(d, c(d.schedule), 1.5),
        {"label": LABEL},
    ),
    "classifier-free": (lambda d, c: guidance.ClassifierFree(d, 2.0), {"label": LABEL}),
    "classifier-free-plus-plus": (
        lambda d, c: guidance.ClassifierFreePlusPlus(d, 0.6, TIMES),
        {"label": LABEL},
    ),
    "composed": (
        lambda d, c: guidance.Composed(d, (1.0, -0.5)),
        {"label": torch.stack([LABEL, LABEL.roll(1)], 1)},
    ),
    "dynamic-threshold": (lambda d, c: guidance.DynamicThreshold(d, 0.7, 0.5), {}),
    "interval": (
        lambda d, c: guidance.Interval(guidance.ClassifierFree(d, 3.0), 0.3, 3.0),
        {"label": LABEL},
    ),
    "likelihood": (
        lambda d, c: guidance.LikelihoodGuide(d, log_p, ["y"], 0.5),
        {"y": torch.linspace(-1, 1, 6).double()},
    ),
    "negative": (
        lambda d, c: guidance.Negative(d, 2.0),
        {"label": LABEL, "negative_label": LABEL.roll(1)},
    ),
    "rescaled": (lambda d, c: guidance.Rescaled(d, 3.0, 0.5), {"label": LABEL}),
    "static-threshold": (lambda d, c: guidance.StaticThreshold(d, -0.4, 0.6), {}),
}
every_guide = pytest.mark.parametrize("name", GUIDES)


def part(condition: dict[str, Tensor], rows: slice) -> dict[str, Tensor]:
    return {k: v[rows] for k, v in condition.items()}


def test_all_of_them_are_here_and_in_the_documentation() -> None:
    assert set(GUIDES) == set(catalogue.names("guidance"))
    page = (Path(__file__).parents[2] / "docs" / "guidance.md").read_text(encoding="utf-8")
    for entry in catalogue.entries("guidance").values():
        assert f"`{entry.qualname}" in page, entry.qualname


@every_guide
def test_one_estimate_per_sample(name: str, labelled: Any, classifier: Any, x: Tensor) -> None:
    """Each sample on its own: no batch, no order and no shape of t changes it."""
    make, condition = GUIDES[name]
    guide = make(labelled(), classifier)
    t = torch.tensor([0.05, 0.2, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    together = guide(x, t, **condition)
    for i in range(6):
        rows = slice(i, i + 1)
        alone = guide(x[rows], t[i], **part(condition, rows))
        torch.testing.assert_close(alone, together[rows], rtol=1e-9, atol=1e-9)


@every_guide
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_graph_is_left_where_none_is_wanted(
    name: str, dtype: torch.dtype, labelled: Any, classifier: Any, x: Tensor
) -> None:
    """As in sampling, under no_grad; and the same numbers as with gradients recorded."""
    make, condition = GUIDES[name]
    guide = make(labelled(), classifier)
    x = x.to(dtype)
    with torch.no_grad():
        x0_hat = guide(x, 0.4, **condition)
    assert x0_hat.dtype == dtype
    assert x0_hat.shape == x.shape
    assert not x0_hat.requires_grad
    x.requires_grad_()
    recorded = guide(x, 0.4, **condition)
    torch.testing.assert_close(x0_hat, recorded)
    (pulled,) = torch.autograd.grad(recorded.sum(), x)
    assert bool(torch.isfinite(pulled).all())


@every_guide
def test_without_noise_nothing_is_asked(name: str, labelled: Any, classifier: Any) -> None:
    make, condition = GUIDES[name]
    x = torch.full((6, 2), 5.0)
    assert torch.equal(make(labelled(), classifier)(x, 0.0, **condition), x)


@every_guide
def test_the_same_guide_under_another_schedule(
    name: str, labelled: Any, classifier: Any, x: Tensor
) -> None:
    """Equal at equal log-SNR and scaled sample, also with a classifier inside."""
    make, condition = GUIDES[name]
    guide, edm = make(labelled(), classifier), ud.schedules.EDM()
    moved = guide.with_schedule(edm)
    assert moved.schedule == edm
    for t in torch.tensor([0.15, 0.4, 0.69], dtype=torch.float64):
        there = edm.t_from_log_snr(guide.schedule.log_snr(t))
        found = moved(x / guide.schedule.alpha(t), there, **condition)  # alpha of EDM is 1
        torch.testing.assert_close(found, guide(x, t, **condition), rtol=1e-7, atol=1e-7)


@every_guide
@pytest.mark.parametrize("sampler", ["exponential-adams", "ddpm", "ddpm(variance=own)"])
def test_sampling(name: str, sampler: str, labelled: Any, classifier: Any) -> None:
    """Every sampler takes every guide, in batches too, and counts one evaluation a step."""
    make, condition = GUIDES[name]
    guide = make(labelled(), classifier)
    x = ud.sample(guide, (6, 2), sampler, steps=12, **condition)
    assert bool(torch.isfinite(x).all())
    assert float(x.abs().max()) < 10
    batched = ud.sample(guide, (6, 2), sampler, steps=12, batch_size=4, **condition)
    torch.testing.assert_close(batched, x, rtol=1e-4, atol=1e-5)
    path = ud.sample(guide, (6, 2), "ddim", steps=12, trajectory=True, **condition)
    assert path.evaluations == 12


def test_guides_around_guides(labelled: Any, schedule: Schedule) -> None:
    """A threshold around an interval of rescaled guidance, at any rank of data."""
    means = torch.linspace(-1, 1, 48, dtype=torch.float64).reshape(4, 3, 2, 2)
    oracle = ud.exact.GaussianMixture(
        means, None, schedule, std=0.2, labels=torch.tensor([0, 0, 1, 1])
    )
    inner = guidance.Interval(guidance.Rescaled(oracle, 4.0), 0.1, 10.0)
    x = ud.sample(
        *(guidance.StaticThreshold(inner), (3, 3, 2, 2), "exponential-adams"),  # ends with x0_hat
        steps=10,
        label=torch.tensor([0, 1, 0]),
    )
    assert x.shape == (3, 3, 2, 2)
    assert float(x.abs().max()) <= 1 + 1e-6
