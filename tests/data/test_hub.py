"""`hf:NAME`: the library `datasets` reads a local folder as it reads a name of the hub."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from undiffuse.data import open_data
from undiffuse.errors import UndiffuseError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def part(*shades: int) -> datasets.Dataset:
    classes = datasets.ClassLabel(names=["dark", "light"])
    features = datasets.Features({"image": datasets.Image(), "label": classes})
    pictures = [Image.fromarray(np.full((4, 6), shade, np.uint8)) for shade in shades]
    rows = {"image": pictures, "label": [int(shade > 127) for shade in shades]}
    return datasets.Dataset.from_dict(rows, features=features)


def values(dataset: Any) -> list[int]:
    x = dataset.batch(range(len(dataset))).x
    return ((x[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


def test_tables_as_the_hub_keeps_them(tmp_path: Path) -> None:
    folder = tmp_path / "name" / "data"
    folder.mkdir(parents=True)
    part(200, 3, 220).to_parquet(folder / "train-00000-of-00002.parquet")
    part(5).to_parquet(folder / "train-00001-of-00002.parquet")
    part(6, 7).to_parquet(folder / "test-00000-of-00001.parquet")
    found = open_data(f"hf:{tmp_path / 'name'}")
    assert (found.shape, values(found)) == ((1, 4, 6), [200, 3, 220, 5])
    assert found.class_names == ("dark", "light")
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0, 1, 0]
    assert found.held_out is not None
    assert values(found.held_out) == [6, 7]
    assert found.held_out.labels is not None
    assert found.held_out.labels.tolist() == [0, 0]
    assert open_data(f"hf:{tmp_path / 'name'}(size=2)").shape == (1, 2, 2)


def test_files_as_the_hub_keeps_them(tmp_path: Path) -> None:
    """Images beside each other: the table has their paths, and they lie in the folder."""
    for name, shade in {"cat/1": 1, "cat/2": 2, "dog/3": 3}.items():
        path = tmp_path / "name" / "train" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), shade).save(path)
    found = open_data(f"hf:{tmp_path / 'name'}")
    assert values(found) == [1, 2, 3]
    assert found.class_names == ("cat", "dog")
    assert found.held_out is None


def test_what_a_link_leads_out_to_is_left_out(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 9).save(tmp_path / "secret.png")
    folder = tmp_path / "name" / "train"
    folder.mkdir(parents=True)
    for shade in (1, 2):
        Image.new("L", (4, 4), shade).save(folder / f"{shade}.png")
    (folder / "3.png").symlink_to(tmp_path / "secret.png")
    found = open_data(f"hf:{tmp_path / 'name'}")
    assert values(found) == [1, 2]
    assert len(found.skipped) == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf:", "no file, folder or built-in data set 'hf:'.*hf:NAME"),
        ("hf:/nowhere/at all", "cannot load 'hf:/nowhere/at all'.*check the name"),
        ("hf:two words", "cannot load 'hf:two words'.*check the name"),
        ("hf:name(colour=3)", "data set 'hub' has no option 'colour'"),
        ("hub", "no file, folder or built-in data set 'hub'"),
    ],
)
def test_mistakes(source: str, message: str) -> None:
    with pytest.raises(UndiffuseError, match=message):
        open_data(source)


def test_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: Any, **options: Any) -> None:
        raise ConnectionError("Couldn't reach 'a/b' on the Hub (offline).\nMore\nlines")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UndiffuseError, match=r"'hf:a/b' \(Couldn't reach 'a/b' on the Hub \(off"):
        open_data("hf:a/b")


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UndiffuseError, match=r"pip install undiffuse\[hub\]"):
        open_data("hf:a/b")
