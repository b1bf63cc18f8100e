"""Every format that was ever written is read, and one of the future is told (reliability goal R16).

golden/format-N/ holds what the version that introduced format N wrote; make_golden.py made it.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
import tiny
from figures import Figures
from make_golden import GOLDEN, samples

import undiffuse
from undiffuse import storage
from undiffuse.cli import main
from undiffuse.errors import UndiffuseError
from undiffuse.training import checkpoint
from undiffuse.training.run import Run

FORMATS = sorted(int(folder.name.removeprefix("format-")) for folder in GOLDEN.iterdir())
CLOSE = 1e-5  # processors round differently


def difference(folder: Path, made: str) -> float:
    """How far samples of one set of golden weights are from those of the day they were written."""
    source = folder / "run" / "model" if made == "model" else folder / "run"
    stored = json.loads((folder / "samples.json").read_text(encoding="utf-8"))[made]
    drawn = samples(source, "raw" if made == "raw" else "ema")
    assert len(drawn) == len(stored) == 80
    return max(abs(a - b) for a, b in zip(drawn, stored, strict=True))


def resumed(folder: Path) -> list[int]:
    """The steps that a copy of the golden run tells of when it was resumed, from 4 to 6."""
    words = ["train", "images.npz", "--out", "run", "--recipe", "golden.toml", "--resume"]
    # The recipe is the run's own: an older one knows no settings of a later day.
    lines = (folder / "run" / "config.toml").read_text(encoding="utf-8").split("[network]", 1)
    (folder / "golden.toml").write_text("[network]" + lines[1], encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(words) == 0
    return [line["step"] for line in Run(folder / "run").metrics()]


def attack(count: int, seed: int, tmp: Path) -> Figures:
    """Each format's weights sampled from and its run resumed; `count` times, in any order."""
    rng, failures = random.Random(seed), []
    for _ in range(count):
        number = rng.choice(FORMATS)
        folder = tmp / f"format-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(GOLDEN / folder.name, folder)
        for made in ("raw", "ema", "model"):
            if (far := difference(folder, made)) > CLOSE:
                failures.append(f"format {number}: {made} weights sample {far:.1g} off")
        if (steps := resumed(folder)) != [1, 2, 3, 4, 5, 6]:
            failures.append(f"format {number}: resumed to steps {steps}")
    return Figures(count, tuple(failures))


def test_each_format_has_its_golden_files() -> None:
    assert list(range(1, storage.FORMAT + 1)) == FORMATS


@pytest.mark.parametrize("number", FORMATS)
def test_a_golden_checkpoint_is_small(number: int) -> None:
    run = GOLDEN / f"format-{number}" / "run"
    for folder in (*checkpoint.listed(run), run / "model"):
        assert json.loads((folder / "manifest.json").read_text())["format"] == number
        assert sum(file.stat().st_size for file in folder.iterdir()) < 100_000


@pytest.mark.parametrize("made", ["raw", "ema", "model"])
@pytest.mark.parametrize("number", FORMATS)
def test_its_samples_are_those_of_its_day(number: int, made: str) -> None:
    assert difference(GOLDEN / f"format-{number}", made) < CLOSE


@pytest.mark.parametrize("number", FORMATS)
def test_its_run_is_resumed(number: int, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / f"format-{number}", tmp_path, dirs_exist_ok=True)
    assert resumed(tmp_path) == [1, 2, 3, 4, 5, 6]
    newest, damaged = checkpoint.newest(tmp_path / "run")
    assert newest == tmp_path / "run" / "checkpoints" / "step-00000006"
    assert damaged == []
    manifest = json.loads((newest / "manifest.json").read_text())
    assert manifest["format"] == storage.FORMAT


@pytest.mark.parametrize("number", FORMATS)
def test_damage_is_found_in_every_format(number: int, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / f"format-{number}" / "run" / "model", tmp_path / "model")
    rng = random.Random(number)
    for file in sorted((tmp_path / "model").iterdir()):
        whole = file.read_bytes()
        for _ in range(40):
            changed, place = bytearray(whole), rng.randrange(len(whole))
            changed[place] ^= 1 << rng.randrange(8)
            file.write_bytes(changed)
            with pytest.raises(UndiffuseError, match="cannot be used"):
                undiffuse.load(tmp_path / "model")
        file.write_bytes(whole)
    assert storage.problem(tmp_path / "model") is None


def test_a_format_of_the_future_is_told_and_left_alone(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An older undiffuse neither takes a newer checkpoint for a damaged one nor writes over it."""
    newest = checkpoint.listed(run)[-1]
    with monkeypatch.context() as patch:
        patch.setattr(storage, "FORMAT", storage.FORMAT + 1)
        tiny.vouch(newest)
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    sentence = (
        f"error: {newest} is of format {storage.FORMAT + 1}, and this version of undiffuse reads"
        f" formats 1 to {storage.FORMAT}; install a newer one\n"
    )
    sample = ["--out", str(run.parent / "x.png")]
    capsys.readouterr()
    for words in (
        ["sample", str(newest), *sample],
        ["sample", str(run), *sample],
        tiny.words(run.parent, run, "--resume"),
    ):
        assert main(words) == 2
        assert capsys.readouterr().err == sentence
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
