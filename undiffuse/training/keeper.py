r"""What a run keeps while it trains, and what happens when the disk does not take it.

A checkpoint, the metrics or a picture that cannot be written (a full disk, a folder that vanished
or became read-only) does not end the training: it is told once, and tried again at the next
checkpoint. Nothing that was stored before is touched, old checkpoints are deleted only after the
new one was read back, and a run that ends with something unsaved says so and fails.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any

from undiffuse import storage
from undiffuse.errors import RunFailed, UndiffuseError
from undiffuse.training import checkpoint, files
from undiffuse.training.log import Log
from undiffuse.training.loop import Record, State
from undiffuse.training.recipe import Recipe, Table
from undiffuse.training.run import Run


class Keeper:
    """Writes to one run, which its process has locked.

    Args:
        run: the directory, with its config.
        recipe: how often to save, and what to keep.
        describe: the facts of the run as they stand now.
        tell: called with a sentence when something cannot be written, and when it can again.
    """

    def __init__(
        self, run: Run, recipe: Recipe, describe: Callable[[], Table], tell: Callable[[str], None]
    ) -> None:
        self.run, self.recipe, self.describe, self.tell = run, recipe, describe, tell
        self.log = Log(run.path / "metrics.jsonl")
        self.trouble: dict[str, str] = {}  # what could not be written, and why

    def note(self, record: Record) -> None:
        """Take in the record of a step."""
        self.log.add(record)
        if self.log.due and not self.trouble:
            self._try("metrics", self.log.flush)

    def save(
        self, state: State, model: Mapping[str, Any], facts: Mapping[str, Any], last: bool = False
    ) -> None:
        """Store a checkpoint and the model folder; `last`, if no other attempt will follow.

        Raises:
            RunFailed: the state is damaged, and never stored.
        """
        checkpoint.check_finite(state)
        path = self.run.path

        def store() -> None:
            self._prepare()
            checkpoint.save(path, state, model, facts)
            self._store_model(state, model)

        self._try("metrics", lambda: self.log.flush(durable=True), last)
        need = f"; it needs {checkpoint.estimated(state) / 1e6:.1f} MB"
        if self._try("checkpoint", store, last, need):
            self._prune(last)

    def catch_up(self, state: State, model: Mapping[str, Any]) -> None:
        """Do what a crash kept from being done after the checkpoint of this state was stored."""
        try:
            stored = storage.read_json(self.run.path / "model" / "model.json")["training"]["step"]
        except (UndiffuseError, KeyError, TypeError):
            stored = None
        if stored != state.step or storage.problem(self.run.path / "model") is not None:
            self._try("model", lambda: self._store_model(state, model))
        self._prune(last=False)

    def _store_model(self, state: State, model: Mapping[str, Any]) -> None:
        folder = self.run.path / "model"
        storage.write(folder, {"weights": state.ema.weights}, {"model": model})

    def _prune(self, last: bool) -> None:
        path, options = self.run.path, self.recipe.training

        def prune() -> None:
            checkpoint.prune(path, options.keep, options.keep_best, options.keep_every)

        self._try("deletion of old checkpoints", prune, last)

    def picture(self, draw: Callable[[], None]) -> None:
        """Draw and store a picture; without one, training goes on."""

        def there() -> None:
            self._prepare()
            draw()

        self._try("picture", there)

    def finish(self) -> None:
        """See that nothing is unsaved.

        Raises:
            RunFailed: something is.
        """
        if self.log.waiting:
            self._try("metrics", self.log.flush, last=True)
        for what in ("checkpoint", "metrics"):
            if what in self.trouble:
                raise RunFailed(f"the run ends unsaved: {self.trouble[what]}")

    def close(self) -> None:
        """Write the lines that wait, if that is possible: they tell how a run came to its end."""
        with contextlib.suppress(RunFailed):
            self.log.flush()

    def _prepare(self) -> None:
        """See that the directory of the run is there; one made anew gets its config again."""
        if not self.run.path.is_dir():
            raise RunFailed(f"cannot store {self.run.path}: the folder has vanished")
        if not self.run.config.is_file():
            self.run.write_config(self.recipe, self.describe())
        if not (self.run.path / "checkpoints").is_dir():
            (self.run.path / "checkpoints").mkdir()
            files.flush_folder(self.run.path)

    def _try(
        self, what: str, write: Callable[[], None], last: bool = False, more: str = ""
    ) -> bool:
        try:
            write()
        except (OSError, RunFailed) as error:
            text = str(error) if isinstance(error, RunFailed) else files.sentence(error)
            if what not in self.trouble and not last:
                self.tell(f"{text}{more}; training goes on and tries again at the next checkpoint")
            self.trouble[what] = text + more
            return False
        if self.trouble.pop(what, None) is not None:
            self.tell(f"the {what} went well again")
        return True


def check_room(run: Run, state: State) -> None:
    """Refuse to start where the disk has no room for two checkpoints.

    Raises:
        RunFailed: with the bytes needed and free.
    """
    above = next(p for p in (run.path, *run.path.absolute().parents) if p.exists())
    need, free = 2 * checkpoint.estimated(state), shutil.disk_usage(above).free
    if free < need:
        raise RunFailed(
            f"the disk of {run.path} has {free / 1e6:.1f} MB free, and two checkpoints need"
            f" {need / 1e6:.1f} MB: make room, or choose another --out"
        )
