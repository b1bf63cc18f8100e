"""Training of a noisy classifier: cross-entropy at all noise levels, as a denoiser is trained."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from undiffuse import noise, process
from undiffuse.data.dataset import Dataset
from undiffuse.errors import RunFailed, UndiffuseError
from undiffuse.guidance.noisy_classifier import NoisyClassifier
from undiffuse.schedules.base import Schedule


def fit_classifier(
    dataset: Dataset,
    network: nn.Module,
    schedule: Schedule,
    *,
    steps: int = 2000,
    batch_size: int = 128,
    lr: float = 1e-3,
    seed: int = 0,
) -> NoisyClassifier:
    """p(label | x_t) for all t, learned by -log p(label | alpha x_0 + sigma eps), t uniform.

    AdamW; the rate warms up over a twentieth of the steps and falls to 0 as a half cosine. The
    minimum of this loss is the exact p(label | x_t).

    Args:
        dataset: samples with labels.
        network: an untrained network of the catalogue for samples of this shape, without labels.
        schedule: that of the denoiser to be guided.
        steps: how many, >= 1.
        batch_size: samples in a step.
        lr: the highest rate.
        seed: order, times and noise are functions of it; the first weights come with `network`.

    Returns:
        the classifier, in evaluation mode.

    Raises:
        UndiffuseError: no labels, or no steps.
        RunFailed: the loss is not finite.

    Source: Dhariwal & Nichol 2021 (arXiv 2105.05233), section 4.
    """
    if dataset.labels is None:
        raise UndiffuseError(f"{dataset.source} has no labels, so there is nothing to classify")
    if steps < 1 or batch_size < 1:
        raise UndiffuseError(f"steps and batch_size must be at least 1, not {steps}, {batch_size}")
    classes = int(dataset.labels.max()) + 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(noise.integer(seed, "classifier"))
        judge = NoisyClassifier(network, dataset.shape, classes, schedule)
    weight = judge.head.weight
    optimizer = torch.optim.AdamW(judge.parameters(), lr=lr, weight_decay=1e-2)
    size = min(batch_size, len(dataset))
    for step in range(steps):
        epoch, place = divmod(step, len(dataset) // size)
        if place == 0:
            order = noise.permutation(seed, "classifier", len(dataset), epoch)
        batch = dataset.batch(order[place * size : (place + 1) * size])
        t = schedule.first + (1 - schedule.first) * noise.uniform(seed, "classifier-t", size, step)
        eps = noise.normal(seed, "classifier-noise", batch.x.shape, step=step)
        x_t = process.noised(schedule, batch.x, t, eps).to(weight)
        optimizer.param_groups[0]["lr"] = lr * min(
            (step + 1) / max(1, steps // 20), (1 + math.cos(math.pi * step / steps)) / 2
        )
        assert batch.label is not None
        loss = functional.nll_loss(judge(x_t, t), batch.label.to(weight.device))
        if not bool(torch.isfinite(loss)):
            raise RunFailed(f"the loss of the classifier is {loss.item()} at step {step + 1}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return judge.eval().requires_grad_(False)
