from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from undiffuse import catalogue
from undiffuse.data import Digits, Mixture, Moons
from undiffuse.errors import UndiffuseError


class TestDigits:
    def test_every_digit_is_there_once(self) -> None:
        data = Digits().open()
        held = data.held_out
        assert held is not None
        assert (data.shape, data.class_names) == ((1, 8, 8), tuple("0123456789"))
        assert len(data) + len(held) == 1797
        bunch = load_digits()
        expected = np.concatenate([bunch.data, bunch.target[:, None]], axis=1)
        found = []
        for part in (data, held):
            x, label = part.batch(range(len(part)))
            assert label is not None
            counts = ((x + 1) * 127.5).round() * 16 / 255  # back to 0 ... 16
            assert (counts - counts.round()).abs().max() < 0.04
            found.append(torch.cat([counts.round().flatten(1), label[:, None]], 1).numpy())
        assert sorted(map(tuple, np.concatenate(found))) == sorted(map(tuple, expected))

    def test_a_tenth_of_every_digit_is_held_out(self) -> None:
        data = Digits().open()
        assert data.labels is not None
        assert data.held_out is not None
        assert data.held_out.labels is not None
        kept, held = data.labels.bincount(), data.held_out.labels.bincount()
        assert torch.equal(held, (kept + held) // 10)

    def test_twice_the_same(self) -> None:
        assert Digits().open().fingerprint() == Digits().open().fingerprint()


class TestToys:
    @pytest.mark.parametrize("name", ["moons", "mixture"])
    def test_the_seed_decides(self, name: str) -> None:
        kind = catalogue.load("data", name)
        first, again, other = (kind(count=50, seed=seed).open() for seed in (3, 3, 4))
        assert first.fingerprint() == again.fingerprint() != other.fingerprint()
        assert first.held_out.fingerprint() == again.held_out.fingerprint()
        assert not torch.equal(first.held_out.values, first.values[:5])
        assert (len(first), len(first.held_out), first.shape) == (50, 5, (2,))

    def test_mixture_has_its_moments(self) -> None:
        source = Mixture(count=40_000, std=0.2)
        data = source.open()
        x, label = data.batch(range(len(data)))
        assert label is not None
        assert torch.allclose(source.means.norm(dim=1), torch.ones(8, dtype=torch.float64))
        assert abs(float(source.weights.sum()) - 1) < 1e-12
        counts = label.bincount(minlength=8)
        assert (counts / len(data) - source.weights).abs().max() < 5 * math.sqrt(0.11 / 40_000)
        for mode in range(8):
            cluster = x[label == mode].double()
            error = 0.2 / math.sqrt(len(cluster))
            assert (cluster.mean(0) - source.means[mode]).abs().max() < 5 * error
            assert (torch.cov(cluster.T) - 0.04 * torch.eye(2)).abs().max() < 10 * 0.2 * error

    def test_moons_without_noise_are_half_circles(self) -> None:
        data = Moons(count=500, noise=0.0).open()
        x, label = data.batch(range(500))
        assert label is not None
        x = x.double() + torch.tensor([0.5, 0.25])
        upper, lower = x[label == 0], x[label == 1] - torch.tensor([1.0, 0.5])
        assert (upper.norm(dim=1) - 1).abs().max() < 1e-6
        assert (lower.norm(dim=1) - 1).abs().max() < 1e-6
        assert upper[:, 1].min() >= -1e-6
        assert lower[:, 1].max() <= 1e-6

    def test_scale_is_about_one(self) -> None:
        for source in (Moons(), Mixture()):
            facts = source.open().facts()
            assert abs(facts["mean"]) < 0.05
            assert 0.5 < facts["std"] < 1.0

    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            (Moons, {"count": 0}),
            (Moons, {"count": 1.5}),
            (Moons, {"noise": -0.1}),
            (Moons, {"noise": math.nan}),
            (Moons, {"seed": -1}),
            (Mixture, {"modes": 0}),
            (Mixture, {"std": math.inf}),
            (Mixture, {"radius": -1.0}),
            (Mixture, {"count": True}),
        ],
    )
    def test_options_are_checked(self, kind: type, options: dict[str, float]) -> None:
        with pytest.raises(UndiffuseError, match=f"{kind.__name__}: {next(iter(options))} must be"):
            kind(**options)

    def test_the_smallest(self) -> None:
        assert len(Moons(count=1).open()) == len(Mixture(count=1, modes=1).open()) == 1


@pytest.mark.parametrize("source", [Digits(), Moons(count=5), Mixture(std=0.3)])
def test_a_source_is_json(source: object) -> None:
    assert catalogue.build(catalogue.describe(source)) == source
