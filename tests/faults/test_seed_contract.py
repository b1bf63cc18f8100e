"""A sample is a function of the seed and its own number (reliability goal R17).

Noise is bit-equal for any batch and any number of processes; samples are bit-equal at equal batch
shape, and otherwise within 1e-4 with 99.9 % of the 8-bit pixels equal. Every picture tells enough
to be drawn again alone, though it came out of a batch of 16. That every rule keeps the promise is
tested with the samplers, and jobs shared by processes with the command line.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from figures import Figures
from PIL import Image
from torch import Tensor

import undiffuse
from undiffuse import pictures
from undiffuse.cli import main
from undiffuse.model import Model

NUM = 16
CLOSE, EQUAL = 1e-4, 0.999
RULES = ["ddim", "ddpm", "exponential-adams", "heun", "euler-maruyama", "ddim(eta=1)"]


def differing(one: Tensor, other: Tensor) -> str:
    """In what two sets of images differ by more than is promised; "" where they do not."""
    far = float((one.clamp(-1, 1) - other.clamp(-1, 1)).abs().max())
    same = float((pictures.to_bytes(one) == pictures.to_bytes(other)).float().mean())
    return "" if far < CLOSE and same >= EQUAL else f"{far:.1g} apart, {same:.2%} of pixels equal"


def parts(model: Model, sizes: Sequence[int], options: dict[str, Any]) -> Tensor:
    """All samples, as so many jobs of these sizes, each of which knows its first number."""
    labels, drawn, first = torch.arange(NUM) % model.classes, [], 0
    for size in sizes:
        label = labels[first : first + size]
        drawn.append(model.sample(size, label, first_index=first, batch_size=None, **options))
        first += size
    return torch.cat(drawn)


def attack(count: int, seed: int, tmp: Path) -> Figures:
    """`count` ways to cut a job of 16 samples into jobs, with any rule and seed."""
    model, rng, failures = undiffuse.load(tiny.trained(tmp)), random.Random(seed), []
    for _ in range(count):
        options = {
            "sampler": rng.choice(RULES),
            "steps": rng.randint(2, 5),
            "seed": rng.randrange(2**63),
            "guidance": rng.choice([1.0, 0.0, 2.5]),
        }
        cuts = sorted(rng.sample(range(1, NUM), rng.choice([1, 1, 3, NUM - 1])))
        sizes = [b - a for a, b in zip([0, *cuts], [*cuts, NUM], strict=True)]
        made = parts(model, sizes, options)
        wrong = differing(parts(model, [NUM], options), made)
        first = parts(model, sizes[:1], options)
        if wrong or not torch.equal(made[: sizes[0]], first):
            failures.append(f"{options} in parts of {sizes}: {wrong or 'not bit-equal'}")
    return Figures(count, tuple(failures))


def test_a_job_may_be_cut_anywhere(run: Path) -> None:
    assert attack(8, 0, run.parent) == Figures(8)


def drawn(folder: Path) -> Tensor:
    """The pictures of a directory, uint8 [N, H, W]."""
    files = sorted(folder.glob("*.png"))
    assert [file.stem for file in files] == [f"{i:06d}" for i in range(NUM)]
    return torch.from_numpy(np.stack([np.asarray(Image.open(file)) for file in files]))


def sample(run: Path, out: Path, *more: str) -> Tensor:
    words = ["sample", str(run), "--out", str(out), "--num", str(NUM), "--seed", "11", *more]
    assert main([*words, "--sampler", "ddpm", "--steps", "5", "--guidance", "2"]) == 0
    return drawn(out)


@pytest.fixture(scope="module")
def job(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 pictures drawn in one batch."""
    folder = tmp_path_factory.mktemp("job") / "pictures"
    sample(whole, folder)
    return folder


@pytest.mark.parametrize("size", [1, 3, 16])
def test_batches_of_any_size(size: int, job: Path, whole: Path, tmp_path: Path) -> None:
    made = sample(whole, tmp_path / "x", "--batch-size", str(size))
    assert float((made == drawn(job)).float().mean()) >= EQUAL


@pytest.mark.parametrize("kept", [1, 8, 13])
def test_a_job_resumed_half_way(kept: int, job: Path, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(job, tmp_path / "x")
    for number in range(kept, NUM):
        (tmp_path / "x" / f"{number:06d}.png").unlink()
    made = sample(whole, tmp_path / "x")
    assert float((made == drawn(job)).float().mean()) >= EQUAL
    for number in range(kept):
        name = f"{number:06d}.png"
        assert (tmp_path / "x" / name).read_bytes() == (job / name).read_bytes()


def test_a_picture_tells_how_to_draw_it_again_alone(job: Path, whole: Path) -> None:
    model, equal = undiffuse.load(whole), 0
    for file in sorted(job.glob("*.png")):
        with Image.open(file) as image:
            image.load()
            facts, pixels = dict(image.info), torch.from_numpy(np.asarray(image).copy())
        assert facts["model"] == model.digest
        again = model.sample(
            1,
            int(facts["label"]),
            float(facts["guidance"]),
            int(facts["seed"]),
            sampler=facts["sampler"],
            steps=int(facts["steps"]),
            first_index=int(facts["index"]),
        )
        equal += int((pictures.to_bytes(again)[0, ..., 0] == pixels).sum())
    assert equal / (NUM * 16) >= EQUAL
