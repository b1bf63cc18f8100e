r"""What a small network sees in an image: 64 numbers in which distances mean something.

A convolutional network learns the labels of the real images; its last hidden layer is the space in
which generated and real images are compared. The numbers are scaled so that real images have
variance 1 on the average of the 64 axes, hence a squared distance of 128 is that of two unlike
images, whatever the data.

The network is a function of the data and the seed, and its weights, about 100 kB, can be kept as a
folder of safetensors and JSON. Figures are comparable only where they come from one network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from undiffuse import noise, storage
from undiffuse.data.dataset import Dataset
from undiffuse.errors import UndiffuseError
from undiffuse.evaluation.spread import spread

SIDE = 32  # larger images are averaged down to this
LEARNED, MEASURED = 60_000, 10_000  # images to learn from and to measure on, at most
STEPS, EPOCHS, BATCH, RATE = 700, 30, 256, 3e-3  # 700 steps, or 30 epochs of less data
WIDTH = 64  # features
AT_ONCE = 1000


@dataclass(frozen=True, eq=False)
class Features:
    """A network that knows the labels of images, and what it sees on the way.

    Attributes:
        network: images to logits; its last layer is the only one after the features.
        scale: what the hidden layer is divided by.
        accuracy: the share of real images that it has not seen and names rightly.
        facts: shape and classes of the data, its fingerprint, the seed.
    """

    network: nn.Sequential
    scale: float
    accuracy: float
    facts: dict[str, Any]

    def __call__(self, x: Tensor) -> Tensor:
        """The features [B, 64], float64, of images [B, C, H, W] in [-1, 1].

        Raises:
            UndiffuseError: images of another shape than those it was trained on.
        """
        return self._through(self.network[:-1], x).double() / self.scale

    def predict(self, x: Tensor) -> Tensor:
        """The labels [B], int64, that images seem to have."""
        return self._through(self.network, x).argmax(1)

    @torch.no_grad()
    def _through(self, layers: nn.Module, x: Tensor) -> Tensor:
        if list(x.shape[1:]) != self.facts["shape"]:
            raise UndiffuseError(
                f"this judge knows images of shape {self.facts['shape']}, not {list(x.shape[1:])}"
            )
        parts = [layers(shrunk(part.float().cpu())) for part in x.split(AT_ONCE)]
        return torch.cat(parts)

    def save(self, folder: Path) -> None:
        """Store weights and facts as a folder that `open_features` reads."""
        halves = {k: v.half() for k, v in self.network.state_dict().items()}
        facts = {"scale": self.scale, "accuracy": self.accuracy, **self.facts}
        storage.write(folder, {"weights": halves}, {"judge": facts})


def learn(dataset: Dataset, held_out: Dataset | None, seed: int = 0) -> Features:
    """Train a network on the labels of images, and measure it on others.

    Without a held-out part, every tenth image is kept for the measurement.

    Raises:
        UndiffuseError: the samples are not images, or have no labels, or only one.
    """
    if dataset.labels is None or len(dataset.labels.unique()) < 2:
        raise UndiffuseError(f"{dataset.source} has no labels to tell apart; a judge needs two")
    if len(dataset.shape) != 3:
        raise UndiffuseError(f"{dataset.source} holds no images; a network judges nothing else")
    learned, unseen = parted(dataset, held_out)
    classes = max(int(d.labels.max()) for d in (dataset, held_out) if d and d.labels is not None)
    x, labels = _read(dataset, spread(learned, LEARNED))
    network = _trained(x, labels, classes + 1, seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.half())  # as it is stored
    facts = {
        "shape": list(dataset.shape),
        "classes": classes + 1,
        "fingerprint": dataset.fingerprint(),
        "seed": seed,
    }
    plain = Features(network, 1.0, 0.0, facts)
    some = dataset.batch(learned[noise.permutation(seed, "scale", len(learned))[:MEASURED]]).x
    scale = float(plain(some).var(0, correction=0).mean().sqrt()) or 1.0
    other = dataset if held_out is None or held_out.labels is None else held_out
    batch = other.batch(spread(unseen, MEASURED))
    if not len(batch.x) or batch.label is None:
        raise UndiffuseError(f"{dataset.source} has too few samples to measure a judge on")
    accuracy = float((plain.predict(batch.x) == batch.label).double().mean())
    return Features(network, scale, accuracy, facts)


def open_features(folder: Path) -> Features:
    """The network of a folder that `Features.save` wrote.

    Raises:
        UndiffuseError: there is none, or it is damaged.
    """
    storage.verify(folder)
    facts = storage.read_json(folder / "judge.json")
    try:
        network = _layers(facts["shape"], facts["classes"])
        halves = storage.tensors(folder, "weights")
        network.load_state_dict({k: v.float() for k, v in halves.items()})
        scale, accuracy = float(facts.pop("scale")), float(facts.pop("accuracy"))
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UndiffuseError(f"{folder} holds no judge of this version: {error}") from error
    return Features(_ready(network), scale, accuracy, facts)


def kept(dataset: Dataset, folder: Path, seed: int = 0) -> Features:
    """The network of `folder` if it was trained on this data with this seed; else a new one there.

    Raises:
        UndiffuseError: no network can be trained on the data, or the folder holds something else.
    """
    wanted = {"fingerprint": dataset.fingerprint(), "seed": seed}
    if storage.problem(folder) is None:
        found = open_features(folder)
        if all(found.facts.get(key) == value for key, value in wanted.items()):
            return found
    elif folder.exists() and not (folder / "judge.json").is_file() and any(folder.iterdir()):
        raise UndiffuseError(f"{folder} holds something else than a judge; choose another folder")
    made = learn(dataset, dataset.held_out, seed)
    made.save(folder)
    return made


def parted(dataset: Dataset, held_out: Dataset | None) -> tuple[Tensor, Tensor]:
    """Indices to learn from, and of images unseen: of `held_out`, or every tenth of `dataset`."""
    every = torch.arange(len(dataset))
    if held_out is None or held_out.labels is None:
        return every[every % 10 != 9], every[9::10]
    return every, torch.arange(len(held_out))


def shrunk(x: Tensor) -> Tensor:
    """Images [B, C, H, W] with no side longer than SIDE; other samples as they are."""
    if x.ndim != 4 or max(x.shape[2:]) <= SIDE:
        return x
    return functional.adaptive_avg_pool2d(x, (min(x.shape[2], SIDE), min(x.shape[3], SIDE)))


def _read(dataset: Dataset, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Images, large ones averaged down to SIDE, and their labels."""
    assert dataset.labels is not None
    parts = [shrunk(dataset.batch(part).x) for part in indices.split(AT_ONCE)]
    return torch.cat(parts), dataset.labels[indices]


def _trained(x: Tensor, labels: Tensor, classes: int, seed: int) -> nn.Sequential:
    """AdamW on one cycle of the rate."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(noise.integer(seed, "judge"))
        network = _layers(list(x.shape[1:]), classes)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-2)
    batch = min(BATCH, len(x))
    epoch = len(x) // batch  # steps of it
    steps = min(STEPS, EPOCHS * epoch)
    for step in range(steps):
        if step % epoch == 0:
            order = noise.permutation(seed, "judge", len(x), step // epoch)
        at = order[step % epoch * batch :][:batch]
        rising, falling = (step + 1) / (0.1 * steps), (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.param_groups[0]["lr"] = RATE * min(rising, falling)
        loss = functional.cross_entropy(network(x[at]), labels[at])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return _ready(network)


def _ready(network: nn.Sequential) -> nn.Sequential:
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)


def _layers(shape: list[int], classes: int) -> nn.Sequential:
    """Three convolutions, each followed by pooling while a side is above 4, and a hidden layer."""
    channels, height, width = (shape[0], *(min(side, SIDE) for side in shape[1:]))
    layers: list[nn.Module] = []
    for wide in (16, 32, 32):
        layers += [nn.Conv2d(channels, wide, 3, padding=1), nn.ReLU()]  # [B, wide, H, W]
        if max(height, width) > 4:
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
            height, width = -(-height // 2), -(-width // 2)
        channels = wide
    hidden = nn.Linear(channels * height * width, WIDTH)
    return nn.Sequential(*layers, nn.Flatten(), hidden, nn.ReLU(), nn.Linear(WIDTH, classes))
