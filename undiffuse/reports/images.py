"""Pictures inside a page: rows and columns of images as PNGs written into the HTML itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from undiffuse import pictures

PLOT = 220  # pixels of a plot of points
SMALL = 90  # CSS pixels of one among many
ENOUGH = 56  # images are shown about this large


@dataclass(frozen=True)
class Picture:
    """An image for the page: its data URI, its size in CSS pixels, and what it shows in words.

    `plot` marks drawings on white, whose colours a dark page turns around; `crisp` those whose
    pixels are meant to be seen.
    """

    uri: str
    width: int
    height: int
    alt: str
    plot: bool = False
    crisp: bool = False


def show(x: Tensor, alt: str, *, down: bool = False, limit: float | None = None) -> Picture:
    """Samples [B, ...] as one picture: images side by side (or one below the other), else points.

    Args:
        x: images in [-1, 1] or vectors.
        alt: what it shows.
        down: images one below the other.
        limit: points: the edge of what is shown.
    """
    return strip(x, alt, down=down) if x.ndim == 4 else plot({"samples": x}, alt, limit, SMALL)


def strip(x: Tensor, alt: str, *, down: bool = False) -> Picture:
    """Images [B, C, H, W] in [-1, 1] in one row or column, with transparent gaps."""
    pixels = pictures.to_bytes(x).numpy()  # [B, H, W, C]
    count, height, width, channels = pixels.shape
    pixels = pixels[..., :3] if channels >= 3 else pixels[..., :1].repeat(3, axis=-1)
    gap = max(1, round(max(height, width) / 14))
    step_y, step_x = (height + gap, 0) if down else (0, width + gap)
    rows, columns = step_y * (count - 1) + height, step_x * (count - 1) + width
    sheet = np.zeros((rows, columns, 4), dtype=np.uint8)
    for i, image in enumerate(pixels):
        sheet[i * step_y : i * step_y + height, i * step_x : i * step_x + width, :3] = image
        sheet[i * step_y : i * step_y + height, i * step_x : i * step_x + width, 3] = 255
    zoom = max(1, round(ENOUGH / max(height, width)))
    return Picture(uri(Image.fromarray(sheet)), columns * zoom, rows * zoom, alt, crisp=True)


def plot(
    clouds: Mapping[str, Tensor], alt: str, limit: float | None = None, size: int = PLOT
) -> Picture:
    """Clouds of vectors or sequences [N, ...] as points, one colour each."""
    drawn = pictures.points({k: v.flatten(1) for k, v in clouds.items()}, PLOT, limit)
    return Picture(uri(drawn), size, size, alt, plot=True)


def stored(file: Path, alt: str, plot: bool) -> Picture | None:
    """A PNG of the run as it is, its text chunks left out; None if it cannot be read."""
    try:
        with Image.open(file, formats=["PNG"]) as image:
            image.load()
            width, height = (PLOT, PLOT) if plot else image.size
            return Picture(uri(image), width, height, alt, plot=plot, crisp=not plot)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError):
        return None


def uri(image: Image.Image) -> str:
    """The image as a data: URI of a PNG."""
    out = io.BytesIO()
    image.save(out, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")
