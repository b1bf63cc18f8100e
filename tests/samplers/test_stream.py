"""A stream of batches: the samples of `sample`, one batch in memory at a time."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch

import undiffuse as ud
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.errors import UndiffuseError
from undiffuse.samplers import stream

LABELS = torch.tensor([0, 1, 2])
ORACLE = ud.exact.GaussianMixture(
    torch.tensor([[-1.0, 0.0], [1.0, 0.4], [0.0, 1.2]]),
    None,
    ud.schedules.VP(),
    std=0.3,
    labels=LABELS,
)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "exponential-adams"])
@pytest.mark.parametrize("batch_size", [1, 4, 11, 50])
def test_its_batches_are_the_samples(sampler: str, batch_size: int) -> None:
    options: dict[str, Any] = {"steps": 6, "seed": 3, "first_index": 7, "batch_size": batch_size}
    label = torch.arange(11) % 3
    whole = ud.sample(ORACLE, (11, 2), sampler, label=label, **options)
    parts = list(stream(ORACLE, (11, 2), sampler, label=label, **options))
    assert [len(x) for x in parts[:-1]] == [batch_size] * (len(parts) - 1)
    assert all(x.dtype == torch.float32 for x in parts)
    assert torch.equal(torch.cat(parts), whole)


def test_a_start_is_taken_batch_by_batch() -> None:
    x_T = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)).double()
    parts = list(stream(ORACLE, (5, 2), steps=4, x_T=x_T, batch_size=2))
    assert parts[0].dtype == torch.float64
    assert torch.equal(torch.cat(parts), ud.sample(ORACLE, (5, 2), steps=4, x_T=x_T, batch_size=2))


def test_nothing_is_drawn_before_it_is_asked_for_nor_kept_after() -> None:
    class Counting(Denoiser):
        schedule = ORACLE.schedule
        calls = 0

        def denoise(self, x_t: torch.Tensor, t: torch.Tensor, **c: Condition) -> torch.Tensor:
            self.calls += 1
            return ORACLE(x_t, t)

    model = Counting()
    batches = stream(model, (10**9, 2), "ddim", steps=5, batch_size=3)
    assert model.calls == 0
    first = next(batches)
    assert model.calls == 5
    seen = weakref.ref(first)
    del first
    next(batches)
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"steps": 0}, "steps must be"),
        ({"sampler": "dimm"}, "did you mean 'ddim'"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"shape": (0, 2)}, "N >= 1"),
    ],
)
def test_mistakes_are_refused_in_the_call(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UndiffuseError, match=sentence):
        stream(ORACLE, **{"shape": (4, 2), **options})
