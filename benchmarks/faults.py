"""Everything that may befall a run, many times over: the long form of tests/faults.

The same attacks as in the tests, with larger counts: kills, signals, damaged and foreign files,
full disks, failing calls, numbers that are not finite, races. Each tells how often it tried and
what went wrong. The table goes to docs/results/reliability.md; a run of some rows leaves the others
as they are there.

    python benchmarks/faults.py                 all, about an hour on two cores
    python benchmarks/faults.py R1 R10          these only
    python benchmarks/faults.py --share 0.1     a tenth of the counts
    python benchmarks/faults.py --dry           write nothing
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib
import io
import os
import platform
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "faults"))
NOTES = "\n## Notes\n"
RESULTS = ROOT / "docs" / "results" / "reliability.md"


class Row(NamedTuple):
    """One attack and how often it is tried."""

    id: str
    what: str
    module: str
    count: int
    function: str = "attack"


ROWS = (
    Row("R1", "SIGKILL at a random moment; the run ends as if nothing had been", "test_kills", 200),
    Row("R1", "death between two writes of a save", "test_kills", 90, "attack_places"),
    Row("R2", "order of writes, flushes and renames, by strace", "test_power_cut", 3),
    Row("R3", "one failing call to the system: full, I/O, permission", "test_io_failures", 2000),
    Row("R4", "flipped bits, truncations, zeroed blocks, other files", "test_flips", 10_000),
    Row("R5", "weights files with deceiving headers", "test_headers", 2000),
    Row("R6", "pickles in place of every file", "test_pickles", 200),
    Row("R7", "full disk at some steps", "test_disk", 60),
    Row("R10", "SIGINT, SIGTERM, SIGHUP at a random moment", "test_signals", 50),
    Row("R11", "NaN or infinity in input, loss, gradient, weight, moment", "test_non_finite", 200),
    Row("R12", "two starts in one directory", "test_one_writer", 20),
    Row("R14", "order of the data over threads and resumed places", "test_order", 130),
    Row("R15", "n steps against k and n - k, of any kind of run", "test_resume_grid", 100),
    Row("R16", "files of every format that was written", "test_old_formats", 1),
    Row("R17", "samples by seed and number", "test_seed_contract", 50),
    Row("R22", "wrong values of every option and setting", "test_config_fuzz", 2000),
    Row("R23", "odd names, places and streams", "test_odd_places", 50),
    Row("M3", "permissions of files by umask", "test_permissions", 50),
    Row("R24", "growth of memory and open files over steps", "test_memory", 2000),
    Row("R25", "a torn metrics.jsonl", "test_log", 200),
)
HEAD = """# Reliability

What was tried against undiffuse, and how often it did harm. Made by `python benchmarks/faults.py`;
the tests in `tests/faults` make the same attacks with smaller counts.

| goal | what is tried | runs | failures | minutes | date |
| --- | --- | --- | --- | --- | --- |
"""


def attack(row: Row, count: int, seed: int) -> tuple[Any, float]:
    """The figures of a row, and the seconds that it took."""
    module, begun = importlib.import_module(row.module), time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        figures = getattr(module, row.function)(count, seed, Path(folder))
    return figures, time.monotonic() - begun


def written() -> dict[str, str]:
    """The lines of the table that is there, by what was tried."""
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    return {
        line.split(" | ")[1]: line for line in text.splitlines() if re.match(r"\| [RM]\d+ ", line)
    }


def save(lines: dict[str, str]) -> None:
    """The table, in the order of the goals, above the notes that are there."""
    machine = (
        f"\n{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}.\n"
    )
    order = [lines[row.what] for row in ROWS if row.what in lines]
    before = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    notes = "".join(before.partition(NOTES)[1:])
    RESULTS.write_text(HEAD + "\n".join(order) + "\n" + machine + notes, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("goals", nargs="*", help="such as R1")
    parser.add_argument("--share", type=float, default=1.0, help="of the counts")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dry", action="store_true", help="write nothing")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    lines, harm = written(), 0
    for row in ROWS:
        if options.goals and row.id not in options.goals:
            continue
        figures, seconds = attack(row, max(1, round(row.count * options.share)), options.seed)
        harm += len(figures.failures)
        date, minutes = datetime.date.today().isoformat(), f"{seconds / 60:.1f}"
        cells = (row.id, row.what, f"{figures.runs:,}", str(len(figures.failures)), minutes, date)
        lines[row.what] = "| " + " | ".join(cells) + " |"
        print(lines[row.what], flush=True)
        for failure in figures.failures[:20]:
            print(f"    {failure}", flush=True)
        if not options.dry:
            save(lines)
    return 1 if harm else 0


if __name__ == "__main__":
    sys.exit(main())
