from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from undiffuse.data import open_data
from undiffuse.data.open import built_in
from undiffuse.errors import UndiffuseError


def test_names() -> None:
    assert built_in() == ["digits", "mixture", "moons"]
    assert open_data("moons").source == "moons"
    assert len(open_data("moons(count=30)")) == 30
    assert len(open_data("moons(count=30, noise=0.1)", count=40)) == 40
    assert len(open_data("moons", count=20, size=None)) == 20


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "x.NPZ.npz", images=np.zeros((2, 4, 4), np.uint8))
    (tmp_path / "digits").mkdir()
    Image.new("L", (8, 6)).save(tmp_path / "digits" / "a (1).png")
    monkeypatch.chdir(tmp_path)
    assert open_data("x.NPZ.npz").shape == (1, 4, 4)
    assert open_data(tmp_path / "digits").shape == (1, 6, 8)
    assert open_data("./digits", size=4).shape == (1, 4, 4)
    assert open_data("digits").shape == (1, 8, 8)  # the built-in one goes first


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("moons", {"count": 30, "noise": 0.2}),
        ("moons(count=30, noise=0.2)", {}),
        ("moons(noise=0.2)", {"count": 30, "size": None}),
        ("a (1).npz", {"size": 3}),
        ("a (1).npz (size=3)", {}),
        ("b(size=2)", {}),  # a folder of that name
        ("b(size=2)", {"size": 4}),
        ("b(size=2)(channels=3, size=4)", {}),
        ("b", {"size": 2}),  # which is written as that folder is called
        ("c ", {"size": 2}),
    ],
)
def test_what_a_data_set_calls_itself_opens_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, options: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "a (1).npz", images=np.arange(32, dtype=np.uint8).reshape(2, 4, 4))
    (tmp_path / "b(size=2)").mkdir()
    Image.new("L", (8, 6), 9).save(tmp_path / "b(size=2)" / "a.png")
    for name, shade in {"b": 1, "c": 2, "c ": 3}.items():
        (tmp_path / name).mkdir()
        Image.new("L", (7, 5), shade).save(tmp_path / name / f"{name}.png")
    found = open_data(source, **options)
    again = open_data(found.source)
    assert (found.shape, found.fingerprint()) == (again.shape, again.fingerprint())
    assert again.source == found.source


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("digit", "did you mean 'digits'.*built-in: digits, mixture, moons"),
        ("mnst.npz", "no file, folder or built-in data set 'mnst.npz'; did you mean 'mnist.npz'"),
        ("sub/nothing.npz", "'sub/nothing.npz'"),
        ("npz", "no file, folder"),
        ("", "no file, folder"),
        ("x\0y", "no file, folder"),
        ("y" * 5000, "no file, folder"),
        ("notes.txt", "cannot read 'notes.txt' as data; it must be a folder of images, an .npz"),
        ("moons(count)", "option=value"),
        ("moons(name=digits)", "no option 'name'"),
        ("moons(kind=data.digits)", "no option 'kind'"),
        ("moons(path=x)", "its path is what stands before the brackets"),
        ("moon(count=3)", r"no file, folder or built-in data set 'moon\(count=3\)'"),
        ("no\0folder/x", "no file, folder"),
        ("moons(colour=3)", "colour"),
        ("moons(count=-1)", "count must be a positive integer"),
    ],
)
def test_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "mnist.npz").write_bytes(b"")
    with pytest.raises(UndiffuseError, match=message):
        open_data(source)


def test_an_option_of_another_source_is_refused() -> None:
    with pytest.raises(UndiffuseError, match=r"'digits'.*'size'"):
        open_data("digits", size=16)


def test_the_names_come_without_torch() -> None:
    """The command line lists data sets in its help."""
    code = (
        "import sys; import undiffuse.data; from undiffuse.catalogue import names;"
        "assert 'digits' in names('data'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
