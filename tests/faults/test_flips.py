"""Damage to a stored run is found, whatever it is and wherever (reliability goal R4).

Without digests nearly every flipped bit of a weights file is loaded without a word. Here no damaged
file is ever used: a step asked for by its name is refused with the file's name, and a resumed run
falls back to the step before and says so.
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from figures import Figures

import undiffuse
from undiffuse import storage
from undiffuse.cli import main
from undiffuse.errors import UndiffuseError
from undiffuse.training import checkpoint

TENSORS = ["weights.safetensors", "ema.safetensors", "optimizer.safetensors"]
FILES = [*TENSORS, "model.json", "state.json", "manifest.json"]
Fault = Callable[[bytes, bytes, random.Random], bytes | None]


def flip(content: bytes, _: bytes, rng: random.Random) -> bytes:
    place, changed = rng.randrange(len(content)), bytearray(content)
    changed[place] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(content: bytes, _: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def zero(content: bytes, _: bytes, rng: random.Random) -> bytes:
    """A block of the disk that was never written."""
    begin = rng.randrange(0, len(content), 4096)
    block = content[begin : begin + 4096]
    return content[:begin] + bytes(len(block)) + content[begin + 4096 :]


def append(content: bytes, _: bytes, rng: random.Random) -> bytes:
    return content + rng.randbytes(rng.randint(1, 64))


def delete(content: bytes, _: bytes, rng: random.Random) -> None:
    return None


def replace(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """The same file of another step."""
    return other


def repeat_a_key(content: bytes, _: bytes, rng: random.Random) -> bytes:
    """The first entry of a JSON file once more, with another value; elsewhere the same bytes."""
    return re.sub(rb'^\{\s*("\w+")', rb"{\1: 0, \1", content)


def put_nan(content: bytes, _: bytes, rng: random.Random) -> bytes:
    return re.sub(rb": \d[\d.e-]*", b": NaN", content, count=1)


FAULTS: list[Fault] = [
    *[flip] * 12,
    *[truncate, zero, append] * 3,
    *[delete, replace, repeat_a_key, put_nan],
]


def damage(file: Path, fault: Fault, other: Path, rng: random.Random) -> bool:
    """Do it; whether it changed anything."""
    whole = file.read_bytes()
    changed = fault(whole, other.read_bytes(), rng)
    if changed == whole:
        return False
    if changed is None:
        file.unlink()
    else:
        file.write_bytes(changed)
    return True


def refused(folder: Path) -> str:
    """How a folder is refused by its name; "" if it is loaded."""
    try:
        undiffuse.load(folder)
    except UndiffuseError as error:
        return str(error)
    return ""


def attack(count: int, seed: int, tmp: Path) -> Figures:
    """`count` faults, one at a time, in the newest checkpoint and in the model folder of a run."""
    run, rng = tiny.trained(tmp), random.Random(seed)
    before, newest = checkpoint.listed(run)[-2:]
    runs, failures = 0, []
    while runs < count:
        folder, other = (newest, before) if rng.random() < 0.8 else (run / "model", before)
        name = rng.choice([file.name for file in sorted(folder.iterdir())])
        fault, whole = rng.choice(FAULTS), (folder / name).read_bytes()
        if not damage(folder / name, fault, other / name, rng):
            continue
        told = refused(folder)
        # By the manifest of another step every file is another.
        wanted = "" if (fault, name) == (replace, storage.MANIFEST) else name
        if not told or wanted not in told:
            failures.append(f"{fault.__name__} in {folder.name}/{name}: {told or 'loaded'}")
        found, passed = checkpoint.newest(run)
        if (found, len(passed)) != ((before, 1) if folder == newest else (newest, 0)):
            failures.append(f"{fault.__name__} in {folder.name}/{name}: {found} is resumed")
        (folder / name).write_bytes(whole)
        runs += 1
    if refused(newest) or refused(run / "model"):
        failures.append("what was restored is refused")
    return Figures(runs, tuple(failures))


def test_no_damage_is_loaded(run: Path) -> None:
    assert attack(500, 0, run.parent) == Figures(500)


@pytest.mark.parametrize("name", FILES)
def test_a_resumed_run_says_that_it_falls_back(
    name: str, run: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(name)
    newest = checkpoint.listed(run)[-1]
    assert damage(newest / name, flip, newest / name, rng)
    sample = ["sample", str(newest), "--out", str(run.parent / "x.png")]
    capsys.readouterr()
    assert main(sample) == 2
    told = capsys.readouterr().err
    assert re.fullmatch(rf"error: {newest} cannot be used: .*\b{name}\b.*\n", told)
    assert not (run.parent / "x.png").exists()
    assert main(tiny.words(run.parent, run, "--resume")) == 0
    told = capsys.readouterr().err
    assert re.search(rf"warning: \S+/{newest.name} is passed over, .*\b{name}\b", told)
    assert "from step 4" in told
    assert tiny.remains(run) == tiny.remains(whole)
    assert main(sample) == 0


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json", "manifest.json"])
def test_a_model_folder_is_checked_too(
    name: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(name)
    shutil.rmtree(run / "checkpoints")
    file = run / "model" / name
    assert damage(file, delete if rng.random() < 0.3 else flip, file, rng)
    for source in (run, run / "model"):
        assert main(["sample", str(source), "--out", str(run.parent / "x.png")]) == 2
        assert re.search(rf"model cannot be used: .*\b{name}\b", capsys.readouterr().err)


@pytest.mark.parametrize("fault", [repeat_a_key, put_nan])
@pytest.mark.parametrize("name", ["model.json", "state.json"])
def test_json_with_two_meanings_is_refused_though_vouched_for(
    fault: Fault, name: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = checkpoint.listed(run)[-1]
    assert damage(newest / name, fault, newest / name, random.Random(0))
    tiny.vouch(newest)
    assert storage.problem(newest) is None
    words = {
        "model.json": ["sample", str(run), "--out", str(run.parent / "x.png")],
        "state.json": tiny.words(run.parent, run, "--resume"),
    }
    assert main(words[name]) == 2
    assert re.search(rf"{newest / name} is not valid JSON", capsys.readouterr().err)


@pytest.mark.parametrize(
    "facts", [[], None, 3, {"step": "4"}, {"step": None}, {"step": -1}, {"course": 3}]
)
def test_a_state_that_is_none_is_refused_though_vouched_for(
    facts: Any, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = checkpoint.listed(run)[-1]
    state = storage.read_json(newest / "state.json")
    storage.write_json(
        newest / "state.json", {**state, **facts} if isinstance(facts, dict) else facts
    )
    tiny.vouch(newest)
    assert main(tiny.words(run.parent, run, "--resume")) == 2
    assert f"error: {newest} " in capsys.readouterr().err


def test_extra_files_are_refused(run: Path) -> None:
    newest = checkpoint.listed(run)[-1]
    for name in ("raw.safetensors", "more.json", "optimizer.pt", "pytorch_model.bin"):
        (newest / name).write_bytes((newest / "ema.safetensors").read_bytes())
        assert name in refused(newest)
        (newest / name).unlink()
    (newest / "README.md").write_text("a note")
    assert refused(newest) == ""
