"""`undiffuse data`: what would be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from undiffuse.cli import main


def test_facts_of_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "digits", "--out", str(tmp_path / "a.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "samples     1621, and 176 held out" in lines
    assert "shape       1x8x8 (channels x height x width)" in lines
    assert "labels      10" in lines
    assert sum(line.startswith("  ") for line in lines) == 10
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (8 * 66 + 2, 8 * 66 + 2)


def test_labels_and_files_left_out_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, name in enumerate(("cat", "cat", "dog")):
        (tmp_path / name).mkdir(exist_ok=True)
        Image.new("RGB", (12 + i, 9), (i, 2, 3)).save(tmp_path / name / f"{i}.png")
    (tmp_path / "dog" / "broken.png").write_text("no picture")
    assert main(["data", str(tmp_path), "--set", "data.size=8"]) == 0
    out = capsys.readouterr().out
    assert "shape       3x8x8" in out
    assert [line.split() for line in out.splitlines() if line.startswith("     ")] == [
        ["0", "cat", "2"],
        ["1", "dog", "1"],
    ]
    assert "left out    1 files" in out
    assert "broken.png: " in out
    assert main(["data", str(tmp_path)]) == 2
    assert "--set data.size=N" in capsys.readouterr().err


def test_many_classes_are_counted_not_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "a.npz", vectors=np.eye(50, 3), labels=np.arange(50))
    assert main(["data", str(tmp_path / "a.npz")]) == 0
    assert "  ... and 30 more" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["{0}/nothing"], "there is no file, folder"),
        (["{0}"], "holds no images"),
        (["digits", "--out", "{0}/a.jpg"], "must end in .png"),
        (["digits", "--set", "training.lr=1"], "has nothing to do with data"),
        (["digits", "--set", "data.sise=8"], "did you mean 'data.size'?"),
    ],
)
def test_mistakes_are_one_sentence(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", *(word.format(tmp_path) for word in words)]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert told in err
    assert not list(tmp_path.iterdir())
