"""A data set: numbered samples with, where there are any, integer labels.

Training asks for batches by index, so that the order of the data is decided in one place and is a
pure function of the seed and the step. A batch holds float32 samples: images as [B, C, H, W] in
[-1, 1], vectors as [B, D] in their own units. Images stay 8-bit until they are asked for (60,000
digits are 47 MB, not 188). What a model has to remember of its data is in `facts()`: counts,
shape, classes, mean and standard deviation, and a fingerprint of the content.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from undiffuse.errors import UndiffuseError

STATISTICS_FROM = 2048  # samples, evenly spread, from which facts() takes mean and std


class Batch(NamedTuple):
    """Samples x [B, ...] (float32) and their labels [B] (int64), or None for unlabelled data."""

    x: Tensor
    label: Tensor | None


class Skipped(NamedTuple):
    """A file that was left out, and why."""

    file: str
    reason: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset(ABC):
    """Numbered samples of one shape.

    `labels` is int64 [N] with values 0 ... K-1, or None; `class_names` names the K classes;
    `held_out` is the part kept away from training, where the source has one; `skipped` lists the
    files that could not be used.
    """

    source: str = "memory"
    labels: Tensor | None = None
    class_names: tuple[str, ...] = ()
    held_out: Dataset | None = None
    skipped: tuple[Skipped, ...] = ()

    def __post_init__(self) -> None:
        if len(self) == 0:
            raise UndiffuseError(f"{self.source} holds no samples")
        if self.labels is not None:
            if self.labels.shape != (len(self),) or self.labels.dtype != torch.int64:
                raise UndiffuseError(
                    f"labels of {self.source} must be int64 of shape [{len(self)}], "
                    f"not {self.labels.dtype} {list(self.labels.shape)}"
                )
            if int(self.labels.min()) < 0:
                raise UndiffuseError(f"labels of {self.source} must not be negative")
            if self.class_names and int(self.labels.max()) >= len(self.class_names):
                raise UndiffuseError(
                    f"{self.source} has the label {int(self.labels.max())} but only "
                    f"{len(self.class_names)} class names"
                )
        if self.held_out is not None and self.held_out.shape != self.shape:
            raise UndiffuseError(
                f"the held-out samples of {self.source} have shape {self.held_out.shape}, "
                f"the others {self.shape}; both must be equal"
            )

    @abstractmethod
    def __len__(self) -> int:
        """The number of samples, N."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample: (C, H, W) for images, (D,) for vectors."""

    @abstractmethod
    def samples(self, indices: Tensor) -> Tensor:
        """The samples at valid `indices` (int64 [B]) as float32 [B, *shape]."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A sha256 that changes when the data change."""

    @property
    def classes(self) -> int:
        """The number of classes, 0 for unlabelled data."""
        if self.class_names or self.labels is None:
            return len(self.class_names)
        return int(self.labels.max()) + 1

    def batch(self, indices: Sequence[int] | Tensor) -> Batch:
        """The samples and labels at `indices`, in their order; an index may come twice.

        >>> digits = InMemory(torch.tensor([[0.5], [1.5]]), labels=torch.tensor([1, 0]))
        >>> digits.batch([1, 1]).x.tolist(), digits.batch([1, 1]).label.tolist()
        ([[1.5], [1.5]], [0, 0])

        Raises:
            IndexError: an index is outside 0 ... N-1.
        """
        at = torch.as_tensor(indices, dtype=torch.int64, device="cpu")
        if at.ndim != 1 or (at.numel() and not 0 <= int(at.min()) <= int(at.max()) < len(self)):
            raise IndexError(f"indices must be a list of numbers from 0 to {len(self) - 1}")
        return Batch(self.samples(at), None if self.labels is None else self.labels[at])

    def facts(self) -> dict[str, Any]:
        """What to remember of the data, as JSON values.

        `mean` and `std` are taken over all numbers of up to 2048 evenly spread samples; `std` is
        the sigma_data of a preconditioned network.
        """
        count = min(len(self), STATISTICS_FROM)
        spread = torch.arange(count) * len(self) // count
        std, mean = torch.std_mean(self.samples(spread).double(), correction=0)
        return {
            "source": self.source.encode(
                "utf-8", "backslashreplace"
            ).decode(),  # a name may be any bytes
            "kind": "image" if len(self.shape) == 3 else "vector",
            "count": len(self),
            "held_out": 0 if self.held_out is None else len(self.held_out),
            "skipped": len(self.skipped),
            "shape": list(self.shape),
            "classes": self.classes,
            "class_names": list(self.class_names),
            "mean": float(mean),
            "std": float(std),
            "fingerprint": self.fingerprint(),
        }


@dataclass(frozen=True, eq=False)
class InMemory(Dataset):
    """Samples held in one tensor.

    `values` is uint8 [N, H, W, C] (images, 0 ... 255, converted batch by batch) or any float
    [N, ...] that is used as it is: vectors [N, D], or images [N, C, H, W] already in [-1, 1].

    >>> import torch
    >>> InMemory(torch.zeros(10, 28, 28, 1, dtype=torch.uint8)).shape
    (1, 28, 28)

    Raises:
        UndiffuseError: another type or rank, not finite, empty, or labels that do not fit.
    """

    values: Tensor

    def __post_init__(self) -> None:
        if not (self._bytes and self.values.ndim == 4) and not (
            self.values.is_floating_point() and self.values.ndim >= 2
        ):
            raise UndiffuseError(
                f"{self.source}: samples must be uint8 [N, H, W, C] or floats [N, ...], "
                f"not {self.values.dtype} {list(self.values.shape)}"
            )
        if not self._bytes and not bool(self.values.isfinite().all()):
            raise UndiffuseError(f"{self.source} holds numbers that are not finite")
        super().__post_init__()

    @property
    def _bytes(self) -> bool:
        return self.values.dtype == torch.uint8

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        sample = tuple(self.values.shape[1:])
        return (sample[2], *sample[:2]) if self._bytes else sample

    def samples(self, indices: Tensor) -> Tensor:
        values = self.values[indices]
        return from_bytes(values) if self._bytes else values.to(torch.float32)

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.values.dtype} {list(self.values.shape)}".encode())
        digest.update(self.values.contiguous().numpy().data)
        if self.labels is not None:
            digest.update(self.labels.contiguous().numpy().data)
        return digest.hexdigest()


def from_bytes(pixels: Tensor) -> Tensor:
    """Pixels uint8 [B, H, W, C] as float32 [B, C, H, W] = pixels / 127.5 - 1, in [-1, 1].

    >>> from_bytes(torch.tensor([[[[0]], [[255]]]], dtype=torch.uint8)).flatten().tolist()
    [-1.0, 1.0]
    """
    planes = pixels.permute(0, 3, 1, 2).contiguous()  # [B, H, W, C] -> [B, C, H, W]
    return planes.to(torch.float32).div_(127.5).sub_(1.0)
