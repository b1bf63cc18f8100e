"""Whatever call to the system fails, nothing that was stored is lost (reliability goal R3).

Call number k that writes fails, for k = 1, 2, 3, ... until a run passes untouched, with a full
disk, an input/output error, a missing permission and an interrupted call. Each time the run either
goes on and says so, or ends with one sentence; its newest checkpoint is whole and can be continued.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from figures import Figures

from undiffuse import noise, storage
from undiffuse.data.dataset import InMemory
from undiffuse.errors import UndiffuseError
from undiffuse.training import checkpoint
from undiffuse.training.recipe import from_table
from undiffuse.training.session import Session

POINTS = InMemory(noise.normal(0, "points", (10, 2)), source="points")
RECIPE = from_table(
    {
        "network": {"name": "mlp", "width": 4, "depth": 1},
        "training": {
            "steps": 4,
            "batch_size": 4,
            "warmup": 2,
            "checkpoint_every": 2,
            "sample_every": 99,
            "keep": 1,
            "keep_best": 0,
        },
        "sampling": {"steps": 1},
    }
)
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EINTR)
NAMES = ("open", "write", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir", "ftruncate")


class Calls:
    """Counts the calls that write below a folder; number `k` fails."""

    def __init__(self, folder: Path, k: int, number: int) -> None:
        self.folder, self.k, self.number, self.count, self.name = (
            os.fspath(folder),
            k,
            number,
            0,
            "",
        )

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            first = arguments[0] if arguments else options.get("file")
            if isinstance(first, int):
                first = os.readlink(f"/proc/self/fd/{first}")
            reading = name == "io.open" and not set(str([*arguments[1:2], options])) & set("wax+")
            if isinstance(first, str | os.PathLike) and self.folder in os.fspath(first):
                self.count += not reading
                if self.count == self.k and not reading:
                    self.name = name
                    raise OSError(self.number, os.strerror(self.number), os.fspath(first))
            return function(*arguments, **options)

        return call

    def patch(self, patch: pytest.MonkeyPatch) -> None:
        for name in NAMES:
            patch.setattr(os, name, self.wrap(name, getattr(os, name)))
        patch.setattr(io, "open", self.wrap("io.open", io.open))
        saved = storage.save_file

        def save(named: Any, file: Path, *rest: Any, **options: Any) -> None:
            self.wrap("save_file", lambda _: saved(named, file, *rest, **options))(file)

        patch.setattr(storage, "save_file", save)


def attack(count: int, seed: int, tmp: Path) -> Figures:
    """Fail up to `count` calls, evenly spread over all of them, each with one error in turn."""
    list(Session(POINTS, tmp / "whole", RECIPE).records())
    expected, failures, tried = tiny.remains(tmp / "whole"), [], 0
    counted = Calls(tmp / "counted", 0, 0)
    with pytest.MonkeyPatch.context() as patch:
        counted.patch(patch)
        list(Session(POINTS, tmp / "counted", RECIPE).records())
    places = [(k, number) for k in range(1, counted.count + 1) for number in ERRORS]
    for k, number in places[seed % 3 :: max(1, len(places) // count)]:
        out, told, ended = tmp / f"run-{k}-{number}", list[str](), ""
        calls = Calls(out, k, number)
        before = None
        with pytest.MonkeyPatch.context() as patch:
            calls.patch(patch)
            try:
                session = Session(POINTS, out, RECIPE)
                session.tell = told.append
                for record in session.records():
                    before = record.step
            except UndiffuseError as error:
                ended = str(error)
            except OSError as error:
                failures.append(f"call {k} ({calls.name}): the raw {error}")
        tried += 1
        what = f"call {k} ({calls.name}, {errno.errorcode[number]}, after step {before})"
        folder, damaged = checkpoint.newest(out)
        if damaged:
            failures.append(f"{what}: {damaged}")
        if not (told or ended) and folder is None:
            failures.append(f"{what}: swallowed")
        if any("\n" in text or "Errno" in text for text in (*told, ended)):
            failures.append(f"{what}: told {told} {ended}")
        list(Session(POINTS, out, RECIPE, resume=True).records())
        if tiny.remains(out) != expected:
            failures.append(f"{what}: another result")
    return Figures(tried, tuple(failures))


def test_any_call_may_fail(tmp_path: Path) -> None:
    figures = attack(24, 0, tmp_path)
    assert figures.failures == ()
    assert figures.runs >= 20
