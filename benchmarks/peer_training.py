"""Other libraries' recipes for small images, through their own public interfaces.

Two recipes for each library. The documented one takes every setting from the library's own training
example; the quick one is meant for short runs: batches of 64 and a rate of 1e-3 that warms up over
50 steps and falls to 1e-4 at the end of the longest budget. The networks are those of
`peer_networks.py`. Samples are drawn by each library's own DDIM with 50 calls, which is the default
of diffusers' DDIMPipeline; the 250 calls of denoising-diffusion-pytorch's example and the 1,000 of
diffusers' take hours on a CPU.

A peer trains step by step on uint8 images and knows its raw and its averaged weights.
"""

from __future__ import annotations

import copy
import importlib
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from peer_networks import ddpm_pytorch, ddpm_pytorch_unet, diffusers_unet
from torch import Tensor, nn

WARMUP, HIGH, LOW, CLIP = 50, 1e-3, 1e-4, 1.0  # of the quick recipes


class Peer(ABC):
    """A library's network in training on images [N, C, H, W] in [-1, 1]."""

    name: ClassVar[str]
    recipe: ClassVar[str]
    library: ClassVar[str]
    batch_size: ClassVar[int]
    accumulate: ClassVar[int] = 1  # batches of a step

    def __init__(self, images: Tensor, calls: int) -> None:
        self.images, self.calls = images, calls
        self.order = torch.empty(0, dtype=torch.int64)

    def batch(self) -> Tensor:
        """The next images, every epoch in a new order, the last few of an epoch left out."""
        count = min(self.batch_size, len(self.images))
        if len(self.order) < count:
            self.order = torch.randperm(len(self.images))
        at, self.order = self.order[:count], self.order[count:]
        return self.images[at]

    @abstractmethod
    def step(self, done: float) -> None:
        """One step of the optimiser; `done` is the share of the longest budget that has passed."""

    @abstractmethod
    def weights(self) -> dict[str, nn.Module]:
        """The raw and the averaged network, "raw" and "ema"."""

    @abstractmethod
    def sample(self, network: nn.Module, count: int) -> Tensor:
        """Samples [count, C, H, W] in [-1, 1]."""


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

    def __init__(self, images: Tensor, calls: int) -> None:
        super().__init__(images, calls)
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

    def sample(self, network: nn.Module, count: int) -> Tensor:
        made: Tensor = network.eval().sample(batch_size=count)  # in [0, 1]
        return made * 2 - 1


class QuickDdpmPytorch(DdpmPytorch):
    """The same with batches of 64 and a high rate that falls."""

    name = "denoising-diffusion-pytorch-quick"
    recipe = "pred_v, sigmoid schedule, Adam at 1e-3 to 1e-4, batches of 64, EMA 0.995, clip 1"
    batch_size, accumulate = 64, 1

    def __init__(self, images: Tensor, calls: int) -> None:
        super().__init__(images, calls)
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

    def __init__(self, images: Tensor, calls: int) -> None:
        super().__init__(images, calls)
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
    def sample(self, network: nn.Module, count: int) -> Tensor:
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

    def __init__(self, images: Tensor, calls: int) -> None:
        super().__init__(images, calls)
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


PEERS = {peer.name: peer for peer in (DdpmPytorch, QuickDdpmPytorch, Diffusers, QuickDiffusers)}

if __name__ == "__main__":
    for entry in PEERS.values():
        print(f"{entry.name}: {entry.recipe}")
