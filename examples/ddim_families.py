r"""Families of reverse processes: one training, and as much noise on the way back as one likes.

DDIM's eta goes from a deterministic map (0) to the ancestral chain (1); all members have the same
marginals, so one denoiser serves them all. Less noise makes smoother paths, which few steps follow.

Lecture: Gardos, DS542 (Prince's notebook 18.4); Huang, U Tokyo, DDIM; Yuan, MIT 6.S183 L1.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from _plots import DATA, GALLERY, GREY, MODEL, OTHER, SHADE, count_steps, panels, save

import undiffuse as ud


def main(steps: int = 100, out: str | Path = GALLERY) -> Path:
    """Draw paths of `steps` steps from the same noise for three eta, and errors at few steps."""
    schedule = ud.schedules.VP()
    means, weights = torch.tensor([[-1.5], [0.3], [1.4]]), torch.tensor([0.3, 0.3, 0.4])
    data = ud.exact.GaussianMixture(means, weights, schedule, std=0.2)

    figure, axes = panels(4, width=3.0)
    x = torch.linspace(-3, 3, 241)[:, None]
    t = torch.linspace(0.004, 1, 120)
    density = torch.stack([data.log_prob(x, s).exp() for s in t], 1)
    scaled = density / density.amax(0)
    start = torch.linspace(-2, 2, 14)[:, None]
    for axis, eta in zip(axes, (0.0, 0.5, 1.0), strict=False):
        axis.imshow(scaled.numpy(), cmap=SHADE, extent=(0, 1, 3, -3), aspect="auto", alpha=0.6)
        rule = ud.samplers.DDIM(eta=eta)
        run = ud.sample(data, start.shape, rule, steps, "uniform", x_T=start, trajectory=True)
        for i, path in enumerate(run.x[..., 0].T):
            axis.plot(run.times, path, color=plt.get_cmap("plasma")(i / 15), lw=0.9)
        kind = {0.0: "deterministic", 0.5: "between", 1.0: "ancestral"}[eta]
        axis.set(title=f"$\\eta = {eta:g}$: {kind}", xlabel="time $t$", ylim=(-3, 3), xlim=(1, 0))
    axes[0].set_ylabel("$x$")

    truth = data.draw(2000, seed=1)[:, 0].sort().values
    again = data.draw(2000, seed=2)[:, 0].sort().values
    counts = [n for n in (2, 4, 8, 16, 32) if n <= steps]
    for eta, colour in ((0.0, DATA), (0.5, OTHER), (1.0, MODEL)):
        error = []
        for n in counts:
            made = ud.sample(data, (2000, 1), ud.samplers.DDIM(eta=eta), n, seed=3)[:, 0]
            error.append(float((made.sort().values - truth).abs().mean()))
        axes[3].loglog(counts, error, "o-", ms=4, color=colour, label=f"$\\eta$ = {eta:g}")
    floor = float((again - truth).abs().mean())
    axes[3].axhline(floor, color=GREY, ls="--", lw=1, label="two draws of the data")
    axes[3].set(title="Distance to the data", ylim=(0.04, 8), ylabel="Wasserstein-1 distance")
    count_steps(axes[3], counts)
    axes[3].legend(loc="upper right")
    return save(figure, out, "ddim_families")


if __name__ == "__main__":
    print(main())
