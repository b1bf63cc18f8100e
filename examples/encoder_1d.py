"""The encoder in one dimension: data drowns in noise, one small step at a time.

X_k = sqrt(1 - beta_k) X_{k-1} + sqrt(beta_k) u_k has nothing to learn, yet it takes every density
to N(0, 1): the kernel q(x_t | x_0) forgets where it started, the marginal p_t its three modes.

Lecture: Gardos, DS542 (Prince's notebook 18.1); also Hoffman, MIT 15.S60, step 1.
"""

from __future__ import annotations

from pathlib import Path

import torch
from _plots import DATA, GALLERY, GREY, MODEL, SHADE, panels, save

import undiffuse as ud


def main(steps: int = 100, out: str | Path = GALLERY) -> Path:
    """Draw the kernel with paths, the marginals with paths, and five marginals; `steps` is T."""
    torch.manual_seed(0)
    schedule = ud.schedules.Discrete.linear(steps)
    means, weights = torch.tensor([[-1.5], [0.3], [1.4]]), torch.tensor([0.3, 0.3, 0.4])
    data = ud.exact.GaussianMixture(means, weights, schedule, std=0.2)
    point = ud.exact.Gaussian(means[0], schedule, std=0.0)  # its p_t is the kernel q(x_t | x_0)

    figure, axes = panels(3, width=3.7)
    titles = "Diffusion kernel $q(x_t\\,|\\,x_0 = -1.5)$", "Marginal $p_t(x)$"
    t, x = torch.linspace(1 / steps, 1, steps), torch.linspace(-3, 3, 241)
    for axis, law, title in zip(axes, (point, data), titles, strict=False):
        density = torch.stack([law.log_prob(x[:, None], s).exp() for s in t], 1)  # [X, T]
        scaled = density / density.amax(0)  # every column has its own scale
        axis.imshow(scaled.numpy(), cmap=SHADE, extent=(0, 1, 3, -3), aspect="auto", alpha=0.8)
        paths = walk(schedule, law.draw(4, seed=4), steps)
        axis.plot(torch.linspace(0, 1, steps + 1), paths, color=MODEL, lw=0.9)
        axis.set(title=title, xlabel="time $t = k/T$", ylabel="$x$", ylim=(-3, 3))

    for level, s in enumerate((0.0, 0.1, 0.2, 0.4, 1.0)):
        density = data.log_prob(x[:, None], s).exp() / 1.2 + 4 - level
        axes[2].fill_between(x, density, 4 - level, color=DATA, alpha=0.75 - 0.12 * level)
        axes[2].text(-3.2, 4.08 - level, f"t = {s:g}")
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(x).exp()
    axes[2].plot(x, normal / 1.2, color=GREY, ls="--")
    axes[2].text(1.6, 0.25, "$N(0, 1)$", color=GREY)
    axes[2].set(title="From three modes to one", xlabel="$x$", yticks=[])
    axes[2].spines["left"].set_visible(False)
    return save(figure, out, "encoder_1d")


def walk(schedule: ud.schedules.Discrete, x: torch.Tensor, steps: int) -> torch.Tensor:
    """The chain itself, from x [N, 1]; [steps + 1, N]."""
    path = [x]
    for k in range(steps):
        mean, std = ud.process.transition(schedule, path[-1], k / steps, (k + 1) / steps)
        path.append(mean + std * torch.randn_like(mean))
    return torch.stack(path)[..., 0]


if __name__ == "__main__":
    print(main())
