"""Image files that are damaged, hostile or merely odd, all made in code."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image


class Kit(NamedTuple):
    """A folder, and the names in it that must be usable, left out with a reason, or passed over."""

    root: Path
    good: set[str]
    bad: set[str]


def png_chunk(kind: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def png_bytes(width: int, height: int, rows: bytes, *extra: bytes, depth: int = 8) -> bytes:
    """A grey PNG written by hand, so that it may lie."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + data + png_chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.fixture
def picture() -> Image.Image:
    """A 64x48 picture with something in it."""
    y, x = np.mgrid[0:48, 0:64]
    return Image.fromarray(np.stack([4 * x, 5 * y, 255 - 2 * (x + y)], -1).astype(np.uint8))


@pytest.fixture
def kit(tmp_path: Path, picture: Image.Image) -> Kit:
    root = tmp_path / "kit"
    root.mkdir()
    jpeg, png = encoded(picture, "JPEG"), encoded(picture, "PNG")
    frames = [Image.new("L", (64, 48), 20 * k) for k in range(3)]
    later = {"save_all": True, "append_images": frames[1:]}
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = np.random.default_rng(0).bytes(4096)
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    flipped = bytearray(jpeg)
    flipped[300:340] = bytes(255 - byte for byte in jpeg[300:340])
    wrong_crc = bytearray(png)
    wrong_crc[30] ^= 0xFF
    scrambled = png[:60] + bytes(byte ^ 0x55 for byte in png[60:90]) + png[90:]
    bomb = zlib.compress(bytes(10**8))
    nan = Image.fromarray(np.full((48, 64), np.nan, np.float32))

    bad = {
        "empty.png": b"",
        "one_byte.jpg": b"\xff",
        "text.png": b"this is a note, not a picture\n",
        "page.jpg": b"<!doctype html><title>404</title>",
        "half.jpg": jpeg[: len(jpeg) // 2],
        "no_end_mark.jpg": jpeg[:-2],
        "half.png": png[: len(png) // 2],
        "start.png": png[:20],
        "wrong_crc.png": bytes(wrong_crc),
        "scrambled.png": scrambled,
        "claims_100_million.png": png_bytes(10_000, 10_000, b""),
        "claims_400_million.png": png_bytes(20_000, 20_000, b""),
        "real_169_million.png": png_bytes(13_000, 13_000, bytes(1626 * 13_000), depth=1),
        "text_bomb.png": png_bytes(
            1, 1, b"\0\0", png_chunk(b"zTXt", b"Comment\0\0" + bomb)
        ),
        "zero_width.png": png_bytes(0, 8, b""),
        "widest.png": png_bytes(2**31 - 1, 1, b""),
        "nan.tif": encoded(nan, "TIFF"),
        "cut.gif": encoded(picture, "GIF")[:200],
        "cut.webp": encoded(picture, "WEBP")[:100],
        "drawing.svg": svg,
        "drawing.png": svg,
        "print.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "print.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "layers.png": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 9, 9, 8, 3) + bytes(20),
        "wide.bmp": b"BM" + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 2**30, 1, 1, 24, 0, 0, 0, 0, 0, 0),
        "loop.tif": b"II*\0" + struct.pack("<I", 8) + struct.pack("<HI", 0, 8),
        "no_icons.png": b"\0\0\1\0\0\0",
        "noise.png": noise,
        "objects.png": b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    }  # fmt: skip
    good = {
        "plain.png": png,
        "plain.jpg": jpeg,
        "flipped_bytes.jpg": bytes(flipped),
        "png_called.jpg": png,
        "one_pixel.png": encoded(Image.new("L", (1, 1), 7), "PNG"),
        "thread.png": encoded(Image.new("L", (5000, 1), 7), "PNG"),
        "grey.png": encoded(picture.convert("L"), "PNG"),
        "cmyk.jpg": encoded(picture.convert("CMYK"), "JPEG"),
        "turned.jpg": encoded(picture, "JPEG", exif=exif),
        "broken_exif.jpg": encoded(picture, "JPEG", exif=b"Exif\0\0" + noise[:200]),
        "broken_profile.png": encoded(picture, "PNG", icc_profile=noise[:200]),
        "animated.gif": encoded(frames[0], "GIF", **later),
        "animated.png": encoded(frames[0], "PNG", **later),
        "same_as_plain.png": png,
        "UPPER.PNG": png,
        "upper.png": png,
        "two\nlines.png": png,
        "ünïcode 日本.png": png,
        "x" * 251 + ".png": png,
        os.fsdecode(b"latin-\xe9.png"): png,
    } | {f"good_{k:02d}.png": png for k in range(20)}
    for name, content in (bad | good).items():
        (root / name).write_bytes(content)

    os.mkfifo(root / "pipe.png")
    (root / "folder.png").mkdir()
    (root / "itself.png").symlink_to(root / "itself.png")
    (root / "nowhere.png").symlink_to(root / "gone")
    special = {"pipe.png", "folder.png", "itself.png", "nowhere.png"}

    (root / "notes.txt").write_text("passed over")
    (root / ".hidden.png").write_bytes(b"")
    (root / ".DS_Store").write_bytes(noise)
    (root / "Thumbs.db").write_bytes(noise)
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX" / "._plain.png").write_bytes(noise)
    return Kit(root, set(good), set(bad) | special)
