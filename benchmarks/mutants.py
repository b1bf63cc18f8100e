"""Planted faults, each of which must make the test fail that is there to find it.

A test that cannot fail shows nothing. So each fault in the list is put into a copy of the package,
as a change of its text, and the test named beside it is run on that copy; a fault that is not
found is told, and the exit code is 1.

    make mutants                         all, some ten minutes on two cores
    python benchmarks/mutants.py order   those whose name holds a word
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
SECONDS = 900  # a test that hangs has found its fault too


class Mutant(NamedTuple):
    """A fault: what it is, the text to be changed in a file of the package, who sees it."""

    name: str
    file: str
    old: str
    new: str
    test: str


GRID = "tests/faults/test_resume_grid.py"
FINITE = "tests/faults/test_non_finite.py"
POWER = "tests/faults/test_power_cut.py::test_everything_is_flushed_before_it_counts"
MUTANTS = (
    Mutant("files are not flushed", "storage.py", "            _flush(file)\n", "", POWER),
    Mutant("a folder's name is not flushed", "storage.py", "_flush(folder.parent)", "pass", POWER),
    Mutant(
        "no digest",
        "storage.py",
        'digest(file) != entry["sha256"]',
        "False",
        "tests/faults/test_flips.py",
    ),
    Mutant(
        "strays stay",
        "training/checkpoint.py",
        "        storage.sweep(place)\n",
        "        pass\n",
        "tests/faults/test_kills.py::test_a_run_may_die_at_any_place_of_a_save",
    ),
    Mutant(
        "the model folder is not caught up",
        "training/session.py",
        "keeper.catch_up(self.state, self._model())",
        "pass",
        "tests/faults/test_kills.py::test_a_run_may_die_at_any_place_of_a_save",
    ),
    Mutant(
        "the average is dropped",
        "training/checkpoint.py",
        'state.ema.load(storage.tensors(folder, "ema"))',
        "pass",
        GRID,
    ),
    Mutant(
        "the moments are dropped",
        "training/checkpoint.py",
        '_restore_moments(state, storage.tensors(folder, "optimizer"))',
        "pass",
        GRID,
    ),
    Mutant(
        "the scale of float16 is dropped",
        "training/checkpoint.py",
        'state.scaler.load_state_dict(facts["scaler"])',
        "pass",
        f"{FINITE}::test_the_scale_of_float16_is_resumed",
    ),
    Mutant(
        "the count of skipped steps is dropped",
        "training/checkpoint.py",
        'state.course = Course(**facts.get("course", {}))',
        "pass",
        GRID,
    ),
    Mutant(
        "what times have learned is dropped",
        "training/checkpoint.py",
        'state.times = build(facts["times"], "objectives.times")',
        "pass",
        GRID,
    ),
    Mutant(
        "dropout from the global generator",
        "training/loop.py",
        'torch.manual_seed(noise.integer(seed, "dropout", state.step))',
        "pass",
        GRID,
    ),
    Mutant(
        "noise from the global generator",
        "training/batches.py",
        'noise.normal(self.seed, "noise", x_0.shape, step=step)',
        "torch.randn(x_0.shape)",
        GRID,
    ),
    Mutant(
        "order from the global generator",
        "training/batches.py",
        'noise.permutation(self.seed, "order", self.count, epoch)',
        "torch.randperm(self.count)",
        "tests/faults/test_order.py",
    ),
    Mutant(
        "each resumed run starts its epoch anew",
        "training/batches.py",
        "parts, position, wanted = [], step * self.batch_size, self.batch_size",
        "self.n = getattr(self, 'n', -1) + 1\n"
        "        parts, position, wanted = [], self.n * self.batch_size, self.batch_size",
        "tests/faults/test_order.py",
    ),
    Mutant(
        "a batch in parts counts each part whole",
        "training/loop.py",
        "losses.mean() * (len(losses) / len(drawn.x_0))",
        "losses.mean()",
        "tests/training/test_accumulate.py",
    ),
    Mutant(
        "a damaged state is stored",
        "training/keeper.py",
        "        checkpoint.check_finite(state)\n",
        "",
        f"{FINITE}::test_what_is_not_finite_is_skipped_or_named",
    ),
    Mutant(
        "a step without a finite gradient is taken",
        "training/loop.py",
        "    if math.isfinite(norm):\n        state.scaler.step",
        "    if True:\n        state.scaler.step",
        f"{FINITE}::test_what_is_not_finite_is_skipped_or_named",
    ),
    Mutant(
        "no limit of skipped steps",
        "training/loop.py",
        "state.course.in_a_row >= limit",
        "False",
        f"{FINITE}::test_too_many_in_a_row_end_the_run",
    ),
    Mutant(
        "NaN in the metrics",
        "training/log.py",
        "json.dumps(_strict(facts), allow_nan=False)",
        "json.dumps(facts)",
        f"{FINITE}::test_what_is_not_finite_is_skipped_or_named",
    ),
    Mutant(
        "metrics are not trimmed",
        "training/session.py",
        "self.run.trim_metrics(self.state.step)",
        "pass",
        "tests/faults/test_log.py",
    ),
    Mutant(
        "the lock is not taken",
        "training/run.py",
        "lock.acquire(timeout=0.2, poll_interval=0.02)",
        "pass",
        "tests/faults/test_one_writer.py",
    ),
    Mutant(
        "an unsaved run ends well",
        "training/keeper.py",
        'for what in ("checkpoint", "metrics"):',
        "for what in ():",
        "tests/faults/test_disk.py::test_what_is_told",
    ),
    Mutant(
        "a failed save is tried once only",
        "training/keeper.py",
        'if self._try("checkpoint", store, last, need):',
        'if "checkpoint" not in self.trouble and self._try("checkpoint", store, last, need):',
        "tests/faults/test_disk.py::test_what_is_told",
    ),
    Mutant(
        "a vanished folder is made anew",
        "training/keeper.py",
        "if not self.run.path.is_dir():",
        "if self.run.path.mkdir(exist_ok=True):",
        "tests/faults/test_disk.py::test_a_folder_that_stays_away_fails_the_run",
    ),
    Mutant(
        "a signal is not heard in pictures",
        "training/previews.py",
        "if stopped():",
        "if False:",
        "tests/faults/test_signals.py::test_a_picture_is_given_up_for_a_signal",
    ),
    Mutant(
        "the average is copied into the weights",
        "training/previews.py",
        "copy.deepcopy(state.denoiser)",
        "state.denoiser",
        "tests/training/test_session.py::test_pictures_change_nothing",
    ),
    Mutant(
        "the newest checkpoints are deleted",
        "training/checkpoint.py",
        "_first_whole(folders[::-1], keep)",
        "_first_whole(folders, keep)",
        "tests/training/test_checkpoint.py",
    ),
)


def found(mutant: Mutant, folder: Path) -> bool:
    """Whether the test fails on the package with this fault, which is then taken out again."""
    file = folder / "undiffuse" / mutant.file
    whole = file.read_text(encoding="utf-8")
    if whole.count(mutant.old) != 1:
        raise SystemExit(
            f"{mutant.name}: its text stands {whole.count(mutant.old)} times in {file}"
        )
    file.write_text(whole.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        return run(mutant.test, folder) == 1
    finally:
        file.write_text(whole, encoding="utf-8")


def run(test: str, folder: Path) -> int:
    """pytest's exit code on the copy: 0 passed, 1 failed."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", test]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, timeout=SECONDS, text=True
        )
    except subprocess.TimeoutExpired:
        return 1
    return done.returncode


def main(words: list[str]) -> int:
    chosen = [m for m in MUTANTS if not words or any(word in m.name for word in words)]
    missed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("undiffuse", "tests", "recipes"):
            shutil.copytree(
                ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__")
            )
        shutil.copy(ROOT / "pyproject.toml", folder)
        for mutant in chosen:
            begun = time.monotonic()
            seen = found(mutant, folder)
            missed += not seen
            took = time.monotonic() - begun
            print(f"{'found ' if seen else 'MISSED'} {mutant.name} ({took:.0f} s)", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} planted faults were found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
