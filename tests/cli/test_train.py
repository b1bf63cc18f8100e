"""`undiffuse train`: runs that end, that are stopped, that are continued, and that are refused."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from undiffuse.cli import main
from undiffuse.cli.progress import Lines
from undiffuse.cli.watch import Smoothed
from undiffuse.training import session
from undiffuse.training.precision import Pace
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


def test_a_precision_that_is_measured_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session, "pace", lambda *_: Pace(float32=0.3, bfloat16=0.2))
    words = ["train", "moons", "--out", str(tmp_path / "x"), "--steps", "4", *TINY]
    assert main([*words, "--precision", "auto"]) == 0
    told = "; bfloat16 is 1.50 times as quick as float32 here: bfloat16\n"
    assert told in capsys.readouterr().err
    assert Run(tmp_path / "x").read_config()[0].training.precision == "bfloat16"
    assert main([*words, "--precision", "auto", "--resume"]) == 0
    assert "as quick as" not in capsys.readouterr().err


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
    err = capsys.readouterr().err
    assert "warning: step 1 was skipped, the loss is " in err
    assert "error: 3 steps in a row were skipped" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "nowhere"], "there is no file, folder or built-in data set"),
        (["train", "{empty}"], "holds no images"),
        (["train", "{text}"], "can be used"),
        (["train", "digits", "--steps", "0"], "--steps must be from 1 to 1000000000, not 0"),
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


def test_a_dry_run_tells_everything_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "digits", "--out", str(tmp_path / "x" / "y"), "--steps", "40"]
    assert main([*words, "--batch-size", "16", "--set", "network.width=16", "--dry-run"]) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert told["data"] == "digits: 1621 samples of 1x8x8 in 10 classes"
    assert told["network"].startswith("unet, 0.12 M weights, ")
    assert told["training"].startswith("40 steps of 16, 0.395 times through the data, float32")
    assert {"time", "memory", "checkpoints", "disk", "run"} <= set(told)
    assert not list(tmp_path.iterdir())


def test_a_dry_run_refuses_what_a_run_would_refuse(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "moons", "--batch-size", "8", "--dry-run", "--out"]
    assert main([*words, str(run)]) == 2
    assert "add --resume" in capsys.readouterr().err
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert main([*words, str(tmp_path / "x")]) == 1
    assert "has 1 kB free, and the run needs" in capsys.readouterr().err


def test_curves_for_tensorboard(tmp_path: Path) -> None:
    words = ["train", "moons", "--out", str(tmp_path / "x"), "--steps", "3", *TINY]
    assert main([*words, "--log", "tensorboard"]) == 0
    assert list((tmp_path / "x" / "tensorboard").glob("events.*"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--log", "tensorbord"], "there is no logger 'tensorbord'; did you mean 'tensorboard'?"),
        (["--log", "wandb"], "wandb is not installed"),
        (["--steps", "3", "--set", "training.steps=4"], "--steps or --set training.steps"),
        (["--out", ""], "--out must name"),
        (["--set", "training.stps=4"], "did you mean 'training.steps'?"),
        (["--set", "network.widht=4"], "did you mean 'width'?"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_made(
    words: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main(["train", "moons", "--out", str(tmp_path / "x"), *words]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_progress_that_nobody_reads_is_no_reason_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(text: str) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(sys.stderr, "write", closed)
    assert main(["train", "moons", "--out", str(tmp_path / "x"), "--steps", "3", *TINY]) == 0
    assert (tmp_path / "x" / "checkpoints" / "step-00000003").is_dir()
