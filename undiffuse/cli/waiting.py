"""How the threads of a process wait for each other.

A thread that spins while it waits is there at once, and takes its core from others. One that sleeps
costs nobody anything, and is late for the next of a thousand small operations. With the cores to
itself a training of small images is 1.4 times as fast if threads spin for some 15 microseconds and
then sleep; beside another that spins as well it is half as fast (docs/results/train_speed.md). So
threads spin a little where nothing else is running when the command starts, and else not at all.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path

LOAD = Path("/proc/loadavg")
TURNS = "5000"  # of spinning, before a thread sleeps
CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def choose(environment: MutableMapping[str, str]) -> None:
    """Set what torch reads when it is loaded, unless it was chosen already."""
    if not any(name in environment for name in CHOICES):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
        if alone():
            environment["GOMP_SPINCOUNT"] = TURNS


def alone() -> bool:
    """Whether this thread is the only one on the machine that is running; unknown is no."""
    try:
        running = LOAD.read_text(encoding="ascii").split()[3].partition("/")[0]
        return int(running) <= 1
    except (OSError, ValueError, IndexError):
        return False
