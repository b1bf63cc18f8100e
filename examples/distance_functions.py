"""A denoiser descends a distance: to the data at small noise, to its smooth version at any.

The distance to a set has kinks where two points are equally near. With a soft minimum in place of
the minimum it has none, and then 1/2 grad dist^2(x, sigma) = x - E[x_0 | x] = sigma eps*.

Lecture: Yuan, MIT 6.S183 L1, distance functions (with the square of the soft minimum, corrected).
"""

from __future__ import annotations

from pathlib import Path

import torch
from _plots import DATA, GALLERY, MODEL, OTHER, arrows, panels, plane, save, shade

import undiffuse as ud


def main(steps: int = 400, out: str | Path = GALLERY) -> Path:
    """Draw the squared distance, sharp and smooth, and a cut with `steps` points through it."""
    points = torch.tensor([[-0.9, -0.5], [0.9, -0.5], [0.1, 0.9], [-0.6, 0.5]]).double()
    schedule = ud.schedules.LogLinear()
    ideal = ud.exact.FiniteSet(points, schedule)

    figure, axes = panels(4, width=3.1, height=3.3)
    x, line = plane(1.7, 80), torch.linspace(-1.7, 1.7, 80)
    for axis, sigma in zip(axes, (0.0, 0.25, 0.6), strict=False):

        def square(x: torch.Tensor, sigma: float = sigma) -> torch.Tensor:
            if sigma == 0:
                return ud.exact.distance_to(points, x) ** 2
            return ud.exact.smoothed_square_distance(points, x, sigma, normalised=True)

        def descent(x: torch.Tensor, sigma: float = sigma) -> torch.Tensor:
            if sigma == 0:
                return ud.exact.projection(points, x) - x
            t = schedule.t_from_log_snr(-2 * torch.tensor(sigma).double().log())
            return -sigma * ideal.noise(x, t)

        levels = torch.linspace(0, 3, 16)
        shade(axis, square, 1.7, cmap="YlOrBr", levels=levels, extend="max")
        axis.contour(line, line, square(x).reshape(80, 80).T, levels, colors="w", linewidths=0.7)
        arrows(axis, descent, 1.7, 13)
        axis.scatter(*points.T, s=30, color=DATA, zorder=3)
        exact = "dist$^2(x)$, arrows proj$(x) - x$"
        axis.set_title(
            exact if sigma == 0 else f"smoothed, $\\sigma$ = {sigma}, arrows $-\\sigma\\epsilon^*$"
        )

    cut = torch.linspace(-1.7, 1.7, steps, dtype=torch.float64)
    x = torch.stack([cut, torch.full_like(cut, -0.5)], 1)
    axes[3].plot(cut, ud.exact.distance_to(points, x) ** 2, color="k", label="dist$^2$")
    for sigma, colour in ((0.25, OTHER), (0.6, MODEL)):
        for normalised, style in ((True, "-"), (False, "--")):
            value = ud.exact.smoothed_square_distance(points, x, sigma, normalised)
            label = f"$\\sigma$ = {sigma}, {'mean' if normalised else 'sum'}"
            axes[3].plot(cut, value, style, color=colour, label=label, lw=1.3)
    axes[3].axhline(0, color="k", lw=0.5)
    axes[3].set(title="A cut at $y = -0.5$", xlabel="$x$", ylim=(-0.4, 2.2))
    axes[3].legend(loc="upper center", fontsize=8, ncols=2)
    return save(figure, out, "distance_functions")


if __name__ == "__main__":
    print(main())
