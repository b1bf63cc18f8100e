from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from undiffuse.data import Batch, Dataset, Digits, InMemory, Mixture
from undiffuse.data.dataset import from_bytes
from undiffuse.errors import UndiffuseError

IMAGES = torch.randint(0, 256, (12, 3, 5, 2), generator=torch.manual_seed(0), dtype=torch.uint8)
SETS: dict[str, Dataset] = {
    "bytes": InMemory(IMAGES, labels=torch.arange(12) % 4),
    "floats": InMemory(torch.randn(12, 2, 3, 3, dtype=torch.float64)),
    "vectors": Mixture(count=12).open(),
}


@given(st.sampled_from(sorted(SETS)), st.lists(st.integers(0, 11), max_size=20))
def test_a_batch_is_its_single_samples(name: str, indices: list[int]) -> None:
    data = SETS[name]
    x, label = data.batch(indices)
    assert x.shape == (len(indices), *data.shape)
    assert (x.dtype, x.is_contiguous()) == (torch.float32, True)
    assert (label is None) == (data.labels is None)
    for place, index in enumerate(indices):
        alone = data.batch([index])
        assert torch.equal(x[place], alone.x[0])
        if label is not None and alone.label is not None:
            assert label[place] == alone.label[0]
    assert torch.equal(x, data.batch(torch.tensor(indices, dtype=torch.int32)).x)


def test_bytes_become_minus_one_to_one_and_back_exactly() -> None:
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1)
    x = from_bytes(every)
    assert (x.min(), x.max()) == (-1.0, 1.0)
    exact = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    assert (x.flatten().double() - exact).abs().max() <= 2**-24
    assert torch.equal(((x + 1) * 127.5).round().to(torch.uint8).flatten(), every.flatten())


def test_channels_go_first() -> None:
    x = SETS["bytes"].batch([3]).x
    assert SETS["bytes"].shape == (2, 3, 5)
    assert x[0, 1, 2, 4] == IMAGES[3, 2, 4, 1] / 127.5 - 1


def test_images_stay_bytes() -> None:
    data = Digits().open()
    assert isinstance(data, InMemory)
    assert (data.values.dtype, data.values.shape[1:]) == (torch.uint8, (8, 8, 1))


def test_batches_do_not_share_memory_with_the_data() -> None:
    for data in SETS.values():
        before = data.batch([1]).x.clone()
        data.batch([1]).x.add_(5)
        assert torch.equal(data.batch([1]).x, before)


@pytest.mark.parametrize("indices", [[12], [-1], [0, 99], [[0, 1]]])
def test_indices_out_of_range(indices: Any) -> None:
    with pytest.raises(IndexError, match="from 0 to 11"):
        SETS["bytes"].batch(indices)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (torch.zeros(0, 2), {}, "no samples"),
        (torch.zeros(3), {}, "floats"),
        (torch.zeros(3, 2, dtype=torch.int64), {}, "floats"),
        (torch.zeros(3, 2, 2, dtype=torch.uint8), {}, "uint8"),
        (torch.tensor([[0.0, float("nan")]]), {}, "finite"),
        (torch.zeros(3, 2), {"labels": torch.zeros(2, dtype=torch.int64)}, r"shape \[3\]"),
        (torch.zeros(3, 2), {"labels": torch.zeros(3)}, "int64"),
        (torch.zeros(3, 2), {"labels": torch.tensor([0, -1, 0])}, "negative"),
        (torch.zeros(1, 2), {"labels": torch.tensor([1]), "class_names": ("a",)}, "label 1"),
        (torch.zeros(1, 2), {"held_out": InMemory(torch.zeros(1, 3))}, "held-out"),
    ],
)
def test_mistakes(values: torch.Tensor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UndiffuseError, match=message):
        InMemory(values, **options)


def test_facts() -> None:
    values = torch.tensor([[1.0, 3.0], [5.0, 7.0]])
    labels = torch.tensor([0, 1])
    data = InMemory(values, source="mine", labels=labels, class_names=("a", "b"))
    facts = data.facts()
    assert json.loads(json.dumps(facts)) == facts
    assert facts.pop("fingerprint") == data.fingerprint()
    assert facts == {
        "source": "mine",
        "kind": "vector",
        "count": 2,
        "held_out": 0,
        "skipped": 0,
        "shape": [2],
        "classes": 2,
        "class_names": ["a", "b"],
        "mean": 4.0,
        "std": 5**0.5,
    }


def test_facts_of_a_large_set_come_from_all_over_it() -> None:
    """Sorted data: the first samples alone would mislead."""
    data = InMemory(torch.linspace(0, 1, 100_000)[:, None])
    facts = data.facts()
    assert abs(facts["mean"] - 0.5) < 1e-3
    assert abs(facts["std"] - 12**-0.5) < 1e-3


def test_fingerprint_follows_content() -> None:
    labels = torch.tensor([0, 1])
    sets = [
        InMemory(torch.tensor([[0.0], [1.0]])),
        InMemory(torch.tensor([[0.0, 1.0]])),
        InMemory(torch.tensor([[0.0], [2.0]])),
        InMemory(torch.tensor([[0.0], [1.0]]), labels=labels),
        InMemory(torch.tensor([[0.0], [1.0]]), labels=1 - labels),
    ]
    assert len({data.fingerprint() for data in sets}) == len(sets)
    again = InMemory(torch.tensor([[0.0], [1.0]]), source="elsewhere")
    assert again.fingerprint() == sets[0].fingerprint()


def test_a_batch_unpacks() -> None:
    x, label = Batch(torch.zeros(1, 2), None)
    assert (x.shape, label) == ((1, 2), None)
