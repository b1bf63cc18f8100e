from __future__ import annotations

import pytest
import torch

from undiffuse import storage
from undiffuse.data.dataset import InMemory
from undiffuse.data.open import open_data
from undiffuse.errors import UndiffuseError
from undiffuse.evaluation import features


@pytest.fixture
def digits(judge):
    """The network of the digits and where it is kept."""
    return features.open_features(judge), judge


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(features, "STEPS", 12)


def test_digits_are_recognised_and_spread_evenly_over_the_features(digits):
    known, _ = digits
    assert known.accuracy >= 0.95
    data = open_data("digits")
    points = known(data.batch(torch.arange(len(data))).x)
    assert points.dtype == torch.float64
    assert points.shape == (len(data), 64)
    assert abs(float(points.var(0, correction=0).mean()) - 1) < 0.05


def test_labels_are_what_the_features_separate(digits):
    """Digits of one kind lie nearer to each other than digits of two kinds."""
    known, _ = digits
    held = open_data("digits").held_out
    x, labels = held.batch(torch.arange(len(held)))
    apart, same = torch.cdist(known(x), known(x)), labels[:, None] == labels
    assert float(apart[~same].median()) > 1.5 * float(apart[same].median())


def test_the_batch_does_not_matter(digits):
    known, _ = digits
    x = open_data("digits").batch(range(90)).x
    single = torch.cat([known(x[i : i + 1]) for i in range(90)])
    torch.testing.assert_close(single, known(x), atol=1e-5, rtol=1e-5)


def test_what_is_kept_is_small_safe_and_the_same(digits, monkeypatch):
    known, folder = digits
    monkeypatch.setattr(features, "learn", None)  # nothing is trained again
    again = features.kept(open_data("digits"), folder)
    x = open_data("digits").batch(range(20)).x
    assert torch.equal(again(x), known(x))
    assert torch.equal(again.predict(x), known.predict(x))
    assert (again.accuracy, again.facts) == (known.accuracy, known.facts)
    names = {file.name for file in folder.iterdir()}
    assert names == {"weights.safetensors", "judge.json", "manifest.json"}
    assert (folder / "weights.safetensors").stat().st_size < 110_000


def test_it_is_a_function_of_data_and_seed(bars, quick):
    state = torch.get_rng_state()
    x = bars(40, 2).batch(range(40)).x
    one, same, other = (features.learn(bars(100, 0), bars(40, 1), seed) for seed in (3, 3, 4))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(one(x), same(x))
    assert one.accuracy == same.accuracy >= 0.95
    assert not torch.equal(one(x), other(x))


def test_other_data_or_another_seed_gets_a_new_network(bars, quick, tmp_path):
    first = features.kept(bars(100, 0, bars(20, 1)), tmp_path / "judge")
    for data, seed in ((bars(100, 5, bars(20, 1)), 0), (bars(100, 0, bars(20, 1)), 1)):
        made = features.kept(data, tmp_path / "judge", seed)
        assert made.facts != first.facts
        assert features.open_features(tmp_path / "judge").facts == made.facts


def test_a_folder_of_something_else_is_left_alone(bars, quick, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UndiffuseError, match="something else"):
        features.kept(bars(20, 0), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_damaged_network_is_refused_by_name_and_replaced_where_it_is_kept(bars, quick, tmp_path):
    data, folder = bars(100, 0, bars(20, 1)), tmp_path / "judge"
    known = features.kept(data, folder)
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(UndiffuseError, match=r"weights\.safetensors is damaged"):
        features.open_features(folder)
    x = data.batch(range(5)).x
    assert torch.equal(features.kept(data, folder)(x), known(x))
    storage.write(folder, {"weights": {}}, {"judge": {"shape": [1, 8, 8], "classes": 2}})
    with pytest.raises(UndiffuseError, match="no judge of this version"):
        features.open_features(folder)


@pytest.mark.parametrize("shape", [(70, 17, 3), (5, 9, 1), (1, 1, 1), (33, 20, 4)])
def test_any_shape_of_image_can_be_learned(shape, monkeypatch):
    monkeypatch.setattr(features, "STEPS", 2)
    x = torch.randint(256, (30, *shape), dtype=torch.uint8, generator=torch.manual_seed(0))
    dataset = InMemory(x, labels=torch.arange(30) % 3)
    known = features.learn(dataset, None)
    images = dataset.batch(range(30)).x
    assert known(images).shape == (30, 64)
    assert set(known.predict(images).tolist()) <= {0, 1, 2}


def test_what_cannot_be_learned_or_shown_is_refused(bars, quick):
    with pytest.raises(UndiffuseError, match="no labels to tell apart"):
        features.learn(InMemory(torch.zeros(20, 1, 8, 8)), None)
    with pytest.raises(UndiffuseError, match="no images"):
        features.learn(InMemory(torch.zeros(20, 2), labels=torch.arange(20) % 2), None)
    known = features.learn(bars(40, 0), None)
    with pytest.raises(UndiffuseError, match=r"shape \[1, 20, 40\], not \[1, 8, 8\]"):
        known(torch.zeros(2, 1, 8, 8))
