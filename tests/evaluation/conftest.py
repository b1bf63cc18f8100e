from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import undiffuse
from undiffuse.data.dataset import InMemory
from undiffuse.data.open import open_data
from undiffuse.evaluation.features import kept


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on digits too short to have learned anything."""
    return undiffuse.train(
        "digits",
        tmp_path_factory.mktemp("runs") / "digits",
        "digits",
        steps=3,
        batch_size=16,
        settings={"network.width": 16, "sampling.steps": 3},
    ).path


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the network that knows digits, trained once."""
    folder = tmp_path_factory.mktemp("judges") / "digits"
    kept(open_data("digits"), folder)
    return folder


@pytest.fixture(scope="session")
def bars() -> Callable[..., InMemory]:
    """Grey images of 20x40 with a bright upper or lower half in noise."""

    def draw(count: int, seed: int, held_out: InMemory | None = None) -> InMemory:
        labels = torch.arange(count) % 2
        generator = torch.Generator().manual_seed(seed)
        pixels = torch.rand(count, 20, 40, 1, generator=generator) * 100
        for half in (0, 1):
            pixels[labels == half, 10 * half : 10 * half + 10] += 60
        return InMemory(
            pixels.to(torch.uint8),
            labels=labels,
            class_names=("upper", "lower"),
            held_out=held_out,
        )

    return draw
