"""Other libraries' recipes for small images, through their own public interfaces.

The documented recipe of a library takes every setting from its own training example; the quick one
is meant for short runs: batches of 64 and a rate of 1e-3 that warms up over 50 steps and falls to
1e-4 at the end of the longest budget. The networks of denoising-diffusion-pytorch and diffusers,
whose examples are for large pictures, are those of `peer_networks.py`; smalldiffusion and azula
have examples for 28x28 pixels, which name theirs. Samples are drawn by each library's own DDIM with
50 calls, which is the default of diffusers' DDIMPipeline; the 250 calls of
denoising-diffusion-pytorch's example and the 1,000 of diffusers' take hours on a CPU. Nobody's
images are mirrored.

A peer trains step by step and knows its raw weights and, where its example has them, averaged ones.
"""

from __future__ import annotations

import copy
import importlib
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from peer_networks import ddpm_pytorch, ddpm_pytorch_unet, diffusers_unet
from peers import library
from torch import Tensor, nn

WARMUP, HIGH, LOW, CLIP = 50, 1e-3, 1e-4, 1.0  # of the quick recipes


class Peer(ABC):
    """A library's network in training on images [N, C, H, W] in [-1, 1] with labels [N] or none."""

    name: ClassVar[str]
    recipe: ClassVar[str]
    library: ClassVar[str]
    batch_size: ClassVar[int]
    accumulate: ClassVar[int] = 1  # batches of a step
    conditional: ClassVar[bool] = False  # on labels

    def __init__(self, images: Tensor, labels: Tensor | None, calls: int) -> None:
        self.images, self.labels, self.calls = images, labels, calls
        self.order = torch.empty(0, dtype=torch.int64)

    def drawn(self) -> Tensor:
        """The next of the data, every epoch in a new order, the last few of an epoch left out."""
        count = min(self.batch_size, len(self.images))
        if len(self.order) < count:
            self.order = torch.randperm(len(self.images))
        at, self.order = self.order[:count], self.order[count:]
        return at

    def batch(self) -> Tensor:
        """The next images."""
        return self.images[self.drawn()]

    @abstractmethod
    def step(self, done: float) -> None:
        """One step of the optimiser; `done` is the share of the longest budget that has passed."""

    @abstractmethod
    def weights(self) -> dict[str, nn.Module]:
        """The networks by their weights: "raw" and, where there are averages, "ema"."""

    @abstractmethod
    def sample(self, network: nn.Module, count: int, labels: Tensor | None) -> Tensor:
        """Samples [count, C, H, W] in [-1, 1], of the labels [count] where it is conditional."""


def quick_rate(step: int, done: float) -> float:
    """The rate of the quick recipes at step number `step` (from 0)."""
    return HIGH * (step + 1) / WARMUP if step < WARMUP else HIGH + (LOW - HIGH) * done


class DdpmPytorch(Peer):
    """denoising-diffusion-pytorch as its README calls the Trainer."""

    name = "denoising-diffusion-pytorch"
    recipe = (
        "README: pred_v, sigmoid schedule, Adam(0.9, 0.99) at 8e-5, batches of 32, two"
        " accumulated, EMA 0.995 every 10 steps, clip 1"
    )
    library = "denoising-diffusion-pytorch"
    batch_size, accumulate, rate = 32, 2, 8e-5

    def __init__(self, images: Tensor, labels: Tensor | None, calls: int) -> None:
        super().__init__(images, labels, calls)
        d, (channels, *size) = ddpm_pytorch(), images.shape[1:]
        network = ddpm_pytorch_unet(channels)
        self.diffusion: Any = d.GaussianDiffusion(
            network, image_size=tuple(size), timesteps=1000, sampling_timesteps=calls
        )
        self.optimizer = torch.optim.Adam(network.parameters(), lr=self.rate, betas=(0.9, 0.99))
        self.ema = importlib.import_module("ema_pytorch").EMA(
            self.diffusion, beta=0.995, update_every=10
        )
        self.diffusion.train()

    def step(self, done: float) -> None:
        for _ in range(self.accumulate):
            loss = self.diffusion((self.batch() + 1) / 2) / self.accumulate
            loss.backward()
        nn.utils.clip_grad_norm_(self.diffusion.parameters(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update()

    def weights(self) -> dict[str, nn.Module]:
        return {"raw": self.diffusion, "ema": self.ema.ema_model}

    def sample(self, network: nn.Module, count: int, labels: Tensor | None) -> Tensor:
        made: Tensor = network.eval().sample(batch_size=count)  # in [0, 1]
        return made * 2 - 1


class QuickDdpmPytorch(DdpmPytorch):
    """The same with batches of 64 and a high rate that falls."""

    name = "denoising-diffusion-pytorch-quick"
    recipe = "pred_v, sigmoid schedule, Adam at 1e-3 to 1e-4, batches of 64, EMA 0.995, clip 1"
    batch_size, accumulate = 64, 1

    def __init__(self, images: Tensor, labels: Tensor | None, calls: int) -> None:
        super().__init__(images, labels, calls)
        self.steps = 0

    def step(self, done: float) -> None:
        self.optimizer.param_groups[0]["lr"] = quick_rate(self.steps, done)
        super().step(done)
        self.steps += 1


class Diffusers(Peer):
    """diffusers as `train_unconditional.py` trains, without mirrored images."""

    name = "diffusers"
    recipe = (
        "train_unconditional.py: epsilon, linear schedule, AdamW(0.95, 0.999) at 1e-4 with 500"
        " steps of warm-up and a cosine over 100 epochs, batches of 16, EMA 0.9999 with warm-up,"
        " clip 1"
    )
    library = "diffusers"
    batch_size = 16
    betas, decay, epochs = (0.95, 0.999), 0.9999, 100

    def __init__(self, images: Tensor, labels: Tensor | None, calls: int) -> None:
        super().__init__(images, labels, calls)
        d, training = (importlib.import_module(f"diffusers{m}") for m in ("", ".training_utils"))
        channels, _, size = images.shape[1:]
        self.network = diffusers_unet(channels, size).train()
        self.scheduler: Any = d.DDPMScheduler(num_train_timesteps=1000)
        self.sampling: Any = d.DDIMScheduler.from_config(self.scheduler.config)
        parameters = list(self.network.parameters())
        self.optimizer = torch.optim.AdamW(
            parameters, lr=1e-4, betas=self.betas, weight_decay=1e-6, eps=1e-8
        )
        self.ema: Any = training.EMAModel(
            parameters, decay=self.decay, use_ema_warmup=True, inv_gamma=1.0, power=0.75
        )
        self.rates: Any = importlib.import_module("diffusers.optimization").get_scheduler(
            "cosine",
            optimizer=self.optimizer,
            num_warmup_steps=500,
            num_training_steps=-(-len(images) // self.batch_size) * self.epochs,
        )

    def step(self, done: float) -> None:
        x_0 = self.batch()
        noise, t = torch.randn_like(x_0), torch.randint(0, 1000, (len(x_0),))
        x_t = self.scheduler.add_noise(x_0, noise, t)
        loss = nn.functional.mse_loss(self.network(x_t, t).sample, noise)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        self.optimizer.step()
        self.rates.step()
        self.optimizer.zero_grad()
        self.ema.step(self.network.parameters())

    def weights(self) -> dict[str, nn.Module]:
        averaged = copy.deepcopy(self.network)
        self.ema.copy_to(averaged.parameters())
        return {"raw": self.network, "ema": averaged}

    @torch.no_grad()
    def sample(self, network: nn.Module, count: int, labels: Tensor | None) -> Tensor:
        network.eval()
        self.sampling.set_timesteps(self.calls)
        x = torch.randn(count, *self.images.shape[1:])
        for t in self.sampling.timesteps:
            x = self.sampling.step(network(x, t).sample, t, x).prev_sample
        return x.clamp(-1, 1)


class QuickDiffusers(Diffusers):
    """The same with batches of 64, a high rate that falls and a shorter average."""

    name = "diffusers-quick"
    recipe = (
        "epsilon, linear schedule, AdamW at 1e-3 to 1e-4, batches of 64, EMA 0.995 with warm-up,"
        " clip 1"
    )
    batch_size, betas, decay = 64, (0.9, 0.999), 0.995

    def __init__(self, images: Tensor, labels: Tensor | None, calls: int) -> None:
        super().__init__(images, labels, calls)
        self.rates = Rates(self.optimizer)

    def step(self, done: float) -> None:
        self.rates.done = done
        super().step(done)


class Rates:
    """The quick rate in the place of a library's scheduler."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer, self.steps, self.done = optimizer, 0, 0.0
        self.set()

    def set(self) -> None:
        self.optimizer.param_groups[0]["lr"] = quick_rate(self.steps, self.done)

    def step(self) -> None:
        self.steps += 1
        self.set()


class SmallDiffusion(Peer):
    """smalldiffusion as `fashion_mnist_unet.py` trains, without mirrored images."""

    name = "smalldiffusion"
    recipe = (
        "fashion_mnist_unet.py: epsilon, log-linear sigmas from 0.01 to 20, AdamW at 7e-4, batches"
        " of 1,024, EMA 0.999 with warm-up, Unet of width 64, gam 1.6"
    )
    library = "smalldiffusion"
    batch_size = 1024

    def __init__(self, images: Tensor, labels: Tensor | None, calls: int) -> None:
        super().__init__(images, labels, calls)
        parts: list[Any] = [library("smalldiffusion", m) for m in ("model", "model_unet")]
        self.d: Any = library("smalldiffusion", "diffusion")
        channels, _, size = images.shape[1:]
        self.network: Any = parts[0].Scaled(parts[1].Unet)(
            size, channels, channels, ch=64, ch_mult=(1, 1, 2), attn_resolutions=(size // 2,)
        )
        self.schedule: Any = self.d.ScheduleLogLinear(sigma_min=0.01, sigma_max=20, N=800)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=7e-4)
        self.ema = torch.optim.swa_utils.AveragedModel(self.network, avg_fn=warmed)

    def step(self, done: float) -> None:
        self.network.train()
        self.optimizer.zero_grad()
        x_0, sigma, eps, _ = self.d.generate_train_sample(self.batch(), self.schedule)
        self.network.get_loss(x_0, sigma, eps).backward()
        self.optimizer.step()
        self.ema.update_parameters(self.network)

    def weights(self) -> dict[str, nn.Module]:
        return {"raw": self.network, "ema": self.ema.module}

    def sample(self, network: nn.Module, count: int, labels: Tensor | None) -> Tensor:
        sigmas = self.schedule.sample_sigmas(self.calls)
        *_, x = self.d.samples(network, sigmas, gam=1.6, batchsize=count)
        made: Tensor = x
        return made.clamp(-1, 1)


def warmed(mean: Tensor, weight: Tensor, count: Tensor | int) -> Tensor:
    """The average after one more: of torch_ema with a decay of 0.999."""
    return weight.lerp(mean, min(0.999, (1 + int(count)) / (10 + int(count))))


class QuickSmallDiffusion(SmallDiffusion):
    """The same with batches of 64 and a high rate that falls."""

    name = "smalldiffusion-quick"
    recipe = (
        "epsilon, log-linear sigmas from 0.01 to 20, AdamW at 1e-3 to 1e-4, batches of 64, EMA"
        " 0.999 with warm-up, Unet of width 64, gam 1.6"
    )
    batch_size = 64

    def __init__(self, images: Tensor, labels: Tensor | None, calls: int) -> None:
        super().__init__(images, labels, calls)
        self.steps = 0

    def step(self, done: float) -> None:
        self.optimizer.param_groups[0]["lr"] = quick_rate(self.steps, done)
        super().step(done)
        self.steps += 1


class Azula(Peer):
    """azula as its tutorial on MNIST trains, which tells the network the labels."""

    name = "azula"
    recipe = (
        "tutorial on MNIST: KarrasDenoiser, VPSchedule, uniform t, Adam at 3e-4, batches of 64,"
        " UNet of 16, 32 and 64 channels, with labels"
    )
    library = "azula"
    batch_size = 64
    conditional = True

    def __init__(self, images: Tensor, labels: Tensor | None, calls: int) -> None:
        super().__init__(images, labels, calls)
        if labels is None:
            raise SystemExit("azula's tutorial needs data with labels; leave it out by --systems")
        denoise, schedules, self.sampling = (
            importlib.import_module(f"azula.{m}") for m in ("denoise", "noise", "sample")
        )
        network = AzulaNetwork(images.shape[1], int(labels.max()) + 1)
        self.denoiser: Any = denoise.KarrasDenoiser(network, schedules.VPSchedule())
        self.optimizer = torch.optim.Adam(self.denoiser.parameters(), lr=3e-4)

    def step(self, done: float) -> None:
        assert self.labels is not None
        at = self.drawn()
        self.denoiser.loss(self.images[at], torch.rand(len(at)), label=self.labels[at]).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def weights(self) -> dict[str, nn.Module]:
        return {"raw": self.denoiser}

    @torch.no_grad()
    def sample(self, network: nn.Module, count: int, labels: Tensor | None) -> Tensor:
        sampler: Any = self.sampling.DDIMSampler(network.eval(), steps=self.calls, silent=True)
        made: Tensor = sampler(sampler.init((count, *self.images.shape[1:])), label=labels)
        return made.clamp(-1, 1)


class AzulaNetwork(nn.Module):
    """azula's UNet, told the noise level and the label by their embeddings' sum."""

    def __init__(self, channels: int, classes: int, features: int = 64) -> None:
        super().__init__()
        self.unet = importlib.import_module("azula.nn.unet").UNet(
            channels, channels, mod_features=features, hid_channels=(16, 32, 64),
            hid_blocks=(2, 2, 2),
        )  # fmt: skip
        self.label = nn.Embedding(classes, features)
        self.level = nn.Sequential(nn.Linear(1, features), nn.SiLU(), nn.Linear(features, features))

    def forward(self, x_t: Tensor, level: Tensor, label: Tensor) -> Tensor:
        made: Tensor = self.unet(x_t, self.label(label) + self.level(level[..., None]))
        return made


PEERS = {
    peer.name: peer
    for peer in (
        DdpmPytorch, QuickDdpmPytorch, Diffusers, QuickDiffusers, SmallDiffusion,
        QuickSmallDiffusion, Azula,
    )
}  # fmt: skip

if __name__ == "__main__":
    for entry in PEERS.values():
        print(f"{entry.name}: {entry.recipe}")
