"""Why a VAE blurs and a diffusion model does not: averages of pictures, in one step or in many.

The best Gaussian decoder is the conditional mean E[x | z]; where codes overlap it averages pictures
that differ. A denoiser is a conditional mean too, but a sampler asks it again and again, and each
answer decides a little more.

Lecture: Huang, U Tokyo, drawbacks of standard VAEs.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from _plots import DATA, GALLERY, MODEL, OTHER, panels, save

import undiffuse as ud
from undiffuse import pictures


def main(steps: int = 300, out: str | Path = GALLERY) -> Path:
    """Train both on handwritten digits, `steps` steps each; draw samples, and their contrast."""
    torch.manual_seed(0)
    digits = ud.data.open_data("digits")
    x = digits.batch(torch.arange(len(digits)))[0]  # [N, 1, 8, 8]
    size = {"channels": 1, "latent": 4, "multipliers": (1, 2, 2)}
    networks = ud.networks.PictureEncoder(**size), ud.networks.PictureDecoder(**size)
    vae = ud.objectives.VAE(*networks)
    optimiser = torch.optim.Adam(vae.parameters(), lr=2e-3)
    for _ in range(steps):
        batch = x[torch.randint(len(x), (64,))]
        optimiser.zero_grad()
        vae.loss(batch, torch.randn(64, *vae.latent_shape(digits.shape))).mean().backward()
        optimiser.step()
    with tempfile.TemporaryDirectory() as folder:
        settings = {"network.width": 32, "training.warmup": 10}
        ud.train("digits", folder, "digits", steps=steps, batch_size=64, settings=settings)
        model = ud.load(folder)

    with torch.no_grad():
        blurred = vae.decode(torch.randn(40, *vae.latent_shape(digits.shape)), (8, 8))
    sets = {
        "Data": (x[torch.randperm(len(x))[:40]], DATA),
        "VAE, $z \\sim N(0, I)$": (blurred, MODEL),
        "Diffusion, 20 steps": (model.sample(40, seed=0), OTHER),
    }
    figure, axes = panels(3, width=3.9, height=2.8)
    for axis, (name, (images, colour)) in zip(axes, sets.items(), strict=True):
        axis.imshow(pictures.grid(images, columns=8, gap=12), cmap="gray")
        edges = (images[..., 1:] - images[..., :-1]).abs().mean()
        axis.set_title(f"{name}: contrast {float(edges):.2f}", color=colour)
        axis.set_axis_off()
    return save(figure, out, "vae_blur")


if __name__ == "__main__":
    print(main())
