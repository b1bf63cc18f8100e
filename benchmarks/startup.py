"""How long a user waits before anything happens: importing the package, and asking for help.

Each figure is the median of several fresh interpreters. The import of undiffuse is measured beside
that of torch alone, and what it adds is the difference. Help must not load torch at all.

    python benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 5
PYTHON = Path(sys.executable)
COMMANDS = {
    "python": [PYTHON, "-c", "pass"],
    "import torch": [PYTHON, "-c", "import torch"],
    "import torch, undiffuse": [PYTHON, "-c", "import torch, undiffuse"],
    "undiffuse --help": [PYTHON.with_name("undiffuse"), "--help"],
}


def seconds(command: list[Path | str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    for command in COMMANDS.values():  # fill the disk cache
        seconds(command)
    rounds = [{name: seconds(command) for name, command in COMMANDS.items()} for _ in range(RUNS)]
    median = {name: statistics.median(each[name] for each in rounds) for name in COMMANDS}
    for name, value in median.items():
        print(f"{name:<26}{value:6.2f} s")
    added = median["import torch, undiffuse"] - median["import torch"]
    print(f"{'undiffuse adds to torch':<26}{added:6.2f} s")


if __name__ == "__main__":
    main()
