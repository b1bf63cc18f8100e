"""`undiffuse sample`: pictures, arrays and directories, and nothing lost to a mistake."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import undiffuse
from undiffuse import model as models
from undiffuse.cli import main
from undiffuse.cli.progress import Lines


def text(file: Path) -> dict[str, str]:
    with Image.open(file) as image:
        image.load()
        return {str(key): str(value) for key, value in image.info.items()}


def test_a_picture_tells_how_it_was_made(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "a.png"
    words = ["--num", "6", "--steps", "3", "--sampler", "ddim(eta=0.5)", "--label", "7"]
    assert main(["sample", str(run), "--out", str(out), *words, "--seed", "5"]) == 0
    assert text(out) == {
        "undiffuse": undiffuse.__version__,
        "model": models.load(run).digest,
        "seed": "5",
        "steps": "3",
        "sampler": "ddim(eta=0.5)",
        "precision": "float32",
        "guidance": "2.0",
        "guide": "interval(noise_min=0.2, noise_max=1)",
        "num": "6",
        "label": "7",
    }
    with Image.open(out) as image:
        assert image.size == (3 * 66 + 2, 2 * 66 + 2)  # 8 pixels drawn as 64, and gaps of 2
    assert list(out.parent.iterdir()) == [out]


def test_an_array_holds_the_samples_of_the_model(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.npz"
    words = ["--num", "12", "--guidance", "2", "--batch-size", "5"]
    assert main(["sample", str(run), "--out", str(out), *words]) == 0
    arrays = np.load(out, allow_pickle=False)
    assert set(arrays) == {"images", "labels"}
    assert arrays["images"].shape == (12, 8, 8, 1)
    assert arrays["images"].dtype == np.uint8
    assert arrays["labels"].dtype == np.int64
    assert arrays["labels"].tolist() == [i % 10 for i in range(12)]  # each class in turn
    labels = torch.arange(12) % 10
    x = models.load(run).sample(12, labels, guidance=2.0, batch_size=None)
    wanted = (x.clamp(-1, 1) + 1) * 127.5
    difference = wanted.permute(0, 2, 3, 1).numpy() - arrays["images"]
    assert np.abs(difference).max() < 0.6


def test_vectors_are_floats(vectors: Path, tmp_path: Path) -> None:
    assert main(["sample", str(vectors), "--out", str(tmp_path / "a.npz"), "--num", "7"]) == 0
    arrays = np.load(tmp_path / "a.npz", allow_pickle=False)
    assert arrays["images"].shape == (7, 2)
    assert arrays["images"].dtype == np.float32
    assert main(["data", str(tmp_path / "a.npz")]) == 0  # it can be learned from
    assert main(["sample", str(vectors), "--out", str(tmp_path / "a.png")]) == 0
    assert main(["sample", str(vectors), "--out", str(tmp_path / "pictures")]) == 2
    assert not (tmp_path / "pictures").exists()


def test_a_directory_is_continued(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sample", str(run), "--batch-size", "2", "--out"]
    assert main([*words, str(tmp_path / "whole"), "--num", "7"]) == 0

    def stop(self: Lines, done: int, total: int, text: str) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Lines, "show", stop)
        assert main([*words, str(tmp_path / "parts"), "--num", "7"]) == 130
    parts = sorted((tmp_path / "parts").iterdir())
    assert [file.name for file in parts] == [f"{i:06d}.png" for i in range(4)]
    parts[1].unlink()
    damaged = parts[2].read_bytes()
    parts[2].write_bytes(damaged[:-30])  # the text is there, the pixels are not
    kept = parts[0].stat().st_mtime_ns
    capsys.readouterr()
    assert main([*words, str(tmp_path / "parts"), "--num", "7"]) == 0
    assert "2 were there" in capsys.readouterr().out
    assert parts[0].stat().st_mtime_ns == kept
    for i in range(7):
        one, other = (tmp_path / name / f"{i:06d}.png" for name in ("whole", "parts"))
        assert text(one) == text(other)
        with Image.open(one) as a, Image.open(other) as b:
            assert a.size == (8, 8)
            assert np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= 1
    facts = text(tmp_path / "parts" / "000003.png")
    assert (facts["index"], facts["label"], facts["seed"]) == ("3", "3", "0")
    assert main([*words, str(tmp_path / "parts"), "--num", "5"]) == 0  # all are there


def test_a_directory_of_other_pictures_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pictures"
    words = ["sample", str(run), "--num", "2", "--out", str(out)]
    assert main(words) == 0
    before = {file: file.read_bytes() for file in out.iterdir()}
    others = [["--seed", "1"], ["--steps", "5"], ["--label", "3"], ["--sampler", "ddim"]]
    for other in [*others, ["--guidance", "2"], ["--guidance", "3"], ["--precision", "bfloat16"]]:
        assert main([*words, *other]) == 2
        assert "was made with" in capsys.readouterr().err
    plain = ["sample", str(run), "--num", "1", "--guidance", "2", "--out", str(tmp_path / "plain")]
    assert main(plain) == 0
    assert main([*plain[:4], "--out", plain[-1]]) == 2
    told = "was made with guide = none, not interval(noise_min=0.2, noise_max=1)"
    assert told in capsys.readouterr().err
    (out / "holiday.png").write_bytes(b"mine")
    assert main(words) == 2
    assert "holiday.png is not one of these samples" in capsys.readouterr().err
    (out / "holiday.png").unlink()
    assert {file: file.read_bytes() for file in out.iterdir()} == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--sampler", "dimm"], "there is no sampler 'dimm'; did you mean 'ddim'?"),
        (["--sampler", "ddim(eta=2)"], "eta must be in [0, 1]"),
        (["--steps", "0"], "--steps must be from 1 to 1000000, not 0"),
        (["--num", "0"], "--num must be from 1 to 10000000, not 0"),
        (["--batch-size", "0"], "--batch-size must be from 1 to 65536, not 0"),
        (["--guidance", "-1"], "--guidance must be from 0 to 1000, not -1.0"),
        (["--guidance", "nan"], "--guidance must be from 0 to 1000, not nan"),
        (["--seed", "-1"], "--seed must be from 0 to 2^63 - 1, not -1"),
        (["--label", "12"], "there is no label 12; labels run from 0 to 9"),
        (["--label", "-1"], "there is no label -1"),
        (["--label", "cat"], "there is no label 'cat'"),
        (["--device", "cuda:99"], "--device cuda:99"),
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
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("a.jpg", "must end in .png or .npz"),
        ("file", "is a file; end its name"),
        ("file/a.png", "is not a directory"),
        ("folder.png", "is a directory"),
    ],
)
def test_places_that_cannot_be_written_are_refused_first(
    out: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.png").mkdir()
    assert main(["sample", str(tmp_path / "no run"), "--out", str(tmp_path / out)]) == 2
    assert told in capsys.readouterr().err


def test_a_run_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(tmp_path / "x"), "--out", str(tmp_path / "a.png")]) == 2
    assert "there is no run or model at" in capsys.readouterr().err


def test_a_label_may_be_given_by_its_name(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models.load(run)
    names = ["cat", "dog", *map(str, range(2, 10))]
    named = replace(model, data={**model.data, "class_names": names})
    monkeypatch.setattr(models, "load", lambda _: named)
    for label in ("dog", "1"):
        out = tmp_path / f"{label}.npz"
        assert main(["sample", str(run), "--label", label, "--num", "2", "--out", str(out)]) == 0
        assert np.load(out)["labels"].tolist() == [1, 1]


def test_no_label_for_a_model_without_labels(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = models.load(run)
    plain = replace(model, data={**model.data, "classes": 0, "class_names": []})
    monkeypatch.setattr(models, "load", lambda _: plain)
    out = ["sample", str(run), "--num", "2", "--out"]
    for label in ("3", "cat"):
        assert main([*out, str(tmp_path / "a.npz"), "--label", label]) == 2
        assert "trained without labels" in capsys.readouterr().err
    assert main([*out, str(tmp_path / "a.npz")]) == 0
    assert set(np.load(tmp_path / "a.npz")) == {"images"}
    assert main([*out, str(tmp_path / "a.png")]) == 0
    assert not {"label", "guidance"} & set(text(tmp_path / "a.png"))


def test_a_failure_while_drawing_keeps_what_was_there(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: models.Model, *_: object, **__: object) -> None:
        raise undiffuse.errors.RunFailed("the machine stumbled")

    monkeypatch.setattr(models.Model, "sample", fail)
    for name in ("a.png", "a.npz"):
        (tmp_path / name).write_bytes(b"mine")
        assert main(["sample", str(run), "--out", str(tmp_path / name)]) == 1
        assert (tmp_path / name).read_bytes() == b"mine"
    assert main(["sample", str(run), "--out", str(tmp_path / "pictures")]) == 1
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.usefixtures("threads")
def test_threads_and_precision_are_set(run: Path, tmp_path: Path) -> None:
    words = ["sample", str(run), "--num", "2", "--threads", "2", "--precision", "bfloat16"]
    assert main([*words, "--out", str(tmp_path / "a.png")]) == 0
    assert torch.get_num_threads() == 2
    assert text(tmp_path / "a.png")["precision"] == "bfloat16"
    assert not torch.is_autocast_enabled("cpu")
