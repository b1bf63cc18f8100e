"""`hf:NAME`: the library `datasets` reads a local folder as it reads a name of the hub."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from undiffuse.data import images, open_data
from undiffuse.data.decode import Undecodable
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


@pytest.mark.parametrize("written", ["hf:parquet", "hf:./parquet/", "hf:parquet (1)", "hf:."])
def test_a_folder_is_read_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    """Whatever it is called: the library would take some names for those of its readers."""
    for name in ("parquet", "parquet (1)"):
        (tmp_path / name).mkdir()
        part(7, 200).to_parquet(tmp_path / name / "train.parquet")
    part(1, 2, 3).to_parquet(tmp_path / "other.parquet")
    monkeypatch.chdir(tmp_path / "parquet" if written == "hf:." else tmp_path)
    found = open_data(written)
    assert values(found) == [7, 200]
    assert values(open_data(f"{written} (size=2)")) == [7, 200]


def test_a_configuration_can_be_chosen(tmp_path: Path) -> None:
    for name, shade in {"a": 1, "2012": 2}.items():
        (tmp_path / "name" / name).mkdir(parents=True)
        part(shade, shade).to_parquet(tmp_path / "name" / name / "train.parquet")
    files = "".join(
        f'- config_name: "{k}"\n  data_files: {k}/train.parquet\n' for k in ("a", "2012")
    )
    (tmp_path / "name" / "README.md").write_text(f"---\nconfigs:\n{files}---\n")
    assert values(open_data(f"hf:{tmp_path / 'name'}(config=2012)")) == [2, 2]
    with pytest.raises(UndiffuseError, match=r"pick one among the available configs.*2012"):
        open_data(f"hf:{tmp_path / 'name'}")


def test_an_archive_made_anew_is_read_anew(tmp_path: Path) -> None:
    (tmp_path / "name").mkdir()
    for shades in ((1, 2), (3, 4)):
        with zipfile.ZipFile(tmp_path / "name" / "train.zip", "w") as archive:
            for number, shade in enumerate(shades):
                Image.new("L", (4, 4), shade).save(tmp_path / "x.png")
                archive.write(tmp_path / "x.png", f"{number}.png")
        assert values(open_data(f"hf:{tmp_path / 'name'}")) == list(shades)


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
    assert [reason for _, reason in found.skipped] == [
        "it lies outside the folders of this data set"
    ]


def test_an_archive_as_the_hub_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "name").mkdir()
    with zipfile.ZipFile(tmp_path / "name" / "train.zip", "w") as archive:
        for shade in (1, 2, 3):
            Image.new("L", (4, 4), shade).save(tmp_path / "x.png")
            archive.write(tmp_path / "x.png", f"{shade}.png")
        archive.writestr("4.png", "no picture")
    found = open_data(f"hf:{tmp_path / 'name'}")
    assert (values(found), found.labels) == ([1, 2, 3], None)
    assert [name for name, _ in found.skipped] == ["row 3"]


def test_paths_in_a_table(tmp_path: Path) -> None:
    """What is no file, or gone since, is told; nothing waits for a pipe, nothing leads out."""
    folder = tmp_path / "name"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    Image.new("L", (4, 4), 9).save(tmp_path / "secret.png")
    for shade in range(1, 6):
        Image.new("L", (4, 4), shade).save(folder / f"{shade}.png")
    bad = {
        f"{folder}/pipe": "it is not a regular file",
        f"{folder}/gone.png": "it cannot be read",
        f"{folder}/../secret.png": "it lies outside",
        f"zip://a.png::{tmp_path}/secret.zip": "it lies outside",
        f"zip://a.png::{folder}/1.png": "it cannot be read",
    }
    good = [f"{folder}/{shade}.png" for shade in range(1, 6)]
    rows = [{"bytes": None, "path": path} for path in (*good, *bad)]
    parquet.write_table(pa.table({"image": rows}), folder / "train.parquet")
    found = open_data(f"hf:{folder}")
    assert values(found) == [1, 2, 3, 4, 5]
    assert len(found.skipped) == len(bad)
    for (_, reason), told in zip(found.skipped, bad.values(), strict=True):
        assert told in reason


def test_a_file_that_is_gone_since(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "KEEP_UP_TO", 0)
    folder = tmp_path / "name" / "train"
    folder.mkdir(parents=True)
    for shade in (1, 2):
        Image.new("L", (4, 4), shade).save(folder / f"{shade}.png")
    found = open_data(f"hf:{tmp_path / 'name'}")
    (folder / "2.png").unlink()
    with pytest.raises(Undecodable, match=r"row 1': it cannot be read \(No such file"):
        found.batch([1])


def test_labels_held_out_that_training_has_not(tmp_path: Path) -> None:
    folder = tmp_path / "name"
    folder.mkdir()
    part(200, 3).map(lambda row: {"label": -1}).to_parquet(folder / "train.parquet")
    part(5, 6).to_parquet(folder / "test.parquet")
    found = open_data(f"hf:{folder}")
    assert found.held_out is not None
    assert (found.labels, found.held_out.labels) == (None, None)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf:", "no file, folder or built-in data set 'hf:'.*hf:NAME"),
        ("hf:/nowhere/at all", "cannot load 'hf:/nowhere/at all'.*check the name"),
        ("hf:parquet", "'parquet' is the name of a file format.*hf:user/name"),
        ("hf:csv(config=x)", "'csv' is the name of a file format"),
        ("hf:name(path=x)", "its path is what stands before the brackets"),
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


@pytest.mark.parametrize(
    "name", ["a/b", "//datasets/a/b", "https://huggingface.co/datasets/a/b", "a/b/"]
)
def test_an_address_is_a_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    asked: list[tuple[str, Any]] = []

    def load(path: str, config: str | None, *, revision: str | None) -> dict[str, Any]:
        asked.append((path, (config, revision)))
        return {"train": part(1, 2)}

    monkeypatch.setattr(datasets, "load_dataset", load)
    found = open_data(f"hf:{name}(config=big, revision=v2)")
    assert asked == [("a/b", ("big", "v2"))]
    assert found.source == f"hf:{name}(config=big, revision=v2)"


def test_what_was_wrong_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """And not only that something was; nor does the library tell of it too."""
    folder = tmp_path / "name"
    folder.mkdir()
    (folder / "train.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UndiffuseError, match=r"cannot load 'hf:.*Parquet") as caught:
        open_data(f"hf:{folder}")
    assert "network" not in str(caught.value)
    assert "Parquet" not in capfd.readouterr().err


def test_an_old_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would run programs and unpickle files that come with a data set."""
    monkeypatch.setattr(datasets, "__version__", "3.6.0")
    with pytest.raises(UndiffuseError, match=r"datasets 3\.6\.0 may run programs.*update it"):
        open_data("hf:a/b")


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UndiffuseError, match=r"pip install undiffuse\[hub\]"):
        open_data("hf:a/b")
