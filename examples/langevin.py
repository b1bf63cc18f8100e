"""Langevin dynamics, with and without annealing: a score says where to go, not how much is there.

Between modes that lie far apart the score does not know their weights, so a chain keeps those of
its start, and where there was no data it barely moves. With noise that falls slowly the modes part
when they are still one, and the weights come out right.

Lecture: Huang, U Tokyo, Langevin dynamics and NCSN; Song & Ermon 2019, figure 3.
"""

from __future__ import annotations

from pathlib import Path

import torch
from _plots import DATA, GALLERY, GREY, MODEL, OTHER, panels, save, square

import undiffuse as ud


def main(steps: int = 600, out: str | Path = GALLERY) -> Path:
    """Draw exact samples, plain Langevin for `steps` steps, and annealed for as many."""
    schedule = ud.schedules.VE(sigma_min=0.3, sigma_max=12.0)
    means, weights = torch.tensor([[-4.0, -4.0], [4.0, 4.0]]), torch.tensor([0.2, 0.8])
    data = ud.exact.GaussianMixture(means, weights, schedule, std=1.0)
    start = 16 * torch.rand(800, 2, generator=torch.Generator().manual_seed(0)) - 8

    plain = ud.samplers.unadjusted_langevin(lambda x: data.score(x, 0.0), start, 0.2, steps)
    levels = max(2, steps // 10)
    annealed = ud.samplers.AnnealedLangevin(step_size=0.2, inner=10)
    run = ud.sample(data, (800, 2), annealed, levels, seed=0)

    figure, axes = panels(3, width=3.4, height=3.7)
    clouds = {
        "The data": (data.draw(800), DATA),
        f"Langevin, {steps} steps": (plain, MODEL),
        f"Annealed, {levels} levels of 10 steps": (run, OTHER),
    }
    for axis, (name, (x, colour)) in zip(axes, clouds.items(), strict=True):
        square(axis, 9)
        if name.startswith("Langevin"):
            axis.scatter(*start.T, s=4, color=GREY, alpha=0.4, lw=0)
            axis.text(-8.8, 8.2, "grey: the start", color=GREY)
        axis.scatter(*x.T, s=5, color=colour, alpha=0.6, lw=0)
        share = float((x.sum(1) > 0).double().mean())
        axis.text(4, 7.6, f"{share:.0%}", ha="center", fontsize=14, color=colour, weight="bold")
        axis.text(
            -4, -8.4, f"{1 - share:.0%}", ha="center", fontsize=14, color=colour, weight="bold"
        )
        axis.plot([-8, 8], [8, -8], color=GREY, lw=0.7, ls=":")
        axis.set_title(name)
    return save(figure, out, "langevin")


if __name__ == "__main__":
    print(main())
