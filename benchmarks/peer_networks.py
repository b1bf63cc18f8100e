"""The networks of other libraries for small images, each through its own public interface.

Every entry is a network and `call(network, x_t, t)` -> its output, with t the integers 0 ... 999 of
1,000 steps [B]. Their sizes follow each library's example, scaled to images of 28x28 pixels:
2.0 to 4.1 million parameters. `make peers` installs the libraries; what is missing is left out.

    python benchmarks/peer_networks.py      which networks are here
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import version
from typing import NamedTuple

from peers import library
from torch import Tensor, nn

Call = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Network(NamedTuple):
    """A network of a library and how it is called."""

    library: str
    make: Callable[[], nn.Module]
    call: Call


def ddpm_pytorch() -> object:
    """The module that holds Unet and GaussianDiffusion of denoising-diffusion-pytorch."""
    importlib.import_module("accelerate")
    return library("denoising_diffusion_pytorch", "denoising_diffusion_pytorch")


def ddpm_pytorch_unet(channels: int) -> nn.Module:
    """Unet with dim_mults (1, 2, 4): the README's fourth level would halve 7 pixels."""
    made: nn.Module = ddpm_pytorch().Unet(dim=32, dim_mults=(1, 2, 4), channels=channels)
    return made


def diffusers_unet(channels: int, size: int) -> nn.Module:
    """UNet2DModel as in `train_unconditional.py`, attention at its narrowest, three levels."""
    model: nn.Module = importlib.import_module("diffusers").UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=2,
        block_out_channels=(32, 64, 128),
        norm_num_groups=8,
        attention_head_dim=32,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )
    return model


def smalldiffusion_unet(channels: int, size: int) -> nn.Module:
    """Unet with two blocks a level and attention at the coarsest."""
    made: nn.Module = library("smalldiffusion", "model_unet").Unet(
        size, channels, channels, ch=32, ch_mult=(1, 2, 4), num_res_blocks=2,
        attn_resolutions=(size // 4,), dropout=0.0,
    )  # fmt: skip
    return made


def smalldiffusion_dit(channels: int, size: int) -> nn.Module:
    """DiT of six layers on patches of 4x4."""
    made: nn.Module = library("smalldiffusion", "model_dit").DiT(
        in_dim=size, channels=channels, patch_size=4, depth=6, head_dim=32, num_heads=6
    )
    return made


def azula_unet(channels: int) -> nn.Module:
    """UNet without attention, modulated by 64 numbers."""
    made: nn.Module = importlib.import_module("azula.nn.unet").UNet(
        channels, channels, mod_features=64, hid_channels=(32, 64, 128), hid_blocks=(2, 2, 2)
    )
    return made


def level(t: Tensor) -> Tensor:
    """A noise level for networks that are told sigma."""
    return (t.float() + 1) / 100


def networks(channels: int, size: int) -> tuple[dict[str, Network], dict[str, str], list[str]]:
    """The networks by name, the libraries' versions, and the libraries not found."""
    every = {
        "denoising-diffusion-pytorch Unet": Network(
            "denoising-diffusion-pytorch",
            lambda: ddpm_pytorch_unet(channels),
            lambda net, x, t: net(x, t),
        ),
        "diffusers UNet2DModel": Network(
            "diffusers",
            lambda: diffusers_unet(channels, size),
            lambda net, x, t: net(x, t).sample,
        ),
        "smalldiffusion Unet": Network(
            "smalldiffusion",
            lambda: smalldiffusion_unet(channels, size),
            lambda net, x, t: net(x, level(t)),
        ),
        "smalldiffusion DiT": Network(
            "smalldiffusion",
            lambda: smalldiffusion_dit(channels, size),
            lambda net, x, t: net(x, level(t)),
        ),
        "azula UNet": Network(
            "azula",
            lambda: azula_unet(channels),
            lambda net, x, t: net(x, t.float()[:, None].expand(-1, 64) / 1000),
        ),
    }
    found, versions, missing = {}, {}, []
    for name, network in every.items():
        try:
            network.make()
            found[name], versions[network.library] = network, version(network.library)
        except ImportError:
            missing.append(network.library)
    return found, versions, missing


if __name__ == "__main__":
    present, numbers, absent = networks(1, 28)
    for title, entry in present.items():
        count = sum(p.numel() for p in entry.make().parameters())
        print(f"{title} ({numbers[entry.library]}): {count / 1e6:.2f} million parameters")
    if absent:
        print(f"missing: {', '.join(dict.fromkeys(absent))}; `make peers` installs them")
