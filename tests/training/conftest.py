"""A small data set, a small recipe, and what is left of a run when time is taken out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from undiffuse import noise
from undiffuse.data.dataset import InMemory
from undiffuse.training import checkpoint
from undiffuse.training.recipe import Recipe, from_table
from undiffuse.training.session import Session

STEPS = 11


@pytest.fixture(scope="session")
def images() -> InMemory:
    """13 labelled images of 4x4: with 5 a step, epochs end within the steps 3, 6, 8 and 11."""
    return InMemory(
        noise.normal(0, "images", (13, 1, 4, 4)).clamp(-1, 1),
        source="noise",
        labels=torch.arange(13) % 3,
    )


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """Everything that draws random numbers is on: flips, hidden labels, dropout in the network."""
    return from_table(
        {
            "network": {
                "name": "unet",
                "width": 8,
                "multipliers": [1, 2],
                "attention": [False, True],
                "blocks": 1,
                "dropout": 0.2,
            },
            "data": {"flip": True},
            "training": {
                "steps": STEPS,
                "batch_size": 5,
                "warmup": 3,
                "label_dropout": 0.3,
                "checkpoint_every": 4,
                "sample_every": 100,
            },
            "sampling": {"steps": 1},
        }
    )


@pytest.fixture(scope="session")
def short() -> Recipe:
    """A recipe for vectors whose steps take a few milliseconds."""
    return from_table(
        {
            "network": {"name": "mlp", "width": 8, "depth": 1},
            "training": {
                "steps": 6,
                "batch_size": 4,
                "warmup": 20,
                "checkpoint_every": 2,
                "sample_every": 100,
            },
            "sampling": {"steps": 1},
        }
    )


@pytest.fixture(scope="session")
def points() -> InMemory:
    """10 points of the plane."""
    return InMemory(noise.normal(0, "points", (10, 2)), source="points")


@pytest.fixture(scope="session")
def run_until() -> Callable[[Session, int | None], None]:
    """Run a session to its end, or stop it at a step as a signal would."""

    def run(session: Session, stop: int | None = None) -> None:
        torch.manual_seed(session.state.step)  # the global generator is nobody's business
        for record in session.records():
            session.stop = record.step == stop

    return run


@pytest.fixture(scope="session")
def remains() -> Callable[[Path], dict[str, Any]]:
    """What a run has learned and told, without the seconds, to be compared bit for bit."""

    def read(run: Path) -> dict[str, Any]:
        folder, _ = checkpoint.newest(run)
        assert folder is not None
        files = [*folder.glob("*.safetensors"), folder / "state.json", *run.glob("model/*.safe*")]
        metrics = [
            {k: v for k, v in json.loads(line).items() if not k.endswith("seconds")}
            for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        digests = {
            f"{f.parent.name}/{f.name}": hashlib.sha256(f.read_bytes()).hexdigest() for f in files
        }
        return {"metrics": metrics, **digests}

    return read
