r"""A run: one directory in which one training lives.

    config.toml       the recipe, resolved, and what it was run on
    checkpoints/      whole states of the run
    metrics.jsonl     one line per step
    samples/          grids of samples while it learned
    model/            the folder that `undiffuse.load` reads

One process writes to a run at a time; the kernel releases the lock of a process that was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
from filelock import FileLock, Timeout

from undiffuse.errors import RunFailed, UndiffuseError
from undiffuse.training import files, log
from undiffuse.training import recipe as recipes
from undiffuse.training.recipe import Recipe, Table


@dataclass(frozen=True)
class Run:
    """The directory of a run; use it wherever a path is asked for."""

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def config(self) -> Path:
        """The file that makes a directory a run."""
        return self.path / "config.toml"

    def create(self) -> None:
        """Make the directory, with those above it.

        Raises:
            UndiffuseError: the place cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UndiffuseError(f"cannot make {self.path}: {files.reason(error)}") from error

    def read_config(self) -> tuple[Recipe, Table]:
        """The recipe and the `run` table (data, seed, steps, ...).

        Raises:
            UndiffuseError: there is no run here, or its config is damaged.
        """
        if not self.config.is_file():
            raise UndiffuseError(f"there is no run in {self.path}; it holds no config.toml")
        table = recipes.load_toml(self.config)
        facts: Table = table.pop("run", {})
        return recipes.from_table(table), facts

    def write_config(self, recipe: Recipe, facts: Table) -> None:
        """Store recipe and facts, replacing the file as a whole.

        Raises:
            RunFailed: it cannot be written; what was there remains.
        """
        known = {k: v for k, v in facts.items() if v is not None}
        files.replace(self.config, tomli_w.dumps({"run": known, **recipes.to_table(recipe)}))

    def lines(self) -> Iterator[dict[str, Any]]:
        """The lines of metrics.jsonl; a last line torn by a crash is left out."""
        return log.read(self.path / "metrics.jsonl")

    def metrics(self) -> Iterator[dict[str, Any]]:
        """The lines of the steps that learned something; their numbers are finite."""
        for line in self.lines():
            if not line.get("fault", {}).get("skipped"):
                yield line

    def trim_metrics(self, step: int) -> None:
        """Forget the lines after `step`, which a resumed run writes again, and a torn one.

        Raises:
            RunFailed: the file cannot be written.
        """
        file = self.path / "metrics.jsonl"
        kept = "".join(json.dumps(line) + "\n" for line in self.lines() if line["step"] <= step)
        if file.is_file() and file.read_bytes() != kept.encode():
            files.replace(file, kept)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for writing.

        Raises:
            UndiffuseError: another process holds it.
        """
        lock, owner = FileLock(self.path / ".lock"), self.path / ".owner"
        try:
            lock.acquire(timeout=0.2, poll_interval=0.02)  # `writer` may hold it for an instant
        except Timeout as error:
            raise UndiffuseError(
                f"{self.path} is being written by {_named(owner)}; wait or stop it"
            ) from error
        except OSError as error:
            raise RunFailed(f"cannot write to {self.path}: {files.reason(error)}") from error
        try:
            files.replace(owner, f"process {os.getpid()} on {os.uname().nodename}")
            yield
        finally:
            lock.release()

    def writer(self) -> str | None:
        """Who is writing to the run, "process 7 on a.host"; None if nobody is. Changes nothing."""
        try:
            handle = os.open(self.path / ".lock", os.O_RDONLY)
        except OSError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return _named(self.path / ".owner")
        finally:
            os.close(handle)
        return None


def _named(owner: Path) -> str:
    """Who holds the lock, once it has had the time to write its name down."""
    for _ in range(50):
        with contextlib.suppress(OSError):
            text = owner.read_text(encoding="utf-8")
            match = re.fullmatch(r"process (\d+) on (.*)", text)
            if match and (match[2] != os.uname().nodename or _alive(int(match[1]))):
                return text
        time.sleep(0.02)
    return "another process"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        pass
    return True
