"""Help, exit codes and errors: what every verb shares."""

from __future__ import annotations

import resource
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tyro

import undiffuse
from undiffuse import catalogue
from undiffuse.cli import main
from undiffuse.cli.doctor import Doctor
from undiffuse.cli.entry import EXAMPLES, FAMILY, spread
from undiffuse.errors import RunFailed, UndiffuseError

VERBS = catalogue.names(FAMILY)
COMPUTING = ["data", "doctor", "evaluate", "report", "sample", "train"]
LIGHT = """
import sys
from undiffuse.cli import main
assert main(sys.argv[1:]) == int(sys.argv.pop())
assert not {"torch", "numpy", "rich", "PIL"} & set(sys.modules), "something heavy was loaded"
"""


def light(*words: str, code: int = 0) -> str:
    """The output of a command line that must load nothing heavy."""
    command = [sys.executable, "-c", LIGHT.replace("sys.argv[1:]", repr(list(words))), str(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_verbs_are_those_promised() -> None:
    assert {*COMPUTING, "recipes", "runs"} <= set(VERBS)


def test_help_is_light_and_ends_with_two_examples() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    text = light("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5  # seconds
    assert [line.strip() for line in text.splitlines()[-2:]] == list(EXAMPLES)
    assert all(f"\n  {verb} " in text for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_is_light_and_ends_with_two_examples(verb: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = [line.strip() for line in light(verb, "--help").splitlines()]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5  # seconds
    assert tuple(lines[-2:]) == catalogue.load(FAMILY, verb).examples
    wanted = (
        {"--device", "--precision", "--threads", "--debug"} if verb in COMPUTING else {"--debug"}
    )
    assert wanted <= set(" ".join(lines).split())


def test_mistakes_in_words_are_told_without_loading_torch() -> None:
    assert "did you mean 'training.steps'?" in light(
        *("train", "digits", "--out", "x", "--set", "training.stps=4"), code=2
    )


@pytest.mark.parametrize("verb", VERBS)
def test_the_examples_are_valid_commands(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cls = catalogue.load(FAMILY, verb)
    commands = [line.split(" && ")[-1] for line in cls.examples]
    for command in [*commands, *(e for e in EXAMPLES if e.startswith(f"undiffuse {verb} "))]:
        words = shlex.split(command)
        assert words[:2] == ["undiffuse", verb]
        assert isinstance(tyro.cli(cls, args=words[2:]), cls)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"undiffuse {undiffuse.__version__}\n"


def test_no_verb_is_the_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("usage: undiffuse")


@pytest.mark.parametrize(
    "words",
    [
        ["sampel", "runs/x"],
        ["sample"],
        ["train", "digits"],
        ["train", "digits", "--out", "x", "--steps", "many"],
        ["train", "digits", "--out", "x", "--stpes", "3"],
        ["doctor", "--device", "tpu"],
        ["doctor", "--device", "cuda:99"],
        ["doctor", "--threads", "0"],
        ["doctor", "--precision", "int8"],
        ["doctor", "--precision", "auto"],
        ["data", "digits", "--device", "cuda"],
        ["report", "runs/x", "--precision", "float16"],
    ],
)
def test_usage_errors_exit_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert not out
    assert "Traceback" not in err
    assert err


def test_completion_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--tyro-print-completion", "bash"]) == 0
    assert "evaluate" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (UndiffuseError("the path is wrong"), 2, "error: the path is wrong\n"),
        (RunFailed("the disk is full"), 1, "error: the disk is full\n"),
        (OSError(28, "No space left on device", "x"), 1, "error: x: No space left on device\n"),
        (ValueError("surprise"), 1, "error: ValueError: surprise; add --debug to see where\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_exit_codes(
    error: BaseException,
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: Doctor) -> int:
        raise error

    monkeypatch.setattr(Doctor, "run", fail)
    assert main(["doctor"]) == code
    assert capsys.readouterr().err == told
    if told:
        assert main(["doctor", "--debug"]) == code
        assert "Traceback" in capsys.readouterr().err


def test_sigterm_exits_with_143(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Doctor, "run", lambda _: signal.raise_signal(signal.SIGTERM))
    assert main(["doctor"]) == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_closed_pipe_ends_quietly() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "undiffuse", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_settings_may_follow_one_flag_or_several() -> None:
    once = spread(["digits", "--set", "a=1", "b=2", "c=3", "--out", "x=y"])
    several = ["digits", "--set", "a=1", "--set", "b=2", "--set", "c=3", "--out", "x=y"]
    assert once == several == spread(several)
