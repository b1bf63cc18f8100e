"""Noise runs backwards: a forward SDE in the plane, its reversal, and the flow without noise.

Forward, the VP equation dx = -beta/2 x dt + sqrt(beta) dW takes two moons to N(0, I). Reverse, the
same with the score in the drift brings them back; so does the probability-flow ODE, in which every
point keeps its neighbours. All three have the same law at every time.

Lecture: Gardos, DS542, reversed time process; Design note, SDEs; Huang, U Tokyo, Score SDE.
"""

from __future__ import annotations

from pathlib import Path

import torch
from _plots import GALLERY, panels, save, square

import undiffuse as ud


def main(steps: int = 150, out: str | Path = GALLERY) -> Path:
    """Draw five moments of each process, simulated by Euler-Maruyama in `steps` steps."""
    torch.manual_seed(0)
    moons = ud.data.open_data("moons(count=400, noise=0.02)")
    points, side = moons.batch(torch.arange(400))
    schedule = ud.schedules.VP()
    data = ud.exact.GaussianMixture(1.4 * points, None, schedule, std=0.08)

    rising = torch.linspace(0.02, 1, steps + 1, dtype=torch.float64) ** 2  # dense near the data
    nearest = (data.draw(1000, seed=1)[:, None] - 1.4 * points).square().sum(2).argmin(1)
    x_0, x_T = data.draw(1000, rising[0], seed=1), torch.randn(1000, 2, dtype=torch.float64)
    falling = rising.flip(0)
    runs = {
        "Forward SDE": ud.sde.simulate(ud.sde.Forward(schedule), x_0, rising),
        "Reverse SDE": ud.sde.simulate(ud.sde.Reverse(data), x_T, falling),
        "Probability flow": ud.sde.simulate(ud.sde.Reverse(data, noise=0.0), x_T, falling),
    }
    angle = torch.atan2(x_T[:, 1], x_T[:, 0])  # where the noise came from
    figure, axes = panels(5, 3, width=2.1, height=2.2)
    for row, (name, path) in zip(axes, runs.items(), strict=True):
        forward = name == "Forward SDE"
        times = rising if forward else falling
        for axis, wanted in zip(row, (0.0, 0.05, 0.15, 0.4, 1.0), strict=True):
            k = int((times - wanted).abs().argmin())
            colour, cmap = (side[nearest], "coolwarm") if forward else (angle, "hsv")
            square(axis, 3).scatter(*path[k].T, c=colour, cmap=cmap, s=3.5, alpha=0.7, lw=0)
            axis.set_title(f"t = {wanted:g}" if forward else "")
        row[0].set_ylabel(f"{name}\n{'time runs →' if forward else '← time runs'}")
    return save(figure, out, "reverse_sde")


if __name__ == "__main__":
    print(main())
