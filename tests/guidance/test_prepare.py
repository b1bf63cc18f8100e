"""Constant conditions are encoded once a batch, and the answers are the same to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import undiffuse as ud
from undiffuse import guidance
from undiffuse.denoiser import Denoiser, Learned
from undiffuse.predictions import V

LABEL = torch.tensor([0, 1, 2, 0, 1, 2])


class Encoding(nn.Module):
    """A network whose conditions can be encoded beforehand; it counts how often they are."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Embedding(4, 8)
        self.first, self.last = nn.Linear(2, 8), nn.Linear(8, 2)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(0.5 * torch.randn(weight.shape, generator=generator))
        self.encoded: list[int] = []

    def encode(self, batch: int, label: Tensor | None = None) -> dict[str, Tensor]:
        self.encoded.append(batch)
        label = torch.full((batch,), -1) if label is None else label
        return {"embedding": self.rows(label + 1)}

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        label: Tensor | None = None,
        encoded: dict[str, Tensor] | None = None,
    ) -> Tensor:
        known = self.encode(len(x), label) if encoded is None else encoded
        h = self.first(x) + known["embedding"] + c_noise[:, None]
        drawn: Tensor = self.last(torch.tanh(h))
        return drawn


class Raw(nn.Module):
    """The same network for which nothing can be done beforehand."""

    def __init__(self, network: Encoding) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, c_noise: Tensor, label: Tensor | None = None) -> Tensor:
        drawn: Tensor = self.network(x, c_noise, label)
        return drawn


def log_p(x_t: Tensor, t: Tensor, x0_hat: Tensor, y: Tensor) -> Tensor:
    return -(y - x0_hat[:, 0]).square()


def classifier(x_t: Tensor, t: Tensor) -> Tensor:
    return torch.cat([x_t, x_t[:, :1]], 1).log_softmax(1)


# name -> (the guide, its conditions, the batches that are encoded for 6 samples)
GUIDES: dict[str, tuple[Callable[[Any], Denoiser], dict[str, Tensor], list[int]]] = {
    "none": (lambda d: d, {"label": LABEL}, [6]),
    "without label": (lambda d: d, {}, [6]),
    "rescheduled": (lambda d: d.with_schedule(ud.schedules.EDM()), {"label": LABEL}, [6]),
    "cfg": (lambda d: guidance.ClassifierFree(d, 2.0), {"label": LABEL}, [12]),
    "cfg w=1": (lambda d: guidance.ClassifierFree(d, 1.0), {"label": LABEL}, [6]),
    "cfg w=0": (lambda d: guidance.ClassifierFree(d, 0.0), {"label": LABEL}, [6]),
    "cfg++": (
        lambda d: guidance.ClassifierFreePlusPlus(d, 0.6, [1.0, 0.5]),
        {"label": LABEL},
        [12],
    ),
    "rescaled": (lambda d: guidance.Rescaled(d, 2.0), {"label": LABEL}, [12]),
    "negative": (
        lambda d: guidance.Negative(d, 2.0),
        {"label": LABEL, "negative_label": LABEL.roll(1)},
        [12],
    ),
    "composed": (
        lambda d: guidance.Composed(d, (1.0, -0.5)),
        {"label": torch.stack([LABEL, LABEL.roll(1)], 1)},
        [18],
    ),
    "interval": (
        lambda d: guidance.Interval(guidance.ClassifierFree(d, 2.0), 0.2, 5.0),
        {"label": LABEL},
        [12, 6],
    ),
    "autoguidance": (lambda d: guidance.Autoguidance(d, d, 1.5), {"label": LABEL}, [6, 6]),
    "threshold": (
        lambda d: guidance.DynamicThreshold(guidance.ClassifierFree(d, 2.0)),
        {"label": LABEL},
        [12],
    ),
    "classifier": (
        lambda d: guidance.ClassifierGuided(d, classifier),
        {"label": LABEL},
        [6],
    ),
    "likelihood": (
        lambda d: guidance.LikelihoodGuide(guidance.ClassifierFree(d, 2.0), log_p, ["y"]),
        {"label": LABEL, "y": torch.linspace(-1, 1, 6).double()},
        [12],
    ),
}


@pytest.mark.parametrize("name", GUIDES)
def test_once_a_batch_and_equal_to_the_bit(name: str) -> None:
    make, condition, batches = GUIDES[name]
    network = Encoding()
    guide, raw = (make(Learned(n, V(), ud.schedules.VP())) for n in (network, Raw(network)))
    options: dict[str, Any] = {"steps": 8, "seed": 3, "grid": "log-snr", **condition}
    x = ud.sample(guide, (6, 2), **options)
    assert sorted(network.encoded) == sorted(batches)
    assert torch.equal(x, ud.sample(raw, (6, 2), **options))
    network.encoded.clear()
    parts = ud.sample(guide, (6, 2), batch_size=4, **options)
    torch.testing.assert_close(parts, x, rtol=0, atol=1e-4)
    assert len(network.encoded) == 2 * len(batches)


@pytest.mark.parametrize("name", GUIDES)
def test_prepared_conditions_give_the_answers_of_raw_ones(name: str) -> None:
    """In a call too, with a time for all or one for each sample."""
    make, condition, _ = GUIDES[name]
    guide = make(Learned(Encoding(), V(), ud.schedules.VP()))
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)).double()
    ready = guide.prepare(6, **condition)
    for t in (torch.tensor(0.4), torch.linspace(0.05, 0.9, 6)):
        assert torch.equal(guide(x, t.double(), **ready), guide(x, t.double(), **condition))


def test_a_network_with_an_encode_of_its_own_is_left_alone() -> None:
    """What counts is that its forward takes `encoded`."""

    class Own(Raw):
        def encode(self, picture: Tensor) -> Tensor:
            raise AssertionError

    denoiser = Learned(Own(Encoding()), V(), ud.schedules.VP())
    assert denoiser.prepare(6, label=LABEL) == {"label": LABEL}
    assert bool(torch.isfinite(ud.sample(denoiser, (6, 2), steps=2, label=LABEL)).all())
