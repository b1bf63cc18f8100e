"""Tensors become the bytes they should, and a PNG says what made it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from undiffuse import pictures
from undiffuse.data.dataset import from_bytes
from undiffuse.errors import RunFailed, UndiffuseError


def test_bytes_are_exact() -> None:
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1)
    assert torch.equal(pictures.to_bytes(from_bytes(every)), every)
    x = torch.tensor([-7.0, -1.0, -0.5, 0.0, 0.5, 1.0, 7.0]).reshape(1, 1, 1, 7)
    assert pictures.to_bytes(x).flatten().tolist() == [0, 0, 64, 128, 191, 255, 255]
    assert pictures.to_bytes(x.double()).flatten().tolist() == [0, 0, 64, 128, 191, 255, 255]


def test_channels_go_last() -> None:
    x = torch.linspace(-1, 1, 2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    made = pictures.to_bytes(x)
    assert made.shape == (2, 4, 5, 3)
    assert made.dtype == torch.uint8
    assert int(made[1, 2, 3, 0]) == round(float((x[1, 0, 2, 3] + 1) * 127.5))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_no_picture(bad: float) -> None:
    x = torch.zeros(2, 1, 4, 4)
    x[1, 0, 2, 3] = bad
    with pytest.raises(UndiffuseError, match="not finite; no picture was made"):
        pictures.draw(x)
    with pytest.raises(UndiffuseError, match="not finite; no picture was made"):
        pictures.draw(torch.tensor([[0.0, 1.0], [bad, 0.0]]))


def test_a_grid_puts_image_i_at_row_and_column() -> None:
    values = torch.linspace(-1, 1, 5)
    x = values.reshape(5, 1, 1, 1).expand(5, 1, 3, 4)  # five grey tones of 3 rows, 4 columns
    sheet = np.asarray(pictures.grid(x, columns=2, zoom=2, gap=1))
    assert sheet.shape == (3 * (6 + 1) + 1, 2 * (8 + 1) + 1)
    expected = np.full(sheet.shape, 255, np.uint8)
    for i, tone in enumerate(pictures.to_bytes(x)[:, 0, 0, 0].tolist()):
        top, left = i // 2 * 7 + 1, i % 2 * 9 + 1
        expected[top : top + 6, left : left + 8] = tone
    assert np.array_equal(sheet, expected)


def test_a_zoomed_pixel_is_a_square() -> None:
    x = torch.tensor([[-1.0, 1.0], [0.0, -1.0]]).reshape(1, 1, 2, 2)
    sheet = np.asarray(pictures.grid(x, zoom=3, gap=0))
    assert np.array_equal(sheet, np.kron([[0, 255], [128, 0]], np.ones((3, 3))))


@pytest.mark.parametrize(
    ("count", "size", "channels", "shape", "mode"),
    [
        (16, 8, 1, (4 * 66 + 2, 4 * 66 + 2), "L"),  # zoomed to 64
        (10, 32, 3, (3 * 66 + 2, 4 * 66 + 2), "RGB"),  # 4 columns, 3 rows
        (1, 100, 4, (104, 104), "RGBA"),
        (2, 64, 2, (68, 134), "L"),  # of other channels, the first
    ],
)
def test_default_geometry(
    count: int, size: int, channels: int, shape: tuple[int, int], mode: str
) -> None:
    sheet = pictures.draw(torch.zeros(count, channels, size, size))
    assert (sheet.height, sheet.width) == shape
    assert sheet.mode == mode


def test_points_are_where_they_are() -> None:
    cloud = torch.tensor([[0.5, 0.5]]).expand(1000, 2)  # right of the middle, and above it
    sheet = np.asarray(pictures.points({"one": cloud}, size=101, limit=1.0)).astype(int)
    rows, columns = np.nonzero((sheet != 255).any(2))
    assert abs(columns.mean() - 75) < 2
    assert abs(rows.mean() - 25) < 2
    two = np.asarray(pictures.points({"a": cloud, "b": -cloud}, size=101, limit=1.0)).astype(int)
    assert not np.array_equal(two[25, 75], two[75, 25])  # each cloud has its colour


@pytest.mark.parametrize("shape", [(50, 2), (50, 1), (50, 5), (50, 3, 4)])
def test_any_samples_can_be_drawn(shape: tuple[int, ...]) -> None:
    x = torch.linspace(-2, 2, math.prod(shape)).reshape(shape)
    sheet = pictures.draw(x)
    assert (sheet.size, sheet.mode) == ((480, 480), "RGB")
    assert (np.asarray(sheet) != 255).any()


# ------------------------------------------------------------------ files


def test_what_made_a_picture_stands_in_it(tmp_path: Path) -> None:
    facts = {
        "seed": 3,
        "sampler": "ddim(eta=0.5)",
        "labels": [1, 2],
        "guidance": 1.5,
        "digest": "ab" * 32,
        "words": "ünï «x»\n" * 50,
        "nothing": None,
    }
    image = pictures.grid(torch.zeros(2, 1, 4, 4))
    file = tmp_path / "a" / "b" / "x.png"
    pictures.save(image, file, facts)
    again = Image.open(file)
    again.load()
    text: dict[Any, Any] = again.info
    assert np.array_equal(np.asarray(again), np.asarray(image))
    for key, value in facts.items():
        assert (text[key] if isinstance(value, str) else json.loads(text[key])) == value
    assert [f.name for f in file.parent.iterdir()] == ["x.png"]


def test_a_picture_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pictures.grid(torch.zeros(1, 1, 4, 4))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunFailed, match=r"cannot write .*file/x\.png"):
        pictures.save(image, tmp_path / "file" / "x.png")
    pictures.save(image, tmp_path / "x.png", {"seed": 1})
    before = (tmp_path / "x.png").read_bytes()

    def full(self: Image.Image, file: Path, **_: object) -> None:
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(RunFailed, match=r"cannot write .*x\.png: No space left"):
        pictures.save(image, tmp_path / "x.png", {"seed": 2})
    assert (tmp_path / "x.png").read_bytes() == before
    assert sorted(f.name for f in tmp_path.iterdir()) == ["file", "x.png"]
