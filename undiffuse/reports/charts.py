"""The loss curve as inline SVG: its colours come from the page, so it follows light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 760, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 42  # margins around the plotted area
MOST = 1000  # points drawn of a curve


def loss_chart(steps: Sequence[int], losses: Sequence[float]) -> str:
    """An SVG of the loss [N] at `steps` [N]: each step's thin, their moving average thick, log y.

    Values that are not positive have no place on the axis and are left out.

    >>> loss_chart([1, 2], [0.5, 0.25]).startswith("<svg")
    True
    """
    kept = [(s, v) for s, v in zip(steps, losses, strict=True) if v > 0 and math.isfinite(v)]
    if not kept:
        return ""
    x, y = np.array(kept, dtype=np.float64).T
    average = moving_average(y, max(1, len(y) // 25))
    low, high = float(y.min()) * 0.95, float(y.max()) * 1.05
    first, last = float(x[0]), max(float(x[-1]), float(x[0]) + 1)

    def across(step: float) -> float:
        return LEFT + (step - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def up(value: float) -> float:
        part = math.log(value / low) / math.log(high / low)
        return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)

    def path(values: NDArray[np.float64]) -> str:
        chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST)).round().astype(int))
        return " ".join(f"{across(x[i]):.1f},{up(values[i]):.1f}" for i in chosen)

    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        ' aria-labelledby="loss-title">',
        f'<title id="loss-title">Loss from step {x[0]:.0f} to {x[-1]:.0f}: the moving average goes'
        f" from {average[0]:.4g} to {average[-1]:.4g}</title>",
    ]
    for value in log_ticks(low, high):
        at = up(value)
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4}" text-anchor="end">{value:g}</text>')
    for step in ticks(first, last, least=1.0):
        at = across(step)
        parts.append(f'<text x="{at}" y="{HEIGHT - 22}" text-anchor="middle">{step:.0f}</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts += [
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}"'
        f' y2="{HEIGHT - BOTTOM}"/>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">step</text>',
        f'<text transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">loss</text>',
        f'<polyline class="raw" points="{path(y)}"/>',
        f'<polyline class="average" points="{path(average)}"/>',
        "</svg>",
    ]
    return "".join(parts)


def moving_average(y: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """The mean of y [N] over up to `width` values around each; fewer at the ends.

    >>> moving_average(np.array([1.0, 2.0, 6.0]), 3).tolist()
    [1.5, 3.0, 4.0]
    """
    sums = np.concatenate([[0.0], np.cumsum(y)])
    at = np.arange(len(y))
    low = np.maximum(at - width // 2, 0)
    high = np.minimum(at - width // 2 + width, len(y))
    means = (sums[high] - sums[low]) / (high - low)
    return np.asarray(means.clip(y.min(), y.max()))  # differences of sums may round out of it


def ticks(low: float, high: float, wanted: int = 6, least: float = 0.0) -> list[float]:
    """Round numbers between low and high, about `wanted` of them, at least `least` apart.

    >>> ticks(1, 1500), ticks(0.47, 0.61, 4)
    ([500.0, 1000.0, 1500.0], [0.5, 0.55, 0.6])
    """
    rough = max((high - low) / wanted, least)
    power = math.floor(math.log10(rough))
    gap = next(m * 10.0**power for m in (1, 2, 5, 10) if m * 10.0**power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / gap - 1e-9), math.floor(high / gap + 1e-9)
    return [round(k * gap, max(0, 1 - power)) for k in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers for a logarithmic axis: powers of ten, or finer where those are too few.

    >>> log_ticks(0.03, 2.0), log_ticks(0.4, 0.7)
    ([0.05, 0.1, 0.2, 0.5, 1.0, 2.0], [0.4, 0.5, 0.6, 0.7])
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 2, 5)):
        found = [float(f"{m}e{p}") for p in powers for m in digits]
        found = [value for value in found if low <= value <= high]
        if len(found) >= 4:
            return found[:: 1 + len(found) // 9]
    return ticks(low, high, 4)
