"""The promise about seeds, with a convolutional network, whose bits depend on the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

import undiffuse as ud
from undiffuse import catalogue
from undiffuse.denoiser import Denoiser, Learned
from undiffuse.noise import Stream
from undiffuse.predictions.edm import EDMNetwork
from undiffuse.samplers.base import Memory, Noise, Sampler

RULES = [*catalogue.names("samplers"), "ddim(eta=1)", "ddpm(variance=1)"]
SHAPE = (3, 8, 8)


class Convolutions(nn.Module):
    """A small float32 network with fixed weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 3, 3, padding=1)
        )
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        drawn: Tensor = self.layers(x + c_noise[:, None, None, None])
        return drawn


@pytest.fixture(scope="module")
def model() -> Denoiser:
    return Learned(Convolutions(), EDMNetwork(), ud.schedules.VP())


@dataclass(frozen=True)
class NoiseAlone(Sampler):
    """A rule whose sample is the noise of its last step."""

    name: ClassVar[str] = "noise-alone"

    @property
    def stochastic(self) -> bool:
        return True

    def step(
        self, denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        denoiser(x, t)
        return noise(x), None


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_noise_is_bit_equal_for_any_batch(model: Denoiser, batch_size: int) -> None:
    shape = (64, *SHAPE)
    whole = ud.sample(model, shape, NoiseAlone(), steps=3, seed=5, trajectory=True)
    parts = ud.sample(
        model, shape, NoiseAlone(), steps=3, seed=5, trajectory=True, batch_size=batch_size
    )
    assert torch.equal(whole.x, parts.x)  # the start, and the noise of each step


def test_noise_is_independent_between_samples_steps_and_seeds(model: Denoiser) -> None:
    drawn = [
        ud.sample(model, (8, *SHAPE), NoiseAlone(), steps=3, seed=seed, trajectory=True).x
        for seed in (0, 1)
    ]
    rows = torch.cat(drawn).flatten(2).flatten(0, 1)  # [2 seeds x 4 records x 8 samples, 192]
    correlation = torch.corrcoef(rows) - torch.eye(len(rows))
    assert float(correlation.abs().max()) < 6 / 192**0.5
    assert float(rows.mean().abs()) < 4 / rows.numel() ** 0.5
    assert float(rows.var()) == pytest.approx(1, abs=4 * (2 / rows.numel()) ** 0.5)


@pytest.mark.parametrize("rule", RULES)
def test_samples_agree_for_any_batch(model: Denoiser, rule: str) -> None:
    shape = (64, *SHAPE)
    whole = ud.sample(model, shape, rule, steps=5, seed=1)
    for batch_size in (1, 7):
        parts = ud.sample(model, shape, rule, steps=5, seed=1, batch_size=batch_size)
        assert float((whole - parts).abs().max()) < 1e-4
        pixels = [(x.clamp(-1, 1) * 127.5 + 127.5).round() for x in (whole, parts)]
        assert float((pixels[0] == pixels[1]).float().mean()) >= 0.999


@pytest.mark.parametrize("rule", RULES)
def test_samples_are_bit_equal_at_equal_batch_shape(model: Denoiser, rule: str) -> None:
    shape = (16, *SHAPE)
    one, two = (ud.sample(model, shape, rule, steps=5, seed=1, batch_size=8) for _ in range(2))
    assert torch.equal(one, two)


@pytest.mark.parametrize("rule", RULES)
def test_first_index_continues_the_sequence(model: Denoiser, rule: str) -> None:
    whole = ud.sample(model, (12, *SHAPE), rule, steps=4, seed=2, batch_size=4)
    later = ud.sample(model, (8, *SHAPE), rule, steps=4, seed=2, batch_size=4, first_index=4)
    assert torch.equal(whole[4:], later)


@pytest.mark.parametrize("rule", RULES)
def test_another_seed_gives_other_samples(model: Denoiser, rule: str) -> None:
    one, two = (ud.sample(model, (4, *SHAPE), rule, steps=4, seed=seed) for seed in (0, 1))
    assert float((one - two).abs().amin(0).max()) > 0.01
    assert len(one.flatten(1).unique(dim=0)) == 4


def test_labels_travel_with_their_samples() -> None:
    points, labels = torch.tensor([[-1.0], [0.0], [1.0]]), torch.tensor([0, 1, 2])
    oracle = ud.exact.FiniteSet(points, ud.schedules.Flow(), labels=labels)
    label = torch.arange(10) % 3
    for batch_size in (1, 3, None):
        x = ud.sample(oracle, (10, 1), steps=8, label=label, batch_size=batch_size)
        torch.testing.assert_close(x, points[label], rtol=0, atol=1e-4)


def test_a_stream_does_not_know_its_batch() -> None:
    whole = Stream(7, tuple(range(64))).draw((5,), step=3)
    for size in (1, 7, 64):
        parts = [Stream(7, tuple(range(i, min(i + size, 64)))) for i in range(0, 64, size)]
        assert torch.equal(torch.cat([part.draw((5,), step=3) for part in parts]), whole)
