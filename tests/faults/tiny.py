"""The smallest run that has everything a run can have, by the command line or in Python.

13 labelled images of 4x4 in batches of 5, flips, hidden labels and dropout; a checkpoint every
second step, all of which are kept; a step takes about 10 ms.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from undiffuse import noise, storage
from undiffuse.cli import main
from undiffuse.training import checkpoint
from undiffuse.training.recipe import from_table, save_toml, to_table

STEPS = 6
RECIPE = from_table(
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
            "checkpoint_every": 2,
            "sample_every": 1000,
            "keep": 1000,
        },
        "sampling": {"steps": 2},
    }
)


def data(folder: Path) -> Path:
    """The images as an .npz file."""
    file = folder / "images.npz"
    if not file.exists():
        x = noise.normal(0, "images", (13, 4, 4)).clamp(-1, 1)
        np.savez(file, images=((x + 1) * 127.5).byte().numpy(), labels=np.arange(13) % 3)
    return file


def words(folder: Path, out: Path, *more: str) -> list[str]:
    """The command line that trains the run `out`, with data and recipe written into `folder`."""
    recipe = folder / "tiny.toml"
    if not recipe.exists():
        save_toml(recipe, to_table(RECIPE))
    return ["train", str(data(folder)), "--out", str(out), "--recipe", str(recipe), *more]


def trained(folder: Path) -> Path:
    """The run in a folder, made if it is not there, with the checkpoints 2, 4 and 6."""
    run = folder / "run"
    if not run.exists():
        assert main(words(folder, run)) == 0
    return run


def vouch(folder: Path) -> None:
    """Write a manifest that fits what is there, as one with bad intentions would."""
    (folder / storage.MANIFEST).unlink(missing_ok=True)
    files = {
        f.name: {"size": f.stat().st_size, "sha256": storage.digest(f)} for f in folder.iterdir()
    }
    manifest = {"format": storage.FORMAT, "files": files}
    seal = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    storage.write_json(folder / storage.MANIFEST, {**manifest, "sha256": seal})


def remains(run: Path) -> dict[str, Any]:
    """What a run has learned and told, without the seconds, to be compared bit for bit."""
    folder, damaged = checkpoint.newest(run)
    assert folder is not None
    assert not damaged
    files = [*folder.glob("*.safetensors"), folder / "state.json", *run.glob("model/*.safe*")]
    metrics = [
        {k: v for k, v in json.loads(line).items() if "seconds" not in k}
        for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    digests = {
        f"{f.parent.name}/{f.name}": hashlib.sha256(f.read_bytes()).hexdigest() for f in files
    }
    return {"metrics": metrics, **digests}
