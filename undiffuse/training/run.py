r"""A run: one directory in which one training lives.

    config.toml       the recipe, resolved, and what it was run on
    checkpoints/      whole states of the run
    metrics.jsonl     one line per step
    samples/          grids of samples while it learned
    model/            the folder that `undiffuse.load` reads

One process writes to a run at a time; the kernel releases the lock of a process that was killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from undiffuse.errors import UndiffuseError
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
            raise UndiffuseError(f"cannot make {self.path}: {error.strerror}") from error

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
        """Store recipe and facts, replacing the file as a whole."""
        temporary = self.path / ".config.toml.tmp"
        known = {k: v for k, v in facts.items() if v is not None}
        recipes.save_toml(temporary, {"run": known, **recipes.to_table(recipe)})
        temporary.replace(self.config)

    def metrics(self) -> Iterator[dict[str, Any]]:
        """The lines of metrics.jsonl; a last line torn by a crash is left out."""
        file = self.path / "metrics.jsonl"
        if file.is_file():
            for line in file.read_text(encoding="utf-8").splitlines():
                try:
                    yield json.loads(line)
                except ValueError:
                    return

    def trim_metrics(self, step: int) -> None:
        """Forget the lines after `step`, which a resumed run writes again."""
        kept = [json.dumps(line) + "\n" for line in self.metrics() if line["step"] <= step]
        temporary = self.path / ".metrics.jsonl.tmp"
        temporary.write_text("".join(kept), encoding="utf-8")
        temporary.replace(self.path / "metrics.jsonl")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for writing.

        Raises:
            UndiffuseError: another process holds it.
        """
        lock, owner = FileLock(self.path / ".lock"), self.path / ".owner"
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            who = owner.read_text(encoding="utf-8") if owner.is_file() else "another process"
            raise UndiffuseError(
                f"{self.path} is being written by {who}; wait or stop it"
            ) from error
        try:
            owner.write_text(f"process {os.getpid()} on {os.uname().nodename}", encoding="utf-8")
            yield
        finally:
            lock.release()
