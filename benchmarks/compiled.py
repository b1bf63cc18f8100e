"""What `torch.compile` makes of every network: how long it takes, and whether it is the same.

Each network is compiled by inductor, torch's default, and given batches of two sizes: the first is
compiled for its shape, the second for any shape, as torch does by itself. The difference is that of
all values, relative to theirs. The tests trace every network without generating code, which is a
matter of seconds; this takes minutes and needs a C++ compiler.

    python benchmarks/compiled.py [unet dit ...]
"""

from __future__ import annotations

import sys
import time

import torch

from undiffuse.networks.base import Network
from undiffuse.networks.dit import DiT
from undiffuse.networks.edm2 import EDM2UNet
from undiffuse.networks.mlp import MLP
from undiffuse.networks.unet import UNet

SIZES = ((4, (28, 28)), (3, (33, 20)))  # a batch of so many, and its positions


def networks() -> dict[str, Network]:
    torch.manual_seed(0)
    made: dict[str, Network] = {
        "mlp": MLP(size=5, width=16, classes=10),
        "unet": UNet(channels=1, width=16, patch=2, blocks=1, classes=10),
        "edm2": EDM2UNet(channels=1, width=16, patch=2, blocks=1, classes=10),
        "dit": DiT(channels=1, width=32, depth=2, patch=4, classes=10),
    }
    for network in made.values():
        for parameter in network.parameters():  # whose last layers are zero
            parameter.data.add_(0.05 * torch.randn_like(parameter))
    return made


@torch.no_grad()
def main() -> None:
    for name, network in networks().items():
        if name not in (sys.argv[1:] or [name]):
            continue
        torch.compiler.reset()
        quick = torch.compile(network.eval())
        for count, size in SIZES:
            shape = (count, 5) if name == "mlp" else (count, 1, *size)
            x, c_noise, label = torch.randn(shape), torch.randn(count), torch.arange(count)
            begun = time.perf_counter()
            made, wanted = quick(x, c_noise, label=label), network(x, c_noise, label=label)
            apart = float((made - wanted).norm() / wanted.norm())
            print(
                f"{name} {list(shape)}: {time.perf_counter() - begun:.0f} s, {apart:.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
