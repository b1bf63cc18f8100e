from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from undiffuse.data import Npz
from undiffuse.data.open import open_data
from undiffuse.errors import UndiffuseError

GREY = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
COLOUR = np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)


def saved(path: Path, **arrays: Any) -> str:
    np.savez_compressed(path / "x.npz", **arrays)
    return str(path / "x.npz")


def back(x: torch.Tensor) -> np.ndarray:
    """From a batch [B, C, H, W] in [-1, 1] to bytes [B, H, W, C]."""
    return ((x + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def test_grey_images(tmp_path: Path) -> None:
    found = Npz(saved(tmp_path, images=GREY)).open()
    assert (len(found), found.shape, found.labels, found.class_names) == (3, (1, 4, 5), None, ())
    assert np.array_equal(back(found.batch([2, 0]).x)[..., 0], GREY[[2, 0]])


def test_images_are_scaled_as_those_of_a_folder(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 12, 20, 3), dtype=np.uint8)
    (tmp_path / "folder").mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "folder" / f"{number}.png")
    wanted = open_data(tmp_path / "folder", size=6)
    found = open_data(saved(tmp_path, train_images=pixels, test_images=pixels), size=6)
    assert found.shape == wanted.shape == (3, 6, 6)
    assert torch.equal(found.batch([0, 1]).x, wanted.batch([0, 1]).x)
    assert found.held_out is not None
    assert torch.equal(found.held_out.batch([1]).x, wanted.batch([1]).x)


def test_a_size_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UndiffuseError, match="size must be a whole number of pixels"):
        Npz(saved(tmp_path, images=GREY), size=0)
    with pytest.raises(UndiffuseError, match="vectors, which cannot be scaled to a size"):
        Npz(saved(tmp_path, vectors=np.zeros((3, 2), np.float32)), size=4).open()


def test_colour_images_with_labels(tmp_path: Path) -> None:
    labels = np.array([1, 0, 1], np.uint8)
    found = Npz(saved(tmp_path, images=COLOUR, labels=labels)).open()
    assert (found.shape, found.class_names) == ((3, 4, 5), ("0", "1"))
    x, label = found.batch([0, 1])
    assert np.array_equal(back(x), COLOUR[:2])
    assert label is not None
    assert (label.dtype, label.tolist()) == (torch.int64, [1, 0])


def test_train_and_test_part(tmp_path: Path) -> None:
    found = Npz(
        saved(
            tmp_path,
            train_images=GREY,
            train_labels=[0, 1, 2],
            test_images=GREY[1:2],
            test_labels=[2],
            class_names=["cat", "dog", "emu", "yak"],
        )
    ).open()
    assert found.class_names == ("cat", "dog", "emu", "yak")
    assert found.held_out is not None
    assert found.held_out.class_names == found.class_names
    x, label = found.held_out.batch([0])
    assert np.array_equal(back(x)[..., 0], GREY[1:2])
    assert label is not None
    assert label.tolist() == [2]


@pytest.mark.parametrize("key", ["images", "vectors"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_floats_of_rank_two_are_vectors(tmp_path: Path, key: str, dtype: str) -> None:
    values = np.array([[0.5, -2.0], [3.0, 4.0]], dtype)
    found = Npz(saved(tmp_path, **{key: values}, labels=[0, 0])).open()
    assert found.facts()["kind"] == "vector"
    assert found.batch([1, 0]).x.tolist() == [[3.0, 4.0], [0.5, -2.0]]


def test_what_is_not_needed_is_not_looked_at(tmp_path: Path) -> None:
    foreign = np.array([{"a": 1}], dtype=object)
    assert len(Npz(saved(tmp_path, images=GREY, other=foreign)).open()) == 3


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": GREY, "y": [1]}, r"exactly one of .*, but has 'pictures', 'y'"),
        ({}, "has no arrays"),
        ({"images": GREY, "vectors": np.zeros((3, 2))}, "exactly one of"),
        ({"images": GREY[:0]}, r"uint8 \[0, 4, 5\], so it holds no samples"),
        ({"images": GREY[:, :0]}, "no samples"),
        ({"images": GREY / 255}, r"float64 \[3, 4, 5\], but images must be uint8"),
        ({"images": GREY.astype(int)}, r"astype\('uint8'\)"),
        ({"images": GREY > 3}, "bool"),
        ({"images": GREY.reshape(3, 20)}, r"uint8 \[3, 20\], but images must be"),
        ({"images": GREY[0, 0]}, "but images must be"),
        ({"images": COLOUR[None]}, "but images must be"),
        ({"images": np.zeros((2, 3, 32, 32), np.uint8)}, "channels first"),
        ({"train_images": np.zeros((2, 2))}, "images must be uint8"),
        ({"vectors": np.zeros((2, 2), int)}, r"vectors must be floats \[N, D\]"),
        ({"vectors": np.zeros((2, 2, 2))}, r"vectors must be floats \[N, D\]"),
        ({"vectors": np.array([[0, np.nan]])}, "not finite"),
        ({"vectors": np.array([[0, 1e300]])}, "not finite"),
        ({"images": GREY, "labels": [0, 1]}, "'labels' has 2 labels for 3 samples"),
        ({"images": GREY, "labels": [0.0, 1.0, 0.0]}, "one integer a sample"),
        ({"images": GREY, "labels": np.eye(3, dtype=int)}, "one integer a sample"),
        ({"images": GREY, "labels": ["a", "b", "c"]}, "one integer a sample"),
        ({"images": GREY, "labels": [1, 2, 3]}, "0 to K-1 with none left out, not 1, 2, 3;"),
        ({"images": GREY, "labels": [0, -1, 0]}, "not -1, 0;"),
        ({"images": GREY, "labels": [0, 7, 0]}, "not 0, 7;"),
        ({"images": GREY, "labels": [0, 1, 2], "class_names": ["a", "b"]}, "allow 0 to 1"),
        ({"images": GREY, "labels": [0, 1, 0], "class_names": [3, 4]}, "list of texts"),
        ({"images": np.array([None, 1], dtype=object)}, "Python objects"),
        ({"images": GREY, "labels": np.array([None] * 3)}, "Python objects"),
        (
            {"train_images": GREY, "test_images": COLOUR},
            r"held-out samples .* have shape \(3, 4, 5\)",
        ),
    ],
)
def test_mistakes(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(UndiffuseError, match=message) as caught:
        Npz(saved(tmp_path, **arrays)).open()
    assert "x.npz" in str(caught.value)


def test_damage_is_always_one_error(tmp_path: Path) -> None:
    path = Path(saved(tmp_path, images=GREY, labels=[0, 1, 0]))
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(200):
        damaged = bytearray(whole)
        for place in rng.integers(len(whole), size=4):
            damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged[: rng.integers(len(whole))] if rng.random() < 0.3 else damaged)
        try:
            found = Npz(str(path)).open()
        except UndiffuseError:
            refused += 1
        else:  # the flips hit bytes that carry no data, such as a date
            assert np.array_equal(back(found.batch([0, 1, 2]).x)[..., 0], GREY)
    assert refused > 100


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x07objects\x94."]
)
def test_other_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UndiffuseError, match=r"x\.npz.* not an \.npz file"):
        Npz(str(tmp_path / "x.npz")).open()


def test_a_single_array(tmp_path: Path) -> None:
    with (tmp_path / "x.npz").open("wb") as file:
        np.save(file, GREY)
    with pytest.raises(UndiffuseError, match=r"not an \.npz file"):
        Npz(str(tmp_path / "x.npz")).open()
