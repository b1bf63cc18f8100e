"""A power cut loses nothing that was said to be stored (reliability goal R2).

What a disk was told last it may forget. So every file of a checkpoint is flushed before the folder
gets its name, the folder above is flushed after that, and an old checkpoint goes only then. Read
from the calls that Python makes, and where strace is there, from those of the system.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
from figures import Figures

from undiffuse.cli import main

SETTINGS = ["training.checkpoint_every=1", "training.keep=1", "training.keep_best=0"]
STEP = re.compile(r"/step-\d+$")
Event = tuple[str, str]  # a call, and the path it was for


def words(tmp: Path, run: Path) -> list[str]:
    return tiny.words(tmp, run, "--steps", "3", "--set", *SETTINGS)


def disorder(events: Sequence[Event], run: Path) -> list[str]:
    """What a power cut could undo, in the events of a run."""
    wrong: list[str] = []
    for at, (call, path) in enumerate(events):
        name = Path(path).name
        if call == "rename to" and Path(path).parent.name == "checkpoints" and name[:5] == "step-":
            source = events[at - 1][1]
            written = {p for c, p in events[:at] if c == "write" and Path(p).parent == Path(source)}
            flushed = {p for c, p in events[:at] if c == "fsync"}
            wrong += [f"{file} is renamed before it is flushed" for file in written - flushed]
            if source not in flushed:
                wrong.append(f"{source} is renamed before it is flushed")
            if len(written) < 6:
                wrong.append(f"{name} has only {len(written)} files")
            after = next((p for c, p in events[at + 1 :] if c in {"fsync", "rename from"}), "")
            if after != str(run / "checkpoints"):
                wrong.append(f"after {name} comes {after}, not its folder's flush")
        if call == "rename from" and name[:5] == "step-":
            newer = f"step-{int(name[5:]) + 1:08d}"
            stored = [i for i, event in enumerate(events[:at]) if event[1].endswith(newer)]
            if not stored or ("fsync", str(run / "checkpoints")) not in events[stored[0] : at]:
                wrong.append(f"{name} goes before {newer} is on the disk")
    return wrong


def recorded(run: Callable[[], object]) -> list[Event]:
    """The events of Python's calls."""
    events: list[Event] = []
    real: dict[str, Any] = {name: getattr(os, name) for name in ("fsync", "rename", "replace")}

    def fsync(handle: int) -> None:
        path = os.readlink(f"/proc/self/fd/{handle}")
        if Path(path).is_dir():
            events.extend(("write", str(f)) for f in Path(path).iterdir() if ".tmp-" in path)
        events.append(("fsync", path))
        real["fsync"](handle)

    def renamed(name: str) -> Callable[..., None]:
        def rename(source: Any, target: Any, **options: Any) -> None:
            events.extend([("rename from", os.fspath(source)), ("rename to", os.fspath(target))])
            real[name](source, target, **options)

        return rename

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        patch.setattr(os, "rename", renamed("rename"))
        patch.setattr(os, "replace", renamed("replace"))
        run()
    return events


def traced(command: Sequence[str], log: Path) -> list[Event]:
    """The events of the system's calls, as strace tells them."""
    calls = "trace=openat,write,pwrite64,fsync,rename,renameat,renameat2"
    subprocess.run(
        ["strace", "-f", "-y", "-qq", "-o", str(log), "-e", calls, *command],
        check=True,
        capture_output=True,
    )
    events: list[Event] = []
    for line in log.read_text(errors="replace").splitlines():
        if found := re.search(r"(fsync|write|pwrite64)\(\d+<([^>]*)>", line):
            call = "fsync" if found[1] == "fsync" else "write"
            if (call, found[2]) not in events[-1:]:
                events.append((call, found[2]))
        elif found := re.search(
            r'rename\w*\((?:AT_FDCWD\S*, )?"(.*?)", (?:AT_FDCWD\S*, )?"(.*?)"', line
        ):
            if "/.tmp-" in found[2]:  # a file within a folder that has no name yet
                events = [(call, found[2] if p == found[1] else p) for call, p in events]
            else:
                events.extend([("rename from", found[1]), ("rename to", found[2])])
    return [event for event in events if event[1].startswith("/")]


def attack(count: int, seed: int, tmp: Path) -> Figures:
    """`count` runs of three saves under strace, where it is there."""
    failures, tried = [], 0
    for number in range(count if shutil.which("strace") else 0):
        run = tmp / f"run-{number}"
        command = [
            sys.executable,
            "-m",
            "undiffuse",
            *words(tmp, run),
            "--seed",
            str(seed + number),
        ]
        events = traced(command, tmp / f"calls-{number}.txt")
        steps = [path for call, path in events if call == "rename to" and STEP.search(path)]
        if len(steps) != 3:
            failures.append(f"run {number}: {len(steps)} checkpoints seen")
        failures += disorder(events, run)
        tried += 1
    return Figures(tried, tuple(failures))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_everything_is_flushed_before_it_counts(tmp_path: Path) -> None:
    run = tmp_path / "run"
    events = recorded(lambda: main(words(tmp_path, run)))
    renamed = [
        Path(path).name for call, path in events if call == "rename to" and STEP.search(path)
    ]
    assert renamed == [f"step-{n:08d}" for n in (1, 2, 3)]
    assert disorder(events, run) == []


def test_a_wrong_order_is_seen(tmp_path: Path) -> None:
    run = tmp_path / "run"
    good = recorded(lambda: main(words(tmp_path, run)))
    for call in ("fsync",):
        for drop in [
            i for i, event in enumerate(good) if event[0] == call and "checkpoints" in event[1]
        ]:
            assert disorder(good[:drop] + good[drop + 1 :], run), good[drop]
