"""No file makes undiffuse run what it holds (reliability goal R6).

A pickle that makes a canary file is put wherever a file is read, under every name that it could
have. Whatever is asked for, the canary never appears, and what is told names the file.
"""

from __future__ import annotations

import contextlib
import io
import pickle  # noqa: TID251
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from figures import Figures
from PIL import Image

from undiffuse.cli import main
from undiffuse.training import checkpoint


class Canary:
    """Unpickled, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = str(file)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.file, "w")


def plain(canary: Path, rng: random.Random) -> bytes:
    return pickle.dumps(Canary(canary), protocol=rng.randrange(6))


def of_torch(canary: Path, rng: random.Random) -> bytes:
    stream, zipped = io.BytesIO(), rng.random() < 0.5
    torch.save({"weights": Canary(canary)}, stream, _use_new_zipfile_serialization=zipped)  # noqa: TID251
    return stream.getvalue()


def of_numpy(canary: Path, rng: random.Random) -> bytes:
    stream, objects = io.BytesIO(), np.array([Canary(canary)], dtype=object)
    if rng.random() < 0.5:
        np.savez(stream, images=objects)
    else:
        np.savez(stream, images=np.zeros((3, 4, 4), np.uint8), labels=objects)
    return stream.getvalue()


KINDS = [plain, of_torch, of_numpy]
Words = list[str]
Trap = Callable[[Path, bytes, random.Random], tuple[Path, Words]]


def trap(file: Path, content: bytes, *words: object) -> tuple[Path, Words]:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file, [str(word) for word in words]


def as_data(tmp: Path, content: bytes, rng: random.Random) -> tuple[Path, Words]:
    file = tmp / f"evil{rng.choice(['.npz', '.pt', '.ckpt', '.bin', '.safetensors', '.png', ''])}"
    verb = rng.choice([["data", file], ["train", file, "--out", tmp / "new"]])
    return trap(file, content, *verb)


def as_images(tmp: Path, content: bytes, rng: random.Random) -> tuple[Path, Words]:
    """One of two files of a folder."""
    file = tmp / "pictures" / f"evil{rng.choice(['.png', '.jpg', '.tiff', '.gif'])}"
    words = trap(file, content, "data", tmp / "pictures")
    Image.new("L", (4, 4)).save(tmp / "pictures" / "good.png")
    return words


def as_metadata(tmp: Path, content: bytes, rng: random.Random) -> tuple[Path, Words]:
    file = tmp / "listed" / rng.choice(["metadata.csv", "metadata.jsonl"])
    words = trap(file, content, "data", tmp / "listed")
    Image.new("L", (4, 4)).save(tmp / "listed" / "good.png")
    return words


def as_recipe(tmp: Path, content: bytes, rng: random.Random) -> tuple[Path, Words]:
    file = tmp / "evil.toml"
    return trap(file, content, "train", "digits", "--recipe", file, "--out", tmp / "new")


def as_model(tmp: Path, content: bytes, rng: random.Random) -> tuple[Path, Words]:
    """The file in place of a run, or alone in a folder."""
    file = tmp / "evil" / f"model{rng.choice(['.pt', '.ckpt', '.bin', '.pth', '.safetensors'])}"
    return trap(file, content, *reading(rng, tmp, file))


def in_place(tmp: Path, content: bytes, rng: random.Random) -> tuple[Path, Words]:
    """In place of a file of the newest checkpoint or of the model folder, and vouched for."""
    run = tmp / "run"
    folder = rng.choice([checkpoint.listed(run)[-1], run / "model"])
    if folder.name == "model":
        names, words = ["weights.safetensors", "model.json"], reading(rng, tmp, folder)
    elif rng.random() < 0.5:
        names = ["weights.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"]
        words = tiny.words(tmp, run, "--resume")
    else:
        names, words = ["ema.safetensors", "model.json"], reading(rng, tmp, run)
    file = folder / rng.choice(names)
    made = trap(file, content, *words)
    tiny.vouch(folder)
    return made


def as_manifest(tmp: Path, content: bytes, rng: random.Random) -> tuple[Path, Words]:
    folder = checkpoint.listed(tmp / "run")[-1]
    return trap(folder / "manifest.json", content, *reading(rng, tmp, folder))


def beside(tmp: Path, content: bytes, rng: random.Random) -> tuple[Path, Words]:
    """A file more in the newest checkpoint."""
    folder = checkpoint.listed(tmp / "run")[-1]
    file = folder / rng.choice(["optimizer.pt", "pytorch_model.bin", "x.ckpt", "args.pkl"])
    resume = tiny.words(tmp, tmp / "run", "--resume")
    return trap(file, content, *rng.choice([resume, reading(rng, tmp, folder)]))


def as_config(tmp: Path, content: bytes, rng: random.Random) -> tuple[Path, Words]:
    run = tmp / "run"
    verbs = [tiny.words(tmp, run, "--resume"), ["report", run], ["evaluate", run, "--num", "4"]]
    return trap(run / "config.toml", content, *rng.choice(verbs))


def as_figures(tmp: Path, content: bytes, rng: random.Random) -> tuple[Path, Words]:
    return trap(tmp / "run" / "evaluation.json", content, "report", tmp / "run")


def reading(rng: random.Random, tmp: Path, source: Path) -> list[object]:
    """A command line that reads a model."""
    sample = ["sample", source, "--out", tmp / "x.png"]
    start = tiny.words(tmp, tmp / "new", "--from", str(source))
    return list(rng.choice([sample, start]))


TRAPS: list[Trap] = [
    *(as_data, as_images, as_metadata, as_recipe, as_model, in_place),
    *(as_manifest, beside, as_config, as_figures),
]


def told(words: Words) -> tuple[int, str]:
    """The exit code of a command and all that it says."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        return main(words), out.getvalue()


def attack(count: int, seed: int, tmp: Path) -> Figures:
    """`count` pickles, each somewhere else."""
    rng, failures = random.Random(seed), []
    tiny.trained(tmp)
    canary, copy = tmp.parent / f"{tmp.name}-canary", tmp.parent / f"{tmp.name}-copy"
    for i in range(count):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(tmp, copy)
        make, lay = rng.choice(KINDS), TRAPS[i % len(TRAPS)]
        file, words = lay(copy, make(canary, rng), rng)
        code, text = told(words)
        # A picture that is none, and a checkpoint with a damaged file, are passed over and named.
        harmless = code == 2 or (code == 0 and lay in {as_images, beside, as_manifest})
        if canary.exists() or not harmless or file.name not in text or "Traceback" in text:
            failures.append(f"{lay.__name__} {make.__name__} {words}: {code} {text[-300:]}")
        canary.unlink(missing_ok=True)
    return Figures(count, tuple(failures))


def test_no_pickle_is_run(run: Path) -> None:
    assert attack(60, 0, run.parent) == Figures(60)


@pytest.mark.parametrize("protocol", range(6))
def test_the_canary_would_sing(protocol: int, tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Canary(tmp_path / "canary"), protocol)).close()
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin", ".safetensors"])
@pytest.mark.parametrize("verb", [["data"], ["sample", "--out", "x.png"]])
def test_what_to_do_is_told(suffix: str, verb: Words, tmp_path: Path) -> None:
    file = tmp_path / f"evil{suffix}"
    file.write_bytes(of_torch(tmp_path / "canary", random.Random(0)))
    code, text = told([*verb, str(file)])
    assert code == 2
    assert str(file) in text
    assert "pickles can run any program when they are read, and are refused; save" in text
    assert "safetensors" in text


def test_there_is_no_verb_that_converts() -> None:
    code, text = told(["convert", "evil.pt"])
    assert code == 2
    assert "there is no command 'convert'" in text
