"""`undiffuse train`: runs that end, that are stopped, that are continued, and that are refused."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path

import numpy as np
import pytest

from undiffuse.cli import main
from undiffuse.cli.progress import Lines
from undiffuse.cli.train import Smoothed
from undiffuse.training.run import Run

SMALL = ["--steps", "3", "--batch-size", "16", "--set"]  # as the shared run was made
TINY = ["--batch-size", "8", "--set", "sampling.steps=2"]


def test_a_run_tells_its_figures(vectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main([*("train", "moons", "--out", str(vectors), "--resume"), *SMALL, "sampling.steps=4"])
        == 0
    )
    out, err = capsys.readouterr()
    loss = sum(line["loss"] for line in Run(vectors).metrics()) / 3
    assert f"{vectors} is trained: 3 steps, loss {loss:.4f}, " in out
    assert "from step 3" in err


def test_plain_lines_without_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "moons", "--out", str(tmp_path / "x"), "--steps", "40", *TINY]) == 0
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("step ")]
    assert 20 <= len(lines) <= 21
    assert lines[-1].startswith("step 40/40  loss ")
    assert "images/s" in lines[-1]
    assert len(out.splitlines()) == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_the_step_and_tells_how_to_go_on(
    number: signal.Signals,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(self: Lines, done: int, total: int, text: str) -> None:
        if done == 2:
            signal.raise_signal(number)

    run = tmp_path / "a run"
    with monkeypatch.context() as patched:
        patched.setattr(Lines, "show", stop)
        assert main(["train", "moons", "--out", str(run), "--steps", "4", *TINY]) == code
    assert (run / "checkpoints" / "step-00000002").is_dir()
    told = capsys.readouterr().err.splitlines()
    assert told[-2] == "stopped after step 2 of 4, which is kept; continue with"
    words = shlex.split(told[-1])
    assert words[0] == "undiffuse"
    assert words[-1] == "--resume"
    assert main(words[1:]) == 0
    assert [line["step"] for line in Run(run).metrics()] == [1, 2, 3, 4]


def test_a_second_signal_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Lines, done: int, total: int, text: str) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Lines, "show", stop)
    before = signal.getsignal(signal.SIGINT)
    assert main(["train", "moons", "--out", str(tmp_path / "x"), "--steps", "4", *TINY]) == 130
    assert not (tmp_path / "x" / "checkpoints").exists()
    assert signal.getsignal(signal.SIGINT) == before


def test_a_loss_that_is_no_number_exits_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = tmp_path / "wild.npz"
    np.savez(wild, images=np.tile(np.float32([[3e38], [-3e38]]), (4, 2)))
    out = ["--out", str(tmp_path / "x"), "--steps", "3", *TINY, "prediction.sigma_data=1"]
    assert main(["train", str(wild), *out, "weight.sigma_data=1"]) == 1
    assert "error: the loss is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "nowhere"], "there is no file, folder or built-in data set"),
        (["train", "{empty}"], "holds no images"),
        (["train", "{text}"], "can be used"),
        (["train", "digits", "--steps", "0"], "--steps must be at least 1, not 0"),
        (["train", "digits", "--minutes", "0"], "--minutes must be"),
        (["train", "digits", "--minutes", "1", "--steps", "3"], "not both"),
        (["train", "digits", "--recipe", "digit"], "did you mean 'digits'?"),
        (["train", "digits", "--recipe", "none.toml"], "there is no recipe file none.toml"),
        (["train", "digits", "--set", "training.lr"], "write key=value"),
        (["train", "digits", "--set", "network.widht=3"], "widht"),
        (["train", "digits", "--device", "cuda:99"], "--device cuda:99"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.png").write_text("no picture")
    places = {"empty": tmp_path / "empty", "text": tmp_path / "text"}
    words = [word.format(**places) for word in words]
    assert main([*words, "--out", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert told in err
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    assert main(["train", "digits", "--out", str(run)]) == 2
    assert "add --resume" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


def test_a_file_in_the_way_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_text("mine")
    assert main(["train", "digits", "--out", str(tmp_path / "x" / "y")]) == 2
    assert "is not a directory" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_passed_over_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*TINY, "training.checkpoint_every=2"]
    words = ["train", "moons", "--out", str(tmp_path / "x"), "--steps", "4", *settings]
    assert main(words) == 0
    last = tmp_path / "x" / "checkpoints" / "step-00000004"
    (last / "ema.safetensors").write_bytes(b"damaged")
    assert main([*words, "--resume"]) == 0
    err = capsys.readouterr().err
    assert f"warning: {last} is passed over, ema.safetensors is damaged" in err
    assert "from step 2" in err


def test_the_smoothed_loss_is_unbiased() -> None:
    smoothed = Smoothed()
    assert smoothed.update(3.0) == pytest.approx(3.0)
    for _ in range(1000):
        mean = smoothed.update(1.0)
    assert mean == pytest.approx(1.0, abs=1e-6)
