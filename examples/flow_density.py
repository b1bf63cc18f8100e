"""The density of a trained model, by the probability-flow ODE, beside the true one.

A sample that follows the flow to the noise takes its density along: log p(x) is that of the noise
it arrives at, plus the integral of the divergence on the way. So a model that was only ever asked
to denoise tells how likely each point is.

Lecture: Huang, U Tokyo, probability-flow ODE and normalizing flows; Song et al. 2021, section 4.3.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from _plots import DATA, GALLERY, GREY, MODEL, panels, plane, save, shade

import undiffuse as ud


def main(steps: int = 2000, out: str | Path = GALLERY) -> Path:
    """Train on a spiral of Gaussians for `steps` steps; draw both densities, and both log p."""
    turn = torch.linspace(0.3, 1, 40, dtype=torch.float64)
    means = 1.6 * turn[:, None] * torch.stack([(9 * turn).cos(), (9 * turn).sin()], 1)
    truth = ud.exact.GaussianMixture(means, None, ud.schedules.EDM(), std=0.12)
    with tempfile.TemporaryDirectory() as folder:
        recipe = {"training.warmup": 10}
        ud.train(truth.draw(20_000).float(), folder, "vectors", steps=steps, settings=recipe)
        model = ud.load(folder).denoiser.requires_grad_(False)

    def learned(x: torch.Tensor) -> torch.Tensor:
        return ud.likelihood.log_likelihood(model, x, rtol=1e-4, atol=1e-4).log_p

    figure, axes = panels(3, width=3.5, height=3.6)
    top = float(truth.log_prob(plane(2.2, 80), 0.0).max().exp())
    levels = torch.linspace(0, 1.15 * top, 16)
    shade(axes[0], lambda x: truth.log_prob(x, 0.0).exp(), 2.2, levels=levels, extend="max")
    shade(axes[1], lambda x: learned(x).exp(), 2.2, cmap="Oranges", levels=levels, extend="max")
    axes[0].set_title("The true density")
    axes[1].set_title(f"The model's, after {steps} steps")

    x = truth.draw(500, seed=1)
    exact, found = truth.log_prob(x, 0.0), learned(x)
    ends = torch.tensor([float(exact.min()) - 0.5, float(exact.max()) + 0.5])
    axes[2].plot(ends, ends, color=GREY, lw=1)
    axes[2].scatter(exact, found, s=6, color=MODEL, alpha=0.6, lw=0)
    axes[2].set(xlim=ends.tolist(), ylim=ends.tolist(), aspect="equal")
    axes[2].set(
        xlabel="true $\\log p(x)$ in nats", ylabel="the model's", title="Points of the data"
    )
    kl = float((exact - found).mean())
    axes[2].text(ends[0] + 0.3, ends[1] - 0.6, f"KL(data || model) = {kl:.2f} nats", color=DATA)
    return save(figure, out, "flow_density")


if __name__ == "__main__":
    print(main())
