r"""From tensors to PNG files: grids of images, pictures of point clouds, and what made them.

Every PNG carries, in its text chunks, what is needed to make it again: seed, steps, sampler,
digest of the model.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from undiffuse.errors import RunFailed, UndiffuseError


def to_bytes(x: Tensor) -> Tensor:
    """Images [B, C, H, W] in [-1, 1] as uint8 [B, H, W, C]; values outside are clipped.

    Raises:
        UndiffuseError: a value that is not finite, which would become a black pixel.
    """
    _refuse_non_finite(x)
    scaled = (x.detach().float().cpu().clamp(-1, 1) + 1) * 127.5
    return scaled.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def grid(
    x: Tensor, columns: int | None = None, zoom: int | None = None, gap: int = 2
) -> Image.Image:
    """Images [B, C, H, W] in [-1, 1] (C = 1, 3, or 4) side by side, row by row.

    `columns` defaults to a square; `zoom` enlarges each pixel (default: small images to about 64).
    """
    return tiled(to_bytes(x).numpy(), columns, zoom, gap)


def tiled(
    pixels: NDArray[np.uint8], columns: int | None = None, zoom: int | None = None, gap: int = 2
) -> Image.Image:
    """As `grid`, of images that are pixels already, [B, H, W, C]."""
    count, height, width, channels = pixels.shape
    if channels not in {1, 3, 4}:
        pixels, channels = pixels[..., :1], 1
    columns = columns or math.ceil(math.sqrt(count))
    zoom = zoom or max(1, round(64 / max(height, width)))
    rows = math.ceil(count / columns)
    cell_h, cell_w = height * zoom + gap, width * zoom + gap
    sheet = np.full((rows * cell_h + gap, columns * cell_w + gap, channels), 255, dtype=np.uint8)
    for i, small in enumerate(pixels):
        image = small.repeat(zoom, axis=0).repeat(zoom, axis=1)
        top, left = i // columns * cell_h + gap, i % columns * cell_w + gap
        sheet[top : top + cell_h - gap, left : left + cell_w - gap] = image
    return Image.fromarray(sheet.squeeze(-1) if channels == 1 else sheet)


def points(
    clouds: Mapping[str, Tensor], size: int = 480, limit: float | None = None
) -> Image.Image:
    """Point clouds [N, D], one colour each: the first two dimensions, or one against its rank."""
    flat = {k: _plane(v.detach().double().cpu()) for k, v in clouds.items()}
    for cloud in flat.values():
        _refuse_non_finite(cloud)
    edge = limit or 1.1 * max(float(v.abs().quantile(0.999)) for v in flat.values())
    sheet = np.full((size, size, 3), 255.0)
    for colour, cloud in zip(_COLOURS, flat.values(), strict=False):
        inside = cloud[(cloud.abs() < edge).all(1)]
        at = ((inside / edge + 1) / 2 * (size - 2)).long().numpy()
        for dy in (0, 1):
            for dx in (0, 1):
                spot = sheet[size - 2 - at[:, 1] + dy, at[:, 0] + dx]
                sheet[size - 2 - at[:, 1] + dy, at[:, 0] + dx] = 0.35 * spot + 0.65 * colour
    return Image.fromarray(sheet.astype(np.uint8))


_COLOURS = [np.array(c, dtype=float) for c in ((31, 90, 160), (214, 90, 40), (60, 140, 70))]


def _refuse_non_finite(x: Tensor) -> None:
    if not bool(torch.isfinite(x).all()):
        raise UndiffuseError("a sample holds values that are not finite; no picture was made of it")


def _plane(cloud: Tensor) -> Tensor:
    if cloud.shape[1] >= 2:
        return cloud[:, :2]
    ordered = cloud[:, 0].sort().values
    return torch.stack([ordered, torch.linspace(-1, 1, len(ordered)).to(ordered)], 1)


def draw(x: Tensor, columns: int | None = None) -> Image.Image:
    """A picture of any samples: images as a grid, vectors and sequences as points."""
    if x.ndim == 4:
        return grid(x, columns)
    return points({"samples": x.flatten(1)})


def save(image: Image.Image, path: Path, facts: Mapping[str, Any] | None = None) -> None:
    """Write a PNG with `facts` in its text chunks, under a temporary name first.

    Raises:
        RunFailed: the place cannot be written.
    """
    text = PngInfo()
    for key, value in (facts or {}).items():
        text.add_itxt(key, value if isinstance(value, str) else json.dumps(value))
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(temporary, format="PNG", pnginfo=text)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RunFailed(f"cannot write {path}: {error.strerror or error}") from error
