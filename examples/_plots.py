"""What the pictures of the examples share: colours, axes, the plane, and where they are saved."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from PIL import Image
from torch import Tensor

plt.switch_backend("Agg")
plt.rcParams.update(
    {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 11,
        "axes.labelsize": 10,
        "font.size": 9.5,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "lines.linewidth": 1.6,
    }
)
GALLERY = Path(__file__).resolve().parents[1] / "docs" / "images" / "examples"
DATA, MODEL, OTHER, GREY = "#1f5aa0", "#d65a28", "#3c8c46", "#8c8c8c"  # truth, model, a third
SHADE = "Blues"  # densities


def panels(columns: int, rows: int = 1, width: float = 3.3, height: float = 3.1, **options: Any):
    """A figure and its axes, [columns] or [rows, columns]."""
    size = (columns * width, rows * height)
    return plt.subplots(rows, columns, figsize=size, layout="constrained", **options)


def save(figure: Any, out: str | Path, name: str) -> Path:
    """Write the figure as a PNG of 256 colours, which is small, and close it."""
    path = Path(out) / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110)
    plt.close(figure)
    few = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    return path


def plane(size: float, points: int) -> Tensor:
    """A square lattice of points in [-size, size]^2, [points^2, 2]."""
    line = torch.linspace(-size, size, points)
    return torch.cartesian_prod(line, line)


def shade(axis: Any, function: Callable[[Tensor], Tensor], size: float, **options: Any) -> Any:
    """Colour the plane in steps by a function [B, 2] -> [B]."""
    line, options = torch.linspace(-size, size, 80), {"cmap": SHADE, "levels": 16} | options
    values = function(plane(size, 80)).detach().reshape(80, 80).T
    return square(axis, size).contourf(line, line, values, **options)


def arrows(axis: Any, field: Callable[[Tensor], Tensor], size: float, points: int = 17) -> None:
    """The directions of a field [B, 2] -> [B, 2]; arrows grow with its length, but slowly."""
    x = plane(0.93 * size, points)
    v = field(x).detach()
    length = v.norm(dim=1, keepdim=True)
    v = v / length.clamp(min=1e-9) * torch.tanh(length / length.median()).clamp(min=0.45)
    axis.quiver(*x.T, *v.T, color="#333333", scale=0.95 * points, width=0.006, pivot="mid")


def count_steps(axis: Any, counts: list[int]) -> None:
    """A logarithmic x-axis with a tick at each of the counts."""
    axis.set_xscale("log")
    axis.set_xticks(counts, counts)
    axis.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    axis.set_xlabel("steps")


def square(axis: Any, size: float) -> Any:
    """A square piece of the plane, without ticks."""
    axis.set(xlim=(-size, size), ylim=(-size, size), aspect="equal", xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    return axis
