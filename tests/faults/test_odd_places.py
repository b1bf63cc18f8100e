r"""Odd places and surroundings: a run works there or refuses in one sentence, and is never half.

Names with spaces, line breaks, other alphabets and 255 bytes; folders that cannot be written; a
process without a home, a terminal, a locale, or anybody who reads what it says.
"""

from __future__ import annotations

import os
import random
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from figures import Figures

import undiffuse as ud
from undiffuse.cli import main
from undiffuse.training import checkpoint

NAMES = (
    *("line\nbreak ☃", "a" * 255),
    *("a b", "über 模型", "'quo\"tes'", "-dash", "[b]x"),
)
LETTERS = "ab é模☃\n\t'\"\\$&;|*?[]{}()#~=-."
ALONE = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
SHORT = ("--steps", "2", "--set", "training.checkpoint_every=1")


def use(folder: Path, name: str) -> str | None:
    """Train, sample and list a run of that name, with data of that name; None: all went well."""
    home = folder / name
    home.mkdir()
    (folder / "data").mkdir(exist_ok=True)
    run = home / name
    words = tiny.words(folder / "data", run, *SHORT)
    beside = home / f"{name[:100]}.npz"
    beside.write_bytes(Path(words[1]).read_bytes())
    words[1] = str(beside)
    steps = [
        words,
        ["sample", str(run), "--num", "2", "--steps", "2", "--out", str(home / "a.png")],
    ]
    for step in (*steps, ["runs", str(home)], [*words, "--resume"]):
        code = main(step)
        if code != 0:
            return f"{name!r}: {step[0]} exits {code}"
    found, damaged = checkpoint.newest(run)
    whole = found is not None and found.name == "step-00000002" and not damaged
    return None if whole else f"{name!r}: no whole checkpoint"


def attack(count: int, seed: int, tmp: Path) -> Figures:
    """`count` names: the list above, and random ones of odd letters."""
    draw = random.Random(seed)
    names = [*NAMES]
    while len(names) < count:
        name = "".join(draw.choices(LETTERS, k=draw.randint(1, 40)))
        if name not in {*names, ".", "..", "data"}:
            names.append(name)
    found = [use(tmp, name) for name in names[:count]]
    return Figures(count, tuple(wrong for wrong in found if wrong is not None))


def process(
    words: list[str], *, cwd: Path, env: dict[str, str] | None = None, user: int | None = None
) -> subprocess.CompletedProcess[str]:
    """A command line in a process of its own, without a terminal."""
    command = [sys.executable, "-m", "undiffuse", *words]
    return subprocess.run(
        command,
        cwd=cwd,
        env={**(os.environ if env is None else env), **ALONE},
        user=user,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """A line of bash in which `undiffuse` is this one, with the exit codes of a pipe's parts."""
    name = f'undiffuse() {{ {shlex.quote(sys.executable)} -m undiffuse "$@"; }}'
    script = f"{name}; {line}"
    env = {**os.environ, **ALONE}
    return subprocess.run(
        ["bash", "-c", script], cwd=cwd, env=env, capture_output=True, check=False
    )


def test_names(tmp_path: Path) -> None:
    found = attack(2, 0, tmp_path)
    assert not found.failures


def test_a_name_that_is_not_utf_8_is_read_and_never_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = tiny.words(tmp_path, tmp_path / "run", *SHORT)
    words[1] = str(Path(words[1]).rename(tmp_path / "\udcff.npz"))
    assert main(words) == 0
    assert checkpoint.newest(tmp_path / "run")[0] is not None
    words[words.index("--out") + 1] = str(tmp_path / "\udcff")
    capsys.readouterr()
    assert main(words) == 2  # safetensors could not read it again
    assert "the name is not UTF-8" in capsys.readouterr().err
    assert not (tmp_path / "\udcff").exists()


def test_a_name_that_is_too_long_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tiny.words(tmp_path, tmp_path / ("a" * 256), *SHORT)) == 2
    err = capsys.readouterr().err
    assert "name too long" in err.lower()
    assert {f.name for f in tmp_path.iterdir()} == {"images.npz", "tiny.toml"}


def test_a_relative_run_stays_where_it_was_when_the_process_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    tiny.data(tmp_path)
    monkeypatch.chdir(tmp_path)
    run = ud.train("images.npz", "x", tiny.RECIPE, watch=lambda _: os.chdir(tmp_path / "elsewhere"))
    assert not list((tmp_path / "elsewhere").iterdir())
    found, damaged = checkpoint.newest(tmp_path / "x")
    assert found is not None
    assert found.name == "step-00000006"
    assert not damaged
    assert ud.load(run).data["count"] == 13


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    user = 65534 if os.geteuid() == 0 else None  # root can write anywhere: become nobody
    try:
        works = process(["--version"], cwd=Path("/"), user=user).returncode == 0
    except PermissionError:
        works = False
    if not works:
        pytest.skip("as root, and this Python cannot be run by another user")
    words = tiny.words(tmp_path, tmp_path / "closed" / "run", *SHORT)
    (tmp_path / "closed").mkdir()
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    (tmp_path / "closed").chmod(0o555)
    done = process(words, cwd=Path("/"), user=user)
    (tmp_path / "closed").chmod(0o755)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list((tmp_path / "closed").iterdir())


def test_without_home_locale_and_terminal(tmp_path: Path) -> None:
    words = tiny.words(tmp_path, Path("läuft ☃"), *SHORT)
    env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = process(words, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert "step 2/2" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr  # no colours, nothing redrawn
    (run,) = tmp_path.glob("l*uft*")
    assert checkpoint.newest(run)[0] is not None


def test_output_that_nobody_reads_ends_quietly(run: Path, tmp_path: Path) -> None:
    for words in ("recipes mnist", f"runs {shlex.quote(str(run.parent))}", "--help"):
        done = shell(f"undiffuse {words} | head -1; exit ${{PIPESTATUS[0]}}", tmp_path)
        assert done.returncode in {0, 141}, words
        assert done.stderr == b""
        assert len(done.stdout.splitlines()) == 1


def test_training_goes_on_when_nobody_reads_or_the_streams_are_closed(tmp_path: Path) -> None:
    words = shlex.join(tiny.words(tmp_path, tmp_path / "x", *SHORT))
    done = shell(f"undiffuse {words} 2>&1 | true; exit ${{PIPESTATUS[0]}}", tmp_path)
    assert done.returncode in {0, 141}
    assert checkpoint.newest(tmp_path / "x")[0] is not None
    words = shlex.join(tiny.words(tmp_path, tmp_path / "y", *SHORT))
    done = shell(f"undiffuse {words} <&- >&- 2>&-", tmp_path)
    assert done.returncode == 0
    found, damaged = checkpoint.newest(tmp_path / "y")
    assert found is not None
    assert not damaged
    for file in (tmp_path / "y").rglob("*"):  # no message went into a file of the run
        assert not file.is_file() or b"is trained" not in file.read_bytes()
