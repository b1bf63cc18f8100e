r"""A judge of labels that knows nothing of the model it judges.

A classifier is trained on the real training samples and shown the generated ones: the share that it
recognises as the label that was asked for says whether a conditional model obeys. The judge errs
too, so its accuracy on real samples that it has not seen stands beside. Small samples go to a
support vector machine, larger images to a small convolutional network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from undiffuse import noise
from undiffuse.data.dataset import Dataset
from undiffuse.errors import UndiffuseError

SMALL = 256  # pixels (16x16) up to which the machine judges
FOR_MACHINE, FOR_NETWORK = 10_000, 60_000  # training samples read at most, evenly spread
SIDE = 32  # larger images are averaged down to this
STEPS, BATCH, RATE = 700, 256, 3e-3  # of the network: 3 epochs of 60,000


@dataclass(frozen=True)
class Judge:
    """A trained classifier.

    Attributes:
        kind: what it is, in words.
        predict: samples [B, ...] -> labels int64 [B].
        accuracy: the share of real samples that it has not seen and names rightly.
    """

    kind: str
    predict: Callable[[Tensor], Tensor]
    accuracy: float


def fit(dataset: Dataset, held_out: Dataset | None, seed: int = 0) -> Judge:
    """Train a judge on `dataset` and measure it on `held_out`.

    Without a held-out part, every tenth sample of `dataset` is kept for the measurement.

    Raises:
        UndiffuseError: there are no labels, or only one.
    """
    if dataset.labels is None or len(dataset.labels.unique()) < 2:
        raise UndiffuseError(f"{dataset.source} has no labels to tell apart; a judge needs two")
    small = len(dataset.shape) != 3 or dataset.shape[1] * dataset.shape[2] <= SMALL
    kind, train = ("support vectors", _machine) if small else ("convolutional network", _network)
    limit = FOR_MACHINE if small else FOR_NETWORK
    learned = torch.arange(len(dataset))
    if held_out is None or held_out.labels is None:
        held_out, unseen = dataset, learned[9::10]
        learned = learned[learned % 10 != 9]
    else:
        unseen = torch.arange(len(held_out))
    predict = train(*_read(dataset, spread(learned, limit)), seed)
    x, labels = _read(held_out, spread(unseen, limit))
    if not len(x):
        raise UndiffuseError(f"{dataset.source} has too few samples to measure a judge on")
    return Judge(kind, predict, float((predict(x) == labels).double().mean()))


def spread(indices: Tensor, count: int) -> Tensor:
    """At most `count` of `indices`, evenly spread over them."""
    count = min(count, len(indices))
    return indices[torch.arange(count) * len(indices) // max(count, 1)]


def _read(dataset: Dataset, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Samples, large images averaged down to SIDE, and their labels."""
    assert dataset.labels is not None
    parts = [_shrunk(dataset.batch(part).x) for part in indices.split(1024) if len(part)]
    x = torch.cat(parts) if parts else torch.empty(0, *dataset.shape)
    return x, dataset.labels[indices]


def _shrunk(x: Tensor) -> Tensor:
    """Images [B, C, H, W] with no side longer than SIDE; other samples as they are."""
    if x.ndim != 4 or max(x.shape[2:]) <= SIDE:
        return x
    return functional.adaptive_avg_pool2d(x, (min(x.shape[2], SIDE), min(x.shape[3], SIDE)))


def _machine(x: Tensor, labels: Tensor, seed: int) -> Callable[[Tensor], Tensor]:
    from sklearn.svm import SVC  # slow to import

    machine = SVC(C=10.0, gamma="scale", random_state=seed % 2**32)
    machine.fit(_shrunk(x).flatten(1).numpy(), labels.numpy())

    def predict(x: Tensor) -> Tensor:
        return torch.from_numpy(machine.predict(_shrunk(x.float().cpu()).flatten(1).numpy()))

    return predict


def _network(x: Tensor, labels: Tensor, seed: int) -> Callable[[Tensor], Tensor]:
    """Two convolutions with pooling and a hidden layer, AdamW on one cycle of the rate."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(noise.integer(seed, "judge"))
        network = _layers(x.shape[1:], int(labels.max()) + 1)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-2)
    batch = min(BATCH, len(x))
    for step in range(STEPS):
        epoch, place = divmod(step, len(x) // batch)
        if place == 0:
            order = noise.permutation(seed, "judge", len(x), epoch)
        at = order[place * batch : (place + 1) * batch]
        rising, falling = (step + 1) / (0.1 * STEPS), (1 + math.cos(math.pi * step / STEPS)) / 2
        optimizer.param_groups[0]["lr"] = RATE * min(rising, falling)
        loss = functional.cross_entropy(network(x[at]), labels[at])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    network.eval()

    def predict(x: Tensor) -> Tensor:
        with torch.no_grad():
            parts = [network(part).argmax(1) for part in _shrunk(x.float().cpu()).split(1000)]
        return torch.cat(parts)

    return predict


def _layers(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    channels, height, width = shape
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),  # [B, 16, H, W]
        nn.MaxPool2d(2, ceil_mode=True),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),  # [B, 32, H/2, W/2]
        nn.MaxPool2d(2, ceil_mode=True),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * -(-height // 4) * -(-width // 4), 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )
