"""A tuned sampler beside a run: used where weights, steps and guidance are its own, and named."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

import undiffuse as ud
from undiffuse.cli import main
from undiffuse.samplers.non_stationary import NonStationary
from undiffuse.tuned import TunedRule

RULE = NonStationary((2.0, 0.3), ((-0.4,), (-0.7, 0.2)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run on digits."""
    path = tmp_path_factory.mktemp("tuned") / "run"
    settings = ["network.width=16", "sampling.steps=4"]
    words = ["--steps", "2", "--batch-size", "8", "--set", *settings]
    assert main(["train", "digits", "--out", str(path), *words]) == 0
    return path


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def tuned(run: Path, **changed: object) -> TunedRule:
    facts = {"model": ud.load(run).digest, "steps": 3, "guidance": 1.5, "guide": "", **changed}
    return TunedRule(RULE, start="universal", before=0.2, after=0.1, **facts)  # type: ignore[arg-type]


def test_it_is_read_back_as_it_was_written(run: Path) -> None:
    rule = tuned(run)
    path = rule.write(run)
    assert path == run / "tuned" / "steps-3-guidance-1.5" / "sampler.json"
    assert json.loads(path.read_text())["model"] == rule.model
    assert ud.load(run).tuned == (rule,)


def test_it_is_used_where_all_three_match(run: Path) -> None:
    plain = ud.load(run)
    tuned(run).write(run)
    model = ud.load(run)
    own = model.sample(2, 1, 1.5, steps=3)
    assert torch.equal(own, plain.sample(2, 1, 1.5, steps=3, sampler=RULE))
    assert not torch.equal(own, plain.sample(2, 1, 1.5, steps=3))
    for options in (
        {"guidance": 1.0, "steps": 3},
        {"guidance": 1.5, "steps": 4},
        {"guidance": 1.5, "steps": 3, "sampler": "ddim"},
        {"guidance": 1.5, "steps": 3, "grid": "karras"},
        {"guidance": 1.5, "steps": 3, "negative_label": 4},
        {"guidance": 1.5, "steps": 3, "guide": "static-threshold"},
    ):
        assert torch.equal(model.sample(2, 1, **options), plain.sample(2, 1, **options))
    assert torch.equal(model.sample(2, steps=3), plain.sample(2, steps=3))  # without labels


def test_one_tuned_with_the_recipe_s_guides_is_used_with_them_alone(run: Path) -> None:
    guide = "interval(noise_min=0.1, noise_max=3)"
    plain = ud.load(run)
    path = tuned(run, guide=guide).write(run)
    assert path.parent.name.startswith("steps-3-guidance-1.5-")
    other = tuned(run, guide="interval(noise_min=0.1, noise_max=2)").write(run)
    assert other != path
    model = ud.load(run)
    own = model.sample(2, 1, 1.5, steps=3, guide=guide)
    assert torch.equal(own, plain.sample(2, 1, 1.5, steps=3, guide=guide, sampler=RULE))
    same = "interval( noise_max=3.0, noise_min=1e-1 )"  # the same guide in other words
    assert torch.equal(own, model.sample(2, 1, 1.5, steps=3, guide=same))
    assert torch.equal(model.sample(2, 1, 1.5, steps=3), plain.sample(2, 1, 1.5, steps=3))
    recipe = {**model.sampling, "guidance": 1.5, "guide": [guide], "steps": 3}
    assert torch.equal(dataclasses.replace(model, sampling=recipe).sample(2, 1), own)


def test_tuning_is_with_the_recipe_s_guides(run: Path) -> None:
    plain = ud.load(run)
    recipe = {**plain.sampling, "guidance": 2.0, "guide": ["interval(noise_min=0, noise_max=1)"]}
    model = dataclasses.replace(plain, sampling=recipe)
    options = {"iterations": 2, "calibration": 2, "fresh": 2, "batch_size": 2}
    shaped, other = model.tune(2, **options), model.tune(2, 2.0, **options)
    assert (shaped.guidance, shaped.guide) == (2.0, "interval(noise_min=0, noise_max=1)")
    assert (other.guidance, other.guide) == (2.0, "")
    assert shaped.before != other.before


def test_one_of_before_there_were_guides_is_read(run: Path) -> None:
    path = tuned(run).write(run)
    stored = json.loads(path.read_text())
    del stored["guide"]
    ud.storage.write(path.parent, {}, {"sampler": stored})
    assert ud.load(run).tuned == (tuned(run),)


def test_it_is_not_used_for_other_weights(run: Path) -> None:
    plain = ud.load(run)
    tuned(run, model="0" * 64).write(run)
    model = ud.load(run)
    assert torch.equal(model.sample(2, 1, 1.5, steps=3), plain.sample(2, 1, 1.5, steps=3))


def test_the_output_names_it(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuned(run).write(run)
    out = tmp_path / "a.png"
    words = ["--num", "2", "--steps", "3", "--guidance", "1.5"]
    assert main(["sample", str(run), "--out", str(out), *words]) == 0
    named = "non-stationary tuned for 3 steps and guidance 1.5"
    assert capsys.readouterr().out.strip().endswith(named)
    with Image.open(out) as image:
        assert image.info["sampler"] == named


@pytest.mark.parametrize("harm", ["flip", "steps", "kind"])
def test_a_damaged_one_is_passed_over_and_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], harm: str
) -> None:
    rule = tuned(run)
    path = rule.write(run)
    if harm == "flip":
        path.write_text(path.read_text().replace("-0.4", "-0.5"))
    else:
        stored = json.loads(path.read_text())
        change = {"steps": {"steps": 7}, "kind": {"rule": {"kind": "samplers.ddim"}}}[harm]
        ud.storage.write(path.parent, {}, {"sampler": {**stored, **change}})
    model = ud.load(run)
    assert model.tuned == ()
    assert len(model.skipped) == 1
    assert "tuned/steps-3-guidance-1.5" in model.skipped[0]
    out = str(tmp_path / "a.png")
    assert main(["sample", str(run), "--out", out, "--num", "1", "--steps", "2"]) == 0
    assert "tuned/steps-3-guidance-1.5" in capsys.readouterr().err


def test_tune_keeps_what_fresh_noise_confirms(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--steps", "3", "--iterations", "8", "--num", "4", "--batch-size", "4"]
    assert main(["tune", str(run), *words, "--guidance", "2"]) == 0
    told = capsys.readouterr().out
    model = ud.load(run)
    rule = model.tuned_for(3, 2.0)
    if rule is None:
        assert "not kept" in told
        assert not (run / "tuned").exists()
    else:
        assert rule.after < rule.before
        assert f"{rule.after:.4f} tuned" in told


def test_no_gain_is_not_kept(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One step is the mean, whatever the rule."""
    words = ["--iterations", "1", "--num", "2", "--batch-size", "2"]
    assert main(["tune", str(run), "--steps", "1", *words]) == 0
    assert capsys.readouterr().out.strip().endswith("which is no gain: not kept")
    assert not (run / "tuned").exists()


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--steps", "0"], "--steps must be"),
        (["--iterations", "0"], "--iterations must be"),
        (["--guidance", "-1"], "--guidance must be"),
    ],
)
def test_mistakes_are_told(
    run: Path, capsys: pytest.CaptureFixture[str], words: list[str], match: str
) -> None:
    assert main(["tune", str(run), *words]) == 2
    assert match in capsys.readouterr().err


def test_a_model_folder_has_no_place_for_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", str(run / "model"), "--steps", "2"]) == 2
    assert "is no run" in capsys.readouterr().err
