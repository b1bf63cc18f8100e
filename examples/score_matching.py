"""Score matching: four ways to learn grad log p from samples alone, beside the one that knows it.

Implicit, sliced and finite-difference score matching differ from the explicit loss by a constant
(the last up to the square of its step); denoising learns the score of data with a little noise, and
is the cheapest. Each network here sees the same samples.

Lecture: Huang, U Tokyo, score matching and denoising score matching; Song et al. 2019 (sliced).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from _plots import DATA, GALLERY, MODEL, arrows, panels, save, shade
from torch import Tensor, nn

import undiffuse as ud
from undiffuse.objectives import score_matching


def main(steps: int = 1500, out: str | Path = GALLERY) -> Path:
    """Train five small networks for `steps` steps; draw their fields beside the true score."""
    means = torch.tensor([[-1.0, -0.6], [1.0, -0.6], [0.0, 1.0]])
    data = ud.exact.GaussianMixture(means, None, ud.schedules.VP(), std=0.45)
    losses = {
        "Explicit": lambda s, x, v: score_matching.explicit(s, truth, x),
        "Implicit": lambda s, x, v: score_matching.implicit(s, x),
        "Sliced": lambda s, x, v: score_matching.sliced(s, x, v[None]),
        "Finite difference": lambda s, x, v: score_matching.finite_difference(s, x, v[None]),
        "Denoising": lambda s, x, v: score_matching.denoising(s, x, v, sigma=0.15),
    }

    def truth(x: Tensor) -> Tensor:
        return data.score(x, 0.0)

    figure, axes = panels(3, 2, width=3.1, height=3.3)
    shade(axes[0, 0], lambda x: data.log_prob(x, 0.0).exp(), 2.2)
    arrows(axes[0, 0], truth, 2.2, 13)
    axes[0, 0].set_title("The true score of $p$", color=DATA)
    style = {"cmap": "Oranges", "levels": torch.linspace(0, 2, 11), "extend": "max"}
    x = data.draw(4000, seed=1).float()
    for axis, (name, loss) in zip(axes.flat[1:], losses.items(), strict=True):
        torch.manual_seed(1)
        s = train(loss, data.draw(8192).float(), steps)
        image = shade(axis, lambda x, s=s: (s(x) - truth(x)).norm(dim=1), 2.2, **style)
        arrows(axis, s, 2.2, 13)
        off = (s(x).detach() - truth(x)).square().sum() / truth(x).square().sum()
        axis.set_title(f"{name}: {100 * float(off):.1f} % off", color=MODEL)
    figure.colorbar(image, ax=axes, shrink=0.6, label="error $|s(x) - \\nabla\\log p(x)|$")
    return save(figure, out, "score_matching")


def train(loss: Callable[..., Tensor], x: Tensor, steps: int) -> nn.Module:
    """A score network, by Adam."""
    net = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))
    optimiser = torch.optim.Adam(net.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=steps)
    for _ in range(steps):
        batch = x[torch.randint(len(x), (256,))]
        optimiser.zero_grad()
        loss(net, batch, torch.randn_like(batch)).mean().backward()
        optimiser.step()
        rate.step()
    return net


if __name__ == "__main__":
    print(main())
