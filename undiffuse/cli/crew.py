r"""Several processes that share one piece of work, on one machine.

Each worker is a fresh interpreter that makes its own worker function and then answers one job after
another through a pipe of its own. Answers come out in the order of the jobs, a few at a time, so
one writer keeps them and memory does not grow. Whatever ends the work - its end, an error in a
worker, a signal - ends the workers too; a worker whose parent is gone ends by itself.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from undiffuse.errors import RunFailed, UndiffuseError

Job = TypeVar("Job")
Answer = TypeVar("Answer")
AT_HAND = 2  # jobs in the hands of a worker: the one in work, and the next
AHEAD = 4  # jobs for each worker that may be given out beyond the oldest unanswered one


def shared(
    make: Callable[[int], Callable[[Job], Answer]], jobs: Iterable[Job], processes: int
) -> Iterator[tuple[Job, Answer]]:
    """The jobs with their answers, in order, worked on by several processes.

    Args:
        make: called once in worker number i as make(i); gives the function that answers a job. It
            goes to the workers, so it must be a function of a module or a method of plain data.
        jobs: what to answer, plain data each.
        processes: how many workers, >= 1.

    Raises:
        UndiffuseError: the error of a worker.
        RunFailed: a worker failed in another way, or ended.
    """
    crew: list[_Worker] = []
    try:
        for number in range(processes):
            crew.append(_hired(make, number))
        yield from _answered(crew, jobs)
    finally:
        for worker in crew:
            worker.process.terminate()
        for worker in crew:
            worker.process.join(5)
            worker.process.kill()
            worker.pipe.close()


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    jobs: list[int] = field(default_factory=list)  # the numbers of those in its hands, in order


def _answered(crew: list[_Worker], jobs: Iterable[Job]) -> Iterator[tuple[Job, Any]]:
    waiting = enumerate(jobs)
    upcoming = next(waiting, None)
    asked: dict[int, Job] = {}
    answers: dict[int, Any] = {}
    oldest = 0
    while upcoming is not None or asked:
        for worker in sorted(crew, key=lambda w: len(w.jobs)) * AT_HAND:
            if upcoming is None or upcoming[0] >= oldest + AHEAD * len(crew):
                break
            if len(worker.jobs) < AT_HAND:
                number, job = upcoming
                worker.jobs.append(number)
                asked[number] = job
                with suppress(OSError):  # one that has ended is found below
                    worker.pipe.send(job)
                upcoming = next(waiting, None)
        for pipe in wait([w.pipe for w in crew if w.jobs]):
            worker = next(w for w in crew if w.pipe is pipe)
            answers[worker.jobs.pop(0)] = _received(worker)
        while oldest in answers:
            yield asked.pop(oldest), answers.pop(oldest)
            oldest += 1


def _received(worker: _Worker) -> Any:
    try:
        answer = worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join(5)
        raise RunFailed(
            f"a worker process ended with exit code {worker.process.exitcode} before its work was"
            " done; is there memory for so many processes?"
        ) from None
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _hired(make: Callable[[int], Callable[[Any], Any]], number: int) -> _Worker:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(make, number, theirs), daemon=True)
    with _without_interrupts():
        process.start()
    theirs.close()
    return _Worker(process, ours)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal, and workers born in this block do not hear it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(make: Callable[[int], Callable[[Any], Any]], number: int, pipe: Connection) -> None:
    """What a worker does: answer jobs until the pipe closes."""
    with suppress(EOFError, OSError):
        try:
            answer = make(number)
            while True:
                pipe.send(answer(pipe.recv()))
        except (EOFError, ConnectionError):
            return
        except UndiffuseError as error:
            pipe.send(error)
        except Exception as error:
            pipe.send(RunFailed(f"a worker process failed: {type(error).__name__}: {error}"))
