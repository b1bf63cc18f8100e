r"""A judge of labels that knows nothing of the model it judges.

A classifier is trained on the real training samples and shown the generated ones: the share that it
recognises as the label that was asked for says whether a conditional model obeys. The judge errs
too, so its accuracy on real samples that it has not seen stands beside. Small samples go to a
support vector machine, larger images to the network of `features.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.data.dataset import Dataset
from undiffuse.errors import UndiffuseError
from undiffuse.evaluation.features import Features, learn, parted, shrunk
from undiffuse.evaluation.spread import spread

SMALL = 256  # pixels (16x16) up to which the machine judges
MOST = 10_000  # training samples that the machine reads at most, evenly spread


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


def fit(
    dataset: Dataset, held_out: Dataset | None, seed: int = 0, features: Features | None = None
) -> Judge:
    """Train a judge on `dataset` and measure it on `held_out`.

    Without a held-out part, every tenth sample of `dataset` is kept for the measurement. Where a
    network judges, `features` is taken for it if there is one already.

    Raises:
        UndiffuseError: there are no labels, or only one among those to learn from.
    """
    learned, unseen = parted(dataset, held_out)
    if dataset.labels is None or len(dataset.labels[learned].unique()) < 2:
        raise UndiffuseError(f"{dataset.source} has no labels to tell apart; a judge needs two")
    if len(dataset.shape) == 3 and dataset.shape[1] * dataset.shape[2] > SMALL:
        network = features or learn(dataset, held_out, seed)
        return Judge("convolutional network", network.predict, network.accuracy)
    if held_out is None or held_out.labels is None:
        held_out = dataset
    predict = _machine(*_read(dataset, spread(learned, MOST)), seed)
    x, labels = _read(held_out, unseen)
    if not len(x):
        raise UndiffuseError(f"{dataset.source} has too few samples to measure a judge on")
    return Judge("support vectors", predict, float((predict(x) == labels).double().mean()))


def _read(dataset: Dataset, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Samples [N, D], large images averaged down, and their labels."""
    assert dataset.labels is not None
    x, _ = dataset.batch(indices)
    return _flat(x), dataset.labels[indices]


def _flat(x: Tensor) -> Tensor:
    return shrunk(x.float().cpu()).flatten(1)


def _machine(x: Tensor, labels: Tensor, seed: int) -> Callable[[Tensor], Tensor]:
    from sklearn.svm import SVC  # slow to import

    machine = SVC(C=10.0, gamma="scale", random_state=seed % 2**32)
    machine.fit(x.numpy(), labels.numpy())

    def predict(x: Tensor) -> Tensor:
        return torch.from_numpy(machine.predict(_flat(x).numpy()))

    return predict
