"""The ideal denoiser as a vector field: far out it points at the mean, near data at a point.

For finite data the minimiser of the training loss is known: x - sigma eps*(x, sigma) is a softmax
average of the data. At large sigma it is the mean of all of it, at small sigma the nearest point,
and between them it finds the shape first and the detail later.

Lecture: Yuan, MIT 6.S183 L1, "what did the model learn?".
"""

from __future__ import annotations

from pathlib import Path

import torch
from _plots import DATA, GALLERY, arrows, panels, save, shade

import undiffuse as ud


def main(steps: int = 80, out: str | Path = GALLERY) -> Path:
    """Draw the direction of -eps* for data of `steps` points on a spiral, at four noise levels."""
    turn = torch.linspace(0.2, 1, steps, dtype=torch.float64)
    spiral = turn[:, None] * torch.stack([(13 * turn).cos(), (13 * turn).sin()], 1)
    schedule = ud.schedules.LogLinear()
    ideal = ud.exact.FiniteSet(spiral, schedule)

    figure, axes = panels(4, width=3.0, height=3.3)
    for axis, sigma in zip(axes, (1.0, 0.3, 0.15, 0.05), strict=True):
        t = schedule.t_from_log_snr(-2 * torch.tensor(sigma, dtype=torch.float64).log())

        def pull(x: torch.Tensor, t: torch.Tensor = t) -> torch.Tensor:
            return ideal(x, t) - x  # -sigma eps*(x, sigma)

        style = {"cmap": "YlOrBr", "levels": torch.linspace(0, 1.5, 16), "extend": "max"}
        image = shade(axis, lambda x, pull=pull: pull(x).norm(dim=1), 1.4, **style)
        arrows(axis, pull, 1.4)
        axis.scatter(*spiral.T, s=9, color=DATA, zorder=3)
        axis.set_title(f"$\\sigma$ = {sigma:g}")
    figure.colorbar(image, ax=axes, shrink=0.75, label="$|\\hat x_0 - x| = \\sigma |\\epsilon^*|$")
    figure.suptitle("Where the ideal denoiser points, $\\hat x_0(x, \\sigma) - x$", fontsize=12)
    return save(figure, out, "ideal_denoiser")


if __name__ == "__main__":
    print(main())
