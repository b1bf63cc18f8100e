"""The reparameterised model in one dimension: a network that guesses the noise.

Algorithm 1 of DDPM, line by line: draw x_0, t and eps, form x_t in one shot, regress on eps. The
best answer is E[eps | x_t], known here in closed form and shown beside what was learned.

Lecture: Gardos, DS542, training process (Prince's notebook 18.3); Hoffman, MIT 15.S60, steps 3-5.
"""

from __future__ import annotations

from pathlib import Path

import torch
from _plots import DATA, GALLERY, MODEL, panels, save

import undiffuse as ud


def main(steps: int = 2000, out: str | Path = GALLERY) -> Path:
    """Train for `steps` steps; draw eps_hat(x, t), the ideal one, and the samples."""
    torch.manual_seed(0)
    schedule = ud.schedules.Discrete.linear(100)
    means, weights = torch.tensor([[-1.5], [0.3], [1.4]]), torch.tensor([0.3, 0.3, 0.4])
    data = ud.exact.GaussianMixture(means, weights, schedule, std=0.2)
    network = ud.networks.MLP(size=1, width=64)
    model = ud.Learned(network, ud.predictions.Noise(), schedule)
    objective = ud.Objective(ud.objectives.times.Uniform(steps=100), ud.objectives.weights.Simple())

    x_all = data.draw(8192).float()
    optimiser = torch.optim.Adam(network.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for _ in range(steps):
        x_0 = x_all[torch.randint(len(x_all), (256,))]
        loss = objective.loss(model, x_0, torch.rand(256), torch.randn(256, 1)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()

    figure, axes = panels(3, width=3.7)
    x, t = torch.linspace(-3, 3, 121), torch.linspace(0.01, 1, 100)
    names = "Learned $\\epsilon_\\theta(x, t)$", "Ideal $E[\\epsilon\\,|\\,x_t = x]$"
    with torch.no_grad():
        for axis, denoiser, name in zip(axes, (model, data), names, strict=False):
            noise = torch.stack([denoiser.noise(x[:, None], s)[:, 0] for s in t], 1)  # [X, T]
            style = {"cmap": "RdBu_r", "vmin": -2.5, "vmax": 2.5, "extent": (0, 1, 3, -3)}
            image = axis.imshow(noise.numpy(), aspect="auto", **style)
            axis.set(title=name, xlabel="time $t$", ylabel="$x$", ylim=(-3, 3))
    figure.colorbar(image, ax=axes[:2], shrink=0.8, label="noise")

    axes[2].fill_between(
        x, data.log_prob(x[:, None], 0.0).exp(), color=DATA, alpha=0.3, label="data"
    )
    made = ud.sample(model, (1500, 1), "ddpm", steps=100, seed=0)[:, 0]
    axes[2].hist(
        made, 40, range=(-3, 3), density=True, histtype="step", color=MODEL, label="samples"
    )
    axes[2].set(title=f"After {steps} steps of training", xlabel="$x_0$", yticks=[], ylim=(0, 1.0))
    axes[2].legend(loc="upper left")
    return save(figure, out, "reparameterised_1d")


if __name__ == "__main__":
    print(main())
