from __future__ import annotations

from pathlib import Path

import pytest

import undiffuse


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
