r"""The evidence lower bound, term by term: where the nats are.

-log p(x_0) <= L_T + sum L_{t-1} + L_0. On a density whose likelihood is known the gap can be seen:
it closes with the number of steps, sooner with the right variance of a step. In the limit the sum
is the integral of 1/2 E|eps - eps_hat|^2 over log-SNR.

Lecture: Design note, training objective; Huang, U Tokyo, DDPM's ELBO; Prince, chapter 18.
"""

from __future__ import annotations

from pathlib import Path

import torch
from _plots import DATA, GALLERY, MODEL, OTHER, count_steps, panels, save

import undiffuse as ud
from undiffuse.likelihood import chain_bound as bound
from undiffuse.likelihood import continuous_bound, noise_error

RULES = {"$\\tilde\\beta$": 0.0, "$\\beta$": 1.0, "optimal": "own"}


def main(steps: int = 64, out: str | Path = GALLERY) -> Path:
    """Draw the terms for 16 steps, the bound up to `steps` steps, and the integral's integrand."""
    schedule = ud.schedules.VP()
    source = ud.data.Mixture(modes=6, std=0.2)
    data = ud.exact.GaussianMixture(source.means, source.weights, schedule, std=source.std)
    x_0 = data.draw(1000)
    truth = -float(data.log_prob(x_0, 0.0).mean())
    grid = ud.grids.LogSNR(noise_max=50.0, noise_min=0.05)

    figure, axes = panels(3, width=3.7)
    terms = bound(data, x_0, grid.times(schedule, 16), variance="own")
    middle = terms.diffusion.mean((1, 2)).tolist()
    values = [float(terms.prior.mean()), *middle, float(terms.reconstruction.mean())]
    colours = [OTHER, *[DATA] * len(middle), MODEL]
    axes[0].bar(range(len(values)), values, color=colours)
    axes[0].axhline(0, color="k", lw=0.6)
    ends = [0, len(values) // 2, len(values) - 1]
    axes[0].set_xticks(ends, ["$L_T$", "$L_{t-1}$, noise to data", "$L_0$"])
    axes[0].set(title=f"{len(values)} terms, {terms.nats:.2f} nats in all", ylabel="nats")

    counts = [n for n in (4, 8, 16, 32, 64, 128) if n <= steps]
    for (name, variance), colour in zip(RULES.items(), (DATA, OTHER, MODEL), strict=True):
        chains = [bound(data, x_0, grid.times(schedule, n), variance=variance) for n in counts]
        axes[1].plot(counts, [b.nats for b in chains], "o-", ms=4, color=colour, label=name)
    axes[1].axhline(truth, color="k", ls="--", lw=1, label="$-\\log p(x_0)$")
    axes[1].set(title="The bound, for three variances", ylim=(truth - 0.4, truth + 4))
    count_steps(axes[1], counts)
    axes[1].legend()

    ends = (-8.0, 8.0)
    whole = continuous_bound(data, x_0, ends, points=steps, variance="own", draws=2)
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0)).double()
    rate = torch.stack([noise_error(data, x_0, s, eps).mean() / 2 for s in whole.times])
    axes[2].fill_between(schedule.log_snr(whole.times), rate, color=DATA, alpha=0.3, lw=0)
    axes[2].axhline(1, color="k", lw=0.8, ls=":")
    axes[2].set(title="Per unit of log-SNR", xlabel="log-SNR (noise to data)", ylim=(0, None))
    axes[2].set_ylabel("$\\frac{1}{2} E|\\epsilon - \\hat\\epsilon|^2$ in nats")
    found = f"{whole.nats:.2f} ± {whole.noise_error:.2f}"
    axes[2].text(-7.5, 0.75, f"area + $L_T$ + $L_0$:\n{found} nats\nexact: {truth:.2f}")
    return save(figure, out, "elbo_terms")


if __name__ == "__main__":
    print(main())
