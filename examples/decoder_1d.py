"""The decoder in one dimension: a step back is Gaussian if it is small.

Bayes' rule gives p(x_s | x_t) ~ q(x_t | x_s) p_s(x_s). For a small step the first factor is narrow
and the product nearly Gaussian, so a learned Gaussian can stand for it; for a large one it has the
modes of the data. That is why the reverse chain needs many steps.

Lecture: Gardos, DS542 (Prince's notebook 18.2); Huang, U Tokyo, "the speed problem".
"""

from __future__ import annotations

from pathlib import Path

import torch
from _plots import DATA, GALLERY, MODEL, OTHER, panels, save

import undiffuse as ud


def main(steps: int = 100, out: str | Path = GALLERY) -> Path:
    """Draw two reverse steps, exact and Gaussian, and chains of 3, 10 and `steps` steps."""
    schedule = ud.schedules.VP()
    means, weights = torch.tensor([[-1.5], [0.3], [1.4]]), torch.tensor([0.3, 0.3, 0.4])
    data = ud.exact.GaussianMixture(means, weights, schedule, std=0.2)

    figure, axes = panels(3, width=3.7)
    x, t = torch.linspace(-3, 3, 601, dtype=torch.float64)[:, None], 0.5
    x_t = torch.full((1, 1), -0.25, dtype=torch.float64)
    for axis, s in zip(axes, (0.47, 0.08), strict=False):
        there, spread = ud.process.transition(
            schedule, x, s, t
        )  # q(x_t | x_s) as a function of x_s
        bayes = -(((x_t - there) / spread) ** 2)[:, 0] / 2 + data.log_prob(x, s)
        exact = bayes.softmax(0) / (x[1] - x[0])
        mean, _ = ud.process.posterior(schedule, x_t, data(x_t, t), t, s)
        variance = data.reverse_variance(x_t, t, s)
        gauss = torch.distributions.Normal(mean[0], variance[0].sqrt()).log_prob(x[:, 0]).exp()
        axis.fill_between(x[:, 0], exact, color=DATA, alpha=0.3, label="exact, by Bayes' rule")
        axis.plot(x[:, 0], gauss, color=MODEL, label="the best Gaussian")
        axis.axvline(float(x_t), color="k", lw=0.8, ls=":", label="$x_t$")
        size = "small" if t - s < 0.1 else "large"
        axis.set(title=f"A {size} step: $p(x_s\\,|\\,x_t)$, t = {t} to s = {s}", xlabel="$x_s$")
        axis.set(ylim=(0, 1.45 * float(exact.max())), yticks=[])
        axis.legend(loc="upper left")

    axes[2].fill_between(x[:, 0], data.log_prob(x, 0.0).exp(), color=DATA, alpha=0.3, label="data")
    edges = torch.linspace(-3, 3, 49)
    for count, colour in zip((3, 10, steps), ("#e8b49c", OTHER, MODEL), strict=True):
        made = ud.sample(data, (3000, 1), "ddpm(variance=own)", steps=count, seed=0)
        height = torch.histogram(made[:, 0], edges, density=True).hist
        axes[2].stairs(height, edges, color=colour, label=f"{count} steps", lw=1.3)
    axes[2].set(title="Samples of the reverse chain", xlabel="$x_0$", yticks=[], ylim=(0, 1.4))
    axes[2].legend(loc="upper left", ncols=2)
    return save(figure, out, "decoder_1d")


if __name__ == "__main__":
    print(main())
