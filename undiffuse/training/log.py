r"""What a run tells of its steps: metrics.jsonl, one line of strict JSON for each.

Numbers that are not finite, which JSON does not have, are written as null; the line of a step with
a fault has it under "fault", with the samples and noise levels it came from.

Lines are appended about once a second and wait in memory while they cannot be written. The file is
only as long as what is known to be whole, so a torn line is written again and never followed.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undiffuse.errors import RunFailed
from undiffuse.training.files import reason

if TYPE_CHECKING:
    from undiffuse.training.loop import Record

PAUSE = 1.0  # seconds between two writes


class Log:
    """The end of metrics.jsonl, to which a run in progress adds."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.waiting: list[str] = []
        self.size = file.stat().st_size if file.exists() else 0
        self.written = time.monotonic()

    def add(self, record: Record) -> None:
        """Take in a record, to be written with the next ones."""
        self.waiting.append(line_of(record))

    @property
    def due(self) -> bool:
        """Whether the last write is a while ago."""
        return time.monotonic() - self.written >= PAUSE

    def flush(self, durable: bool = False) -> None:
        """Write what waits; with `durable`, until the disk has it.

        Raises:
            RunFailed: it cannot be written, and waits on.
        """
        self.written = time.monotonic()
        content = "".join(self.waiting).encode()
        try:
            handle = os.open(self.file, os.O_WRONLY | os.O_CREAT, 0o666)
            try:
                whole = min(self.size, os.fstat(handle).st_size)
                os.ftruncate(handle, whole)
                os.lseek(handle, whole, os.SEEK_SET)
                done = 0
                while done < len(content):
                    done += os.write(handle, content[done:])
                if durable:
                    os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise RunFailed(f"cannot write {self.file}: {reason(error)}") from error
        self.size = whole + len(content)
        self.waiting.clear()


def line_of(record: Record) -> str:
    """The line of a record.

    >>> from undiffuse.training.loop import Record
    >>> line_of(Record(2, 9, 8, math.nan, 1.5, 0.1, 0.25, 0.0)).partition(', "lr"')[0]
    '{"step": 2, "steps": 9, "images": 8, "loss": null, "gradient_norm": 1.5'
    """
    facts = record._asdict()
    wrong = facts.pop("fault")
    if wrong is not None:
        facts["fault"] = wrong._asdict()
    return json.dumps(_strict(facts), allow_nan=False) + "\n"


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read(file: Path) -> Iterator[dict[str, Any]]:
    """The lines of a metrics.jsonl, up to one that a crash tore."""
    if file.is_file():
        for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                return
            if not isinstance(line, dict) or not isinstance(line.get("step"), int):
                return
            yield line
