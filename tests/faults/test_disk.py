"""A disk that is full, gone or read-only costs no checkpoint and no training (goal R7)."""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
from figures import Figures
from server import shared

from undiffuse import noise, storage
from undiffuse.data.dataset import InMemory
from undiffuse.errors import RunFailed
from undiffuse.training import checkpoint
from undiffuse.training.recipe import from_table
from undiffuse.training.run import Run
from undiffuse.training.session import Session

POINTS = InMemory(noise.normal(0, "points", (40, 2)), source="points")
RECIPE = from_table(
    {
        "network": {"name": "mlp", "width": 32, "depth": 1},
        "training": {
            "steps": 20,
            "batch_size": 4,
            "warmup": 2,
            "checkpoint_every": 4,
            "sample_every": 6,
        },
        "sampling": {"steps": 1},
    }
)


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """As on a full disk: files do not grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def train(out: Path, full: range, size: int = 4000) -> tuple[Session, list[str], str]:
    """A run on a disk that is full after the steps in `full`: what it told, and how it ended."""
    session, told, ended = Session(POINTS, out, RECIPE), list[str](), ""
    session.tell = told.append
    records = session.records()
    try:
        while True:
            with no_file_beyond(size if session.state.step in full else resource.RLIM_INFINITY):
                next(records)
    except StopIteration:
        pass
    except RunFailed as error:
        ended = str(error)
    return session, told, ended


def attack(count: int, seed: int, tmp: Path) -> Figures:
    """`count` outages, each at another place and of another length."""
    list(Session(POINTS, tmp / "whole", RECIPE).records())
    expected, failures = tiny.remains(tmp / "whole"), []
    for number in range(count):
        first, length = 4 + (5 * number + seed) % 15, 1 + (7 * number + seed) % 16
        full, out = range(first, first + length), tmp / f"run-{number}"
        _, told, ended = train(out, full, size=(300, 2000, 8000)[number % 3])
        what = f"full from {first} for {length}"
        folder, damaged = checkpoint.newest(out)
        if folder is None or damaged:
            failures.append(f"{what}: {damaged}")
            continue
        if (19 in full) != bool(ended):
            failures.append(f"{what}: ended with '{ended}'")
        if ended:
            again = Session(POINTS, out, RECIPE, resume=True)
            list(again.records())
        lost = [key for key, value in tiny.remains(out).items() if value != expected[key]]
        if lost:
            failures.append(f"{what}: {lost} differ")
        if len(told) > 8 or any("Errno" in text or "\n" in text for text in told):
            failures.append(f"{what}: told {told}")
    return Figures(count, tuple(failures))


def test_a_full_disk_pauses_what_is_kept(tmp_path: Path) -> None:
    assert attack(4, 0, tmp_path).failures == ()


def test_what_is_told(tmp_path: Path) -> None:
    _, told, ended = train(tmp_path / "run", range(7, 17))
    assert [text for text in told if "step-00000008" in text] == [told[0]]
    assert "MB are free" in told[0]
    assert "; it needs 0." in told[0]
    assert told[0].endswith("training goes on and tries again at the next checkpoint")
    assert "the checkpoint went well again" in told
    assert not ended
    assert [line["step"] for line in Run(tmp_path / "run").lines()] == list(range(1, 21))
    _, told, ended = train(tmp_path / "other", range(7, 99))
    assert ended.startswith("the run ends unsaved: cannot store ")
    assert "step-00000020" in ended
    folder, damaged = checkpoint.newest(tmp_path / "other")
    assert folder is not None
    assert (folder.name, damaged) == ("step-00000004", [])


def test_the_command_line_fails_with_1_in_one_sentence(tmp_path: Path) -> None:
    server, told = shared(), tmp_path / "told.txt"
    words = tiny.words(tmp_path, tmp_path / "run")
    assert server.run(words, told, largest=20_000) == 1
    lines = told.read_text(encoding="utf-8").splitlines()
    assert lines[-1].startswith("error: the run ends unsaved: cannot store ")
    assert not any("Traceback" in line or "Errno" in line for line in lines)
    assert server.run([*words, "--resume"], told) == 0


Trouble = Callable[[Path, Path], None]


def vanish(run: Path, aside: Path) -> None:
    run.rename(aside)


def become_a_file(run: Path, aside: Path) -> None:
    run.rename(aside)
    run.write_text("mine")


def come_back(run: Path, aside: Path) -> None:
    run.unlink() if run.is_file() else None
    aside.rename(run)


def be_made_anew(run: Path, aside: Path) -> None:
    run.unlink() if run.is_file() else None
    run.mkdir()


@pytest.mark.parametrize("go", [vanish, become_a_file])
@pytest.mark.parametrize("back", [come_back, be_made_anew])
def test_a_folder_that_vanishes_and_comes_back(go: Trouble, back: Trouble, tmp_path: Path) -> None:
    run, aside = tmp_path / "run", tmp_path / "aside"
    session, told = Session(POINTS, run, RECIPE), list[str]()
    session.tell = told.append
    for record in session.records():
        if record.step == 6:
            go(run, aside)
        if record.step == 14:
            assert not (run / "checkpoints").exists()  # a mount point is not written into
            back(run, aside)
    assert told
    assert len([text for text in told if "went well again" not in text]) <= 3
    assert not any("\n" in text or "Errno" in text for text in told)
    folder, damaged = checkpoint.newest(run)
    assert folder is not None
    assert (folder.name, damaged) == ("step-00000020", [])
    assert Session(POINTS, run, RECIPE, resume=True).state.step == 20
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").open()]
    assert steps == list(range(steps[0], 21))


def test_a_folder_that_stays_away_fails_the_run(tmp_path: Path) -> None:
    run, aside = tmp_path / "run", tmp_path / "aside"
    session = Session(POINTS, run, RECIPE)
    session.tell = lambda text: None
    with pytest.raises(RunFailed, match=r"ends unsaved: .*the folder has vanished"):  # noqa: PT012
        for record in session.records():
            if record.step == 6:
                run.rename(aside)
    assert not run.exists()
    folder, damaged = checkpoint.newest(aside)
    assert folder is not None
    assert (folder.name, damaged) == ("step-00000004", [])


@pytest.mark.parametrize(
    "place", ["checkpoints", "model", "metrics.jsonl", "samples", "config.toml"]
)
def test_a_read_only_place(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that was mounted anew after an error: every write there is refused."""
    out = tmp_path / "run"
    session, told = Session(POINTS, out, RECIPE), list[str]()
    session.tell = told.append
    real = {name: getattr(os, name) for name in ("open", "rename", "mkdir", "replace")}

    def refuse(name: str) -> Callable[..., object]:
        def call(path: object, *rest: object, **options: object) -> object:
            paths = [os.fspath(p) for p in (path, *rest[:1]) if isinstance(p, str | os.PathLike)]
            if any(f"/{place}" in str(p).removeprefix(str(out)) for p in paths):
                raise OSError(30, "Read-only file system", str(path))
            return real[name](path, *rest, **options)

        return call

    records = session.records()
    for _ in range(5):
        next(records)
    with monkeypatch.context() as patch:
        for name in real:
            patch.setattr(os, name, refuse(name))
        for _ in range(8):
            next(records)
    list(records)
    assert all("read-only file system" in t.lower() or "went well again" in t for t in told)
    assert len([text for text in told if "read-only" in text.lower()]) <= 2
    assert bool(told) == (place != "config.toml")
    folder, damaged = checkpoint.newest(out)
    assert folder is not None
    assert (folder.name, damaged) == ("step-00000020", [])
    assert [line["step"] for line in Run(out).lines()] == list(range(1, 21))
    assert storage.problem(out / "model") is None


def test_without_room_for_two_checkpoints_nothing_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(POINTS, tmp_path / "run", RECIPE)
    need = 2 * checkpoint.estimated(session.state)
    for free, starts in ((need - 1, False), (need + 1, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        if starts:
            next(session.records())
        else:
            with pytest.raises(RunFailed, match=r"has 0\.\d MB free, and two checkpoints need"):
                next(session.records())
            assert not (tmp_path / "run").exists()


def test_the_estimate_is_near_what_is_written(tmp_path: Path) -> None:
    session = Session(POINTS, tmp_path / "run", RECIPE.changed({"network.width": 256}))
    list(session.records())
    folder, _ = checkpoint.newest(tmp_path / "run")
    assert folder is not None
    files = [*folder.iterdir(), *(tmp_path / "run" / "model").iterdir()]
    written = sum(file.stat().st_size for file in files)
    assert written * 0.9 < checkpoint.estimated(session.state) < written * 1.2
