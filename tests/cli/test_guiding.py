"""`undiffuse sample`: guides, labels together and apart, grids and the adaptive pair."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from undiffuse import model as models
from undiffuse.classifier import load_classifier
from undiffuse.cli import main


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of noisy digits, two steps long."""
    path = tmp_path_factory.mktemp("judges") / "digits"
    words = ["--recipe", "noisy-classifier", "--steps", "2", "--batch-size", "16"]
    assert main(["train", "digits", "--out", str(path), *words, "--set", "network.width=16"]) == 0
    return path


def text(file: Path) -> dict[str, str]:
    with Image.open(file) as image:
        image.load()
        return {str(key): str(value) for key, value in image.info.items()}


def test_guides_are_told_by_the_picture_and_the_last_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, guides = tmp_path / "a.png", ["interval(noise_min=0.2,noise_max=5)", "static-threshold"]
    words = ["--num", "2", "--guidance", "3", "--guide", guides[0], "--guide", guides[1]]
    assert main(["sample", str(run), "--out", str(out), *words]) == 0
    written = "interval(noise_min=0.2, noise_max=5), static-threshold"
    assert text(out)["guide"] == written
    assert text(out)["guidance"] == "3.0"
    assert capsys.readouterr().out.strip().endswith(f"universal, guided by {written}")


def test_those_of_the_recipe_are_told_and_can_be_asked_for(tmp_path: Path) -> None:
    run, guide = tmp_path / "run", "interval(noise_min=0.2, noise_max=2)"
    settings = ["sampling.guidance=2.5", f"sampling.guide=['{guide}']", "network.width=8"]
    words = ["--steps", "1", "--batch-size", "8", "--set", *settings]
    assert main(["train", "digits", "--out", str(run), *words]) == 0
    own, asked, plain = (tmp_path / f"{name}.png" for name in ("own", "asked", "plain"))
    draw = ["sample", str(run), "--num", "2", "--steps", "3", "--out"]
    assert main([*draw, str(own)]) == 0
    assert main([*draw, str(asked), "--guidance", "2.5", "--guide", guide]) == 0
    assert main([*draw, str(plain), "--guidance", "2.5"]) == 0
    assert text(own) == text(asked)
    assert (text(own)["guidance"], text(own)["guide"]) == ("2.5", guide)
    assert own.read_bytes() == asked.read_bytes() != plain.read_bytes()
    assert "guide" not in text(plain)


def test_they_are_those_of_the_model(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.npz"
    words = ["--num", "3", "--guide", "rescaled(weight=3, phi=0.5)", "--label", "7"]
    assert main(["sample", str(run), "--out", str(out), *words]) == 0
    x = models.load(run).sample(3, 7, guide="rescaled(weight=3, phi=0.5)")
    wanted = ((x.clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1).numpy()
    assert np.abs(wanted - np.load(out)["images"]).max() < 0.6


def test_labels_together_and_to_keep_away_from(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.npz"
    assert main(["sample", str(run), "--num", "2", "--label", "3+7", "--out", str(out)]) == 0
    assert np.load(out)["labels"].tolist() == [[3, 7], [3, 7]]
    words = ["--label", "3+7", "--guide", "composed(weights=[1, 0.5])"]
    picture = tmp_path / "a.png"
    assert main(["sample", str(run), "--num", "2", *words, "--out", str(picture)]) == 0
    assert text(picture)["label"] == "3+7"
    words = ["--label", "7", "--negative-label", "1", "--guidance", "2"]
    assert main(["sample", str(run), "--num", "2", *words, "--out", str(picture)]) == 0
    assert text(picture)["negative label"] == "1"


def test_a_run_guides_another(run: Path, judge: Path, tmp_path: Path) -> None:
    """By its classifier, whose labels are asked for, or as a worse version; its digest is told."""
    out = tmp_path / "a.png"
    words = ["--num", "2", "--label", "4", "--steps", "2", "--out", str(out)]
    guide = f"classifier-guided(classifier={judge}, weight=2)"
    assert main(["sample", str(run), "--guide", guide, *words]) == 0
    assert text(out)["guiding models"] == load_classifier(judge).digest
    assert text(out)["label"] == "4"
    assert "guidance" not in text(out)
    bad = next((run / "checkpoints").iterdir())
    assert main(["sample", str(run), "--guide", f"autoguidance(bad={bad}, weight=2)", *words]) == 0


def test_a_model_without_labels_follows_the_classifiers(
    vectors: Path, judge: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = tmp_path / "plain"
    images = torch.randint(0, 256, (20, 8, 8, 1), dtype=torch.uint8)
    np.savez(tmp_path / "plain.npz", images=images.numpy())
    words = ["--steps", "2", "--batch-size", "8", "--recipe", "digits", "--set", "network.width=16"]
    assert main(["train", str(tmp_path / "plain.npz"), "--out", str(plain), *words]) == 0
    guide, out = f"classifier-guided(classifier={judge})", tmp_path / "a.npz"
    words = ["--num", "3", "--steps", "2", "--guide", guide, "--out", str(out)]
    assert main(["sample", str(plain), *words]) == 0
    assert np.load(out)["labels"].tolist() == [0, 1, 2]  # each in turn
    assert main(["sample", str(vectors), *words]) == 2
    assert "cannot guide a model of [2]" in capsys.readouterr().err


def test_the_adaptive_pair_takes_a_tolerance_and_no_steps(
    vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.png"
    words = ["sample", str(vectors), "--num", "4", "--out", str(out)]
    assert main([*words, "--sampler", "adaptive(rtol=1e-2)"]) == 0
    assert capsys.readouterr().out.endswith("seed 0, adaptive(rtol=1e-2)\n")
    assert "steps" not in text(out)
    assert main([*words, "--sampler", "adaptive", "--steps", "20"]) == 2
    assert "takes as many steps as its tolerance asks for" in capsys.readouterr().err


def test_a_grid_is_chosen_and_told(vectors: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    words = ["sample", str(vectors), "--num", "4", "--out", str(out), "--grid", "karras(rho=5)"]
    assert main(words) == 0
    assert text(out)["grid"] == "karras(rho=5)"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--guide", "rescald(weight=3)"], "there is no guide 'rescald'; did you mean 'rescaled'?"),
        (["--guide", "rescaled(wait=3)"], "did you mean 'weight'?"),
        (["--guide", "rescaled(phi=0.5)"], "the guide 'rescaled' needs weight"),
        (["--guide", "rescaled(weight=-1)"], "weight must be a finite number >= 0"),
        (["--guide", "rescaled(weight=2)", "--guidance", "2"], "give guidance or the guide resc"),
        (["--guide", "likelihood"], "the guide 'likelihood' needs a function"),
        (
            ["--guidance", "1", "--guide", "interval(noise_min=1, noise_max=2)"],
            "and there is none: put it around one",
        ),
        (
            ["--guidance", "2", "--guide", "interval(noise_min=2, noise_max=1)"],
            "noise_max must be larger than noise_min, 2, not 1",
        ),
        (["--guide", "negative(weight=2)"], "needs a negative label to keep away from"),
        (["--negative-label", "12"], "there is no label 12"),
        (["--negative-label", "1+2"], "--negative-label takes one label"),
        (["--label", "3+77"], "there is no label 77"),
        (["--label", "3+7", "--guide", "rescaled(weight=2)"], "are for the guide composed"),
        (["--guide", "composed(weights=[1, 2])"], "2 weights were given and 1 labels"),
        (["--guide", "autoguidance(bad=nowhere, weight=2)"], "no run or model at nowhere"),
        (["--grid", "karas"], "there is no grid 'karas'; did you mean 'karras'?"),
        (["--grid", "levels(noise_levels=[3, 5])"], "each less than the one before, not (3, 5)"),
        (["--grid", "levels(noise_levels=[5, 3])", "--steps", "7"], "2 noise levels make 3 steps"),
        (["--sampler", "adaptive(rtol=7)"], "rtol must be between 0 and 1, not 7"),
        (["--sampler", "adaptve"], "there is no sampler 'adaptve'; did you mean 'adaptive'?"),
    ],
)
def test_mistakes_are_one_sentence_and_overwrite_nothing(
    words: list[str], told: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.png"
    out.write_bytes(b"mine")
    assert main(["sample", str(run), "--out", str(out), *words]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert told in err
    assert out.read_bytes() == b"mine"


def test_a_mistake_in_the_words_is_told_without_torch() -> None:
    code = (
        "import sys; from undiffuse.cli import main;"
        "code = main(['sample', 'x', '--out', 'a.png', '--guide', 'rescaled(wait=3)']);"
        "sys.exit(code if 'torch' not in sys.modules else 99)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 2
