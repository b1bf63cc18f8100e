"""Makes the golden files of the format that this version writes.

    python tests/faults/make_golden.py

golden/format-N/ holds the checkpoint of step 4 of a run of 6, the model folder of its end, the
images it learns from, and samples of all three sets of weights. It is made once, when the format is
new, and never again: every later version must read it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import tiny

from undiffuse import load, storage
from undiffuse.cli import main

GOLDEN = Path(__file__).parent / "golden"
SMALL = {"width": 4, "multipliers": [1], "attention": [False]}


def samples(source: Path, weights: str = "ema") -> list[float]:
    """Five samples of 4x4, drawn by a rule that has no choices, rounded to 1e-6."""
    x = load(source, weights=weights).sample(5, [0, 1, 2, -1, 0], sampler="ddim", steps=3, seed=7)
    return [round(value, 6) for value in x.flatten().tolist()]


def make() -> None:
    folder = GOLDEN / f"format-{storage.FORMAT}"
    if folder.exists():
        sys.exit(f"{folder} is there already; a format that was written is never written anew")
    folder.mkdir(parents=True)
    tiny.data(folder)
    os.chdir(folder)  # so that the run names its data as images.npz
    settings = [f"network.{key}={json.dumps(value)}" for key, value in SMALL.items()]
    settings += ["training.checkpoint_every=4", "training.lr=0.05", "training.warmup=0"]
    words = tiny.words(folder, Path("run"), "--set", *settings)
    words[1] = "images.npz"
    assert main(words) == 0
    run = folder / "run"
    shutil.rmtree(run / "checkpoints" / "step-00000006")
    shutil.rmtree(run / "samples")
    for name in (".lock", ".owner"):
        (run / name).unlink(missing_ok=True)
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:4]), encoding="utf-8")
    (folder / "tiny.toml").unlink()
    drawn = {
        "raw": samples(run, "raw"),
        "ema": samples(run),
        "model": samples(run / "model"),
    }
    (folder / "samples.json").write_text(json.dumps(drawn) + "\n", encoding="utf-8")


if __name__ == "__main__":
    make()
