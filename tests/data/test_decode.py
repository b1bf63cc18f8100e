from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from undiffuse.data.decode import MAX_PIXELS, Undecodable, decode, header, shown

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def saved(path: Path, image: Image.Image, **options: Any) -> str:
    image.save(path, **options)
    return str(path)


def row(*values: Any, dtype: Any = np.uint8) -> np.ndarray:
    return np.array([values], dtype)


def over_white(value: int, alpha: int) -> int:
    return round((value * alpha + 255 * (255 - alpha)) / 255)


def grey_palette() -> Image.Image:
    image = Image.fromarray(row(0, 1, 2)).convert("P")
    image.putpalette([10, 10, 10, 20, 20, 20, 30, 30, 30])
    return image


def colour_palette() -> Image.Image:
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2])
    return image


class TestModes:
    """Every mode of pixel has one 8-bit meaning."""

    def test_grey_and_colour_stay_as_they_are(self, tmp_path: Path) -> None:
        grey = row(0, 1, 128, 255)
        assert np.array_equal(
            decode(saved(tmp_path / "g.png", Image.fromarray(grey))), grey[..., None]
        )
        colour = row(RED, GREEN, (1, 2, 3))
        assert np.array_equal(decode(saved(tmp_path / "c.png", Image.fromarray(colour))), colour)

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_16_bit_grey_is_scaled_not_clipped(self, tmp_path: Path, suffix: str) -> None:
        values = row(0, 128, 129, 257, 40000, 65535, dtype=np.uint16)
        found = decode(saved(tmp_path / f"g.{suffix}", Image.fromarray(values)))
        assert found.ravel().tolist() == [0, 0, 1, 1, 156, 255]
        assert found.ravel().tolist() == np.rint(values / 257).ravel().tolist()

    def test_one_transparent_value_of_16_bit_grey(self, tmp_path: Path) -> None:
        image = Image.fromarray(row(40000, 40001, dtype=np.uint16))
        found = decode(saved(tmp_path / "t.png", image, transparency=40000))
        assert found.ravel().tolist() == [255, 156]

    def test_one_bit(self, tmp_path: Path) -> None:
        image = Image.fromarray(row(0, 255)).convert("1")
        assert decode(saved(tmp_path / "b.png", image)).ravel().tolist() == [0, 255]

    def test_palette(self, tmp_path: Path) -> None:
        found = decode(saved(tmp_path / "p.png", colour_palette()))
        assert found.tolist() == [[list(RED), list(GREEN), list(BLUE)]]

    def test_grey_palette_is_grey(self, tmp_path: Path) -> None:
        found = decode(saved(tmp_path / "p.png", grey_palette()))
        assert found.shape == (1, 3, 1)
        assert found.ravel().tolist() == [10, 20, 30]

    def test_palette_with_transparency(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "p.png", colour_palette(), transparency=bytes([0, 255, 128]))
        half = over_white(0, 128)
        assert decode(path).tolist() == [[list(WHITE), list(GREEN), [half, half, 255]]]

    def test_rgba_lies_over_white(self, tmp_path: Path) -> None:
        pixels = row((255, 0, 0, 0), (255, 0, 0, 255), (0, 100, 200, 51))
        found = decode(saved(tmp_path / "a.png", Image.fromarray(pixels)))
        mixed = [over_white(value, 51) for value in (0, 100, 200)]
        assert found.tolist() == [[list(WHITE), list(RED), mixed]]

    def test_grey_with_alpha(self, tmp_path: Path) -> None:
        image = Image.fromarray(row((0, 0), (0, 255), (100, 77)), mode="LA")
        found = decode(saved(tmp_path / "la.png", image))
        assert found.shape == (1, 3, 1)
        assert found.ravel().tolist() == [255, 0, over_white(100, 77)]

    def test_transparent_colour_without_alpha(self, tmp_path: Path) -> None:
        image = Image.fromarray(row(RED, GREEN))
        found = decode(saved(tmp_path / "t.png", image, transparency=RED))
        assert found.tolist() == [[list(WHITE), list(GREEN)]]

    def test_cmyk(self, tmp_path: Path) -> None:
        image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
        assert np.array_equal(
            decode(saved(tmp_path / "c.jpg", image)), np.full((16, 16, 3), RED, np.uint8)
        )

    def test_float_grey(self, tmp_path: Path) -> None:
        image = Image.fromarray(row(0, 0.5, 0.25, 1, dtype=np.float32))
        assert decode(saved(tmp_path / "f.tif", image)).ravel().tolist() == [0, 128, 64, 255]

    @pytest.mark.parametrize(
        ("value", "dtype", "reason"),
        [
            (np.nan, np.float32, "finite"),
            (np.inf, np.float32, "finite"),
            (40.0, np.float32, "between 0 and 1"),
            (40, np.int32, "32-bit"),
        ],
    )
    def test_pixels_without_a_scale_are_refused(
        self, tmp_path: Path, value: float, dtype: Any, reason: str
    ) -> None:
        path = saved(tmp_path / "f.tif", Image.fromarray(np.full((2, 2), value, dtype)))
        with pytest.raises(Undecodable, match=reason):
            decode(path)

    def test_animation_gives_its_first_frame(self, tmp_path: Path) -> None:
        frames = [Image.new("L", (2, 2), value) for value in (10, 200)]
        for name in ("a.gif", "a.png"):
            path = saved(tmp_path / name, frames[0], save_all=True, append_images=frames[1:])
            assert set(decode(path).ravel().tolist()) == {10}


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_exif_is_applied(self, tmp_path: Path, orientation: int, suffix: str) -> None:
        stored = np.arange(6, dtype=np.uint8).reshape(2, 3)
        upright = {
            1: stored,
            2: stored[:, ::-1],
            3: stored[::-1, ::-1],
            4: stored[::-1],
            5: stored.T,
            6: np.rot90(stored, -1),
            7: stored[::-1, ::-1].T,
            8: np.rot90(stored),
        }[orientation]
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = saved(tmp_path / f"o.{suffix}", Image.fromarray(stored), exif=exif)
        assert np.array_equal(decode(path)[..., 0], upright)
        assert header(path)[:2] == upright.shape

    def test_a_turned_jpeg(self, tmp_path: Path, picture: Image.Image) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        plain = decode(saved(tmp_path / "a.jpg", picture))
        turned = decode(saved(tmp_path / "b.jpg", picture, exif=exif))
        assert np.array_equal(turned, np.rot90(plain, -1))
        assert header(str(tmp_path / "b.jpg")) == (64, 48, 3)


class TestSize:
    def test_the_middle_is_kept(self, tmp_path: Path) -> None:
        wide = np.zeros((4, 12), np.uint8)
        wide[:, 4:8] = 200
        found = decode(saved(tmp_path / "w.png", Image.fromarray(wide)), size=4)
        assert found.shape == (4, 4, 1)
        assert (found == 200).all()

    def test_small_stripes_average_out(self, tmp_path: Path) -> None:
        """Antialiasing: a fine chequerboard becomes grey, not black or white."""
        board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
        found = decode(saved(tmp_path / "b.png", Image.fromarray(board)), size=8)
        assert np.abs(found.astype(int) - 127.5).max() < 3

    def test_a_thread_of_5000_pixels(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "t.png", Image.new("RGB", (5000, 1), RED))
        assert np.array_equal(decode(path, size=16), np.full((16, 16, 3), RED, np.uint8))

    def test_a_large_jpeg_read_at_a_fraction_looks_the_same(self, tmp_path: Path) -> None:
        y, x = np.mgrid[0:512, 0:512]
        image = Image.fromarray((127 + 100 * np.sin(x / 40) * np.cos(y / 50)).astype(np.uint8))
        small = decode(saved(tmp_path / "a.jpg", image, quality=95), size=16)
        exact = decode(saved(tmp_path / "a.png", image), size=16)
        assert np.abs(small.astype(int) - exact).max() <= 3


def test_channels_can_be_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path / "c.png", Image.fromarray(row((9, 9, 9), RED)))
    assert decode(path, channels=1).ravel().tolist() == [9, 76]  # 0.299 red
    grey = saved(tmp_path / "g.png", Image.fromarray(row(7, 8)))
    assert decode(grey, channels=3).tolist() == [[[7, 7, 7], [8, 8, 8]]]


def test_header_agrees_with_the_pixels(tmp_path: Path, picture: Image.Image) -> None:
    for mode in ("L", "RGB", "RGBA", "LA", "P", "1", "I;16"):
        image = Image.fromarray(row(1, 2, dtype=np.uint16)) if mode == "I;16" else picture
        path = saved(tmp_path / "x.png", image if mode == "I;16" else image.convert(mode))
        assert header(path) == decode(path).shape


def test_the_number_of_pixels_is_limited_before_any_is_read(tmp_path: Path) -> None:
    side = 8193
    path = saved(tmp_path / "large.png", Image.new("1", (side, side)))
    assert side**2 > MAX_PIXELS
    with pytest.raises(Undecodable, match="8193x8193 pixels are more than the limit"):
        decode(path)


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(Undecodable, match="not a regular file"):
        decode(str(tmp_path / "pipe.png"))


def test_reason_and_name(tmp_path: Path) -> None:
    path = tmp_path / "note\n.png"
    path.write_text("hello")
    with pytest.raises(Undecodable) as caught:
        decode(str(path))
    assert caught.value.reason == "it is not a PNG, JPEG, WEBP, GIF, BMP or TIFF image"
    assert "note\\n.png" in str(caught.value)
    assert shown(os.fsdecode(b"\xe9.png")).isprintable()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_damage_ends_as_one_kind_of_error(tmp_path: Path, picture: Image.Image, kind: str) -> None:
    """Random cuts and flips: pixels or `Undecodable`, nothing else."""
    whole = tmp_path / f"x.{kind.lower()}"
    content = bytearray(Path(saved(whole, picture, format=kind)).read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = content[: rng.integers(len(content))] if rng.random() < 0.3 else content[:]
        for place in rng.integers(max(1, len(damaged)), size=3):
            if damaged:
                damaged[place] ^= 1 << int(rng.integers(8))
        whole.write_bytes(damaged)
        for read in (decode, header):
            with contextlib.suppress(Undecodable):
                read(str(whole))
