"""A process that has torch loaded and runs command lines in children, to be killed and watched.

    server = shared()
    child = server.start(["train", "moons", ...], tmp / "told.txt")
    os.killpg(child, signal.SIGKILL)
    assert server.wait(child) == -signal.SIGKILL

Loading torch takes seconds and a child is forked in milliseconds, so that hundreds of them can be
killed. A child leads a process group of its own.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Server:
    """Starts children that run `undiffuse` command lines."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._ask(ready=True)

    def _ask(self, **question: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(question), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def start(
        self,
        words: Sequence[str],
        told: Path,
        environment: Mapping[str, str] | None = None,
        largest: int | None = None,
    ) -> int:
        """The process id of a child whose output goes to `told`.

        `largest`: bytes beyond which no file can grow.
        """
        child = self._ask(
            words=list(words), told=str(told), environment=environment or {}, largest=largest
        )
        return int(child)

    def wait(self, child: int, seconds: float = 60.0) -> int | None:
        """The exit code of a child, negative for a signal; None while it runs on."""
        code: int | None = self._ask(wait=child, seconds=seconds)
        return code

    def run(self, words: Sequence[str], told: Path, **options: Any) -> int | None:
        """Run a command line to its end; the exit code."""
        return self.wait(self.start(words, told, **options))


@functools.cache
def shared() -> Server:
    """The one of this process; it ends when this process does."""
    return Server()


def serve() -> None:
    import torch

    from undiffuse.cli import main

    torch.set_num_threads(1)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    silent = os.dup(2)
    with tempfile.TemporaryDirectory() as folder:  # once, so that everything is loaded
        os.dup2(1, 2)
        small = ["training.batch_size=4", "network.width=4", "sampling.steps=2"]
        words = ["train", "digits", "--steps", "2", "--out", f"{folder}/x", "--set", *small]
        assert main(words) == 0
        os.dup2(silent, 2)
    children: set[int] = set()
    for line in sys.stdin:
        question = json.loads(line)
        if "words" in question:
            answer: Any = _fork(question, main)
            children.add(answer)
        elif "wait" in question:
            answer = _wait(question["wait"], question["seconds"])
            children -= {question["wait"]} if answer is not None else set()
        else:
            answer = True
        print(json.dumps(answer), file=out, flush=True)
    for child in children:  # of a test that failed
        os.killpg(child, signal.SIGKILL)


def _fork(question: dict[str, Any], main: Any) -> int:
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setsid()
        told = os.open(question["told"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(told, 1)
        os.dup2(told, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(question["environment"])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if question["largest"] is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (question["largest"], resource.RLIM_INFINITY))
        code = main(question["words"])
        sys.stdout.flush()
    finally:
        os._exit(code)


def _wait(child: int, seconds: float) -> int | None:
    end = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            return None
        time.sleep(0.002)


if __name__ == "__main__":
    serve()
