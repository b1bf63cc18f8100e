from __future__ import annotations

import torch

from undiffuse import catalogue
from undiffuse.data.dataset import InMemory
from undiffuse.evaluation.distribution import Reference
from undiffuse.metrics.frechet import Frechet


def cloud(count: int, seed: int, held_out: InMemory | None = None) -> InMemory:
    generator = torch.Generator().manual_seed(seed)
    return InMemory(torch.randn(count, 3, generator=generator), held_out=held_out)


def all_of(dataset: InMemory) -> torch.Tensor:
    return dataset.batch(torch.arange(len(dataset))).x


def test_real_samples_lie_within_the_spread_of_real_samples_and_others_do_not():
    reference = Reference(cloud(1500, 0, cloud(1000, 1)))
    fresh = all_of(cloud(200, 2))
    for factor, within in ((1.0, True), (1.5, False)):
        found = reference.figures(factor * fresh)
        assert (found["compared"], found["draws"]) == (200, 5)
        for name in ("frechet", "energy", "kernel"):
            real, value = found[name]["real"], found[name]["generated"]
            assert real["smallest"] <= real["median"] <= real["largest"]
            assert (value < 2 * real["largest"]) == within, name


def test_every_metric_is_there_and_its_figures_are_its_own():
    training, held_out = cloud(60, 0), cloud(40, 1)
    reference = Reference(InMemory(training.values, held_out=held_out))
    x = all_of(cloud(40, 2)) + 1
    found = reference.figures(x)
    assert set(found) == {"compared", "draws", *catalogue.names("metrics")}
    assert found["draws"] == 1
    assert abs(found["frechet"]["generated"] - Frechet()(x, training.values)) < 1e-9
    floor = Frechet()(held_out.values, training.values)
    assert all(abs(value - floor) < 1e-9 for value in found["frechet"]["real"].values())


def test_as_many_are_compared_as_were_held_out():
    reference, x = Reference(cloud(100, 0, cloud(30, 1))), all_of(cloud(50, 2))
    found = reference.figures(x)
    assert (found["compared"], found["draws"]) == (30, 1)
    assert found == reference.figures(x[:30])


def test_without_held_out_samples_every_tenth_is_kept_from_the_comparison():
    values = torch.zeros(100, 2)
    values[9::10] = 5.0
    training, held_out = Reference(InMemory(values)).real()
    assert (len(training), len(held_out)) == (90, 10)
    assert float(training.max()) == 0
    assert float(held_out.min()) == 5


def test_labels_that_alternate_do_not_make_an_unfair_sample():
    """Every 12th of these would be of one class only."""
    values = (torch.arange(2400) % 12 == 0).float()[:, None].expand(-1, 2).contiguous()
    reference = Reference(InMemory(values, held_out=InMemory(values[:240])))
    for points in reference.real():
        assert abs(float(points[:200].mean()) - 1 / 12) < 0.06


def test_too_few_samples_are_told_by_none():
    found = Reference(cloud(100, 0, cloud(30, 1))).figures(all_of(cloud(3, 2)))
    assert found["precision"] is found["coverage"] is None
    assert found["frechet"]["generated"] > 0
    one = Reference(cloud(100, 0, cloud(30, 1))).figures(all_of(cloud(1, 2)))
    assert one["frechet"] is one["kernel"] is None
    assert one["energy"]["generated"] > 0
