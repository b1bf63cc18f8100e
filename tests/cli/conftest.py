"""Two tiny runs, made once through the command line itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import tyro  # noqa: F401  # before any doctest: it trips over what one leaves in builtins._

from undiffuse.cli import main

SMALL = ["--steps", "3", "--batch-size", "16", "--set"]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on digits, three steps long."""
    path = tmp_path_factory.mktemp("runs") / "digits"
    settings = ["network.width=16", "sampling.steps=4"]
    assert main(["train", "digits", "--out", str(path), *SMALL, *settings]) == 0
    return path


@pytest.fixture(scope="session")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on points in the plane."""
    path = tmp_path_factory.mktemp("runs") / "moons"
    assert main(["train", "moons", "--out", str(path), *SMALL, "sampling.steps=4"]) == 0
    return path


@pytest.fixture
def threads() -> Iterator[None]:
    """Put torch's number of threads back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
