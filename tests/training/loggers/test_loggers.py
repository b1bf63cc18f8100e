"""Loggers: every record once, also after a resume, and never a reason for a run to end."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import undiffuse as ud
from undiffuse import catalogue
from undiffuse.data.dataset import InMemory
from undiffuse.errors import UndiffuseError
from undiffuse.training.loggers.base import Logger, Write
from undiffuse.training.loggers.logged import FAMILY, chosen, logged
from undiffuse.training.recipe import Recipe
from undiffuse.training.run import Run
from undiffuse.training.session import Session

FIGURES = {"images", "loss", "gradient_norm", "lr", "seconds", "data_seconds", "skipped"}


class Book:
    """What W&B's run is to us: something with `log`."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, dict[str, float]]] = []

    def log(self, figures: dict[str, float], step: int) -> None:
        self.lines.append((step, figures))


def test_any_object_with_a_log_method_is_told_each_step(
    points: InMemory, short: Recipe, tmp_path: Path
) -> None:
    book, other = Book(), Book()
    run = ud.train(points, tmp_path / "x", short, log=[book, other])
    assert [step for step, _ in book.lines] == [1, 2, 3, 4, 5, 6]
    assert set(book.lines[0][1]) == FIGURES
    written = list(run.metrics())
    assert [figures["loss"] for _, figures in book.lines] == [line["loss"] for line in written]
    assert other.lines == book.lines


def test_tensorboard_shows_each_step_once_after_a_kill(
    points: InMemory, short: Recipe, tmp_path: Path
) -> None:
    session = Session(points, tmp_path / "x", short)
    steps = logged(session.records(), session.run, chosen("tensorboard"), pytest.fail)
    for record in steps:
        if record.step == 3:  # the process is killed here; the last checkpoint is that of step 2
            break
    steps.close()  # type: ignore[attr-defined]
    ud.train(points, tmp_path / "x", short, resume=True, log="tensorboard")
    shown = EventAccumulator(str(tmp_path / "x" / "tensorboard")).Reload()
    assert set(shown.Tags()["scalars"]) == FIGURES
    losses = {event.step: event.value for event in shown.Scalars("loss")}
    assert [event.step for event in shown.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
    for line in Run(tmp_path / "x").metrics():
        assert losses[line["step"]] == pytest.approx(line["loss"], rel=1e-6)


def test_wandb_continues_the_same_run(
    points: InMemory, short: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[dict[str, Any]] = []
    book = Book()

    @contextmanager
    def init(**options: Any) -> Iterator[Book]:
        opened.append(options)
        yield book

    module = ModuleType("wandb")
    module.__spec__ = ModuleSpec("wandb", None)
    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    for resume in (False, True):
        steps = 6 if resume else 4
        session = Session(points, tmp_path / "x", short, resume=resume)
        for record in logged(session.records(), session.run, chosen("wandb"), pytest.fail):
            session.stop = record.step == steps
    assert [step for step, _ in book.lines] == [1, 2, 3, 4, 5, 6]
    first, second = opened
    assert first == second
    assert len(first["id"]) == 8
    assert first["resume"] == "allow"
    assert first["name"] == "x"
    assert first["config"]["training"]["steps"] == 6


@dataclass(frozen=True)
class Broken(Logger):
    """Fails where it is told to."""

    where: str
    wrote: list[int] = field(default_factory=list)

    @contextmanager
    def writing(self, run: Run, first: int) -> Iterator[Write]:
        if self.where == "open":
            raise OSError(28, "No space left on device")

        def write(figures: Mapping[str, float], step: int) -> None:
            if self.where == "write" and step == 3:
                raise RuntimeError("the server\nis gone")
            self.wrote.append(step)

        yield write
        if self.where == "close":
            raise ValueError("not flushed")


@pytest.mark.parametrize(
    ("where", "wrote", "told"),
    [
        ("open", [], "OSError: [Errno 28] No space left"),
        ("write", [1, 2], r"RuntimeError: the server\nis gone"),
        ("close", [1, 2, 3, 4, 5, 6], "ValueError: not flushed"),
    ],
)
def test_a_logger_that_fails_is_told_once_and_the_run_goes_on(
    where: str, wrote: list[int], told: str, points: InMemory, short: Recipe, tmp_path: Path
) -> None:
    session, warnings = Session(points, tmp_path / "x", short), list[str]()
    broken, book = Broken(where), Book()
    steps = logged(session.records(), session.run, [broken, *chosen(book)], warnings.append)
    assert [record.step for record in steps] == [1, 2, 3, 4, 5, 6]
    assert broken.wrote == wrote
    assert [step for step, _ in book.lines] == [1, 2, 3, 4, 5, 6]
    assert len(warnings) == 1
    assert told in warnings[0]
    assert warnings[0].endswith("the run goes on")


def test_nothing_is_opened_for_a_run_that_cannot_start(
    points: InMemory, short: Recipe, tmp_path: Path
) -> None:
    with Run(tmp_path).locked(), pytest.raises(UndiffuseError, match="is being written"):
        ud.train(points, tmp_path, short, log="tensorboard")
    assert not (tmp_path / "tensorboard").exists()


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("tensorbord", "there is no logger 'tensorbord'; did you mean 'tensorboard'?"),
        (3, r"an object with a method log\(figures, step=\.\.\.\), not 3"),
        (["tensorboard", print], "an object with a method log"),
    ],
)
def test_what_is_no_logger_is_refused_before_anything_is_made(
    log: Any, told: str, points: InMemory, tmp_path: Path
) -> None:
    with pytest.raises(UndiffuseError, match=told):
        ud.train(points, tmp_path / "x", log=log)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", catalogue.names(FAMILY))
def test_a_missing_library_is_named_with_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UndiffuseError, match=f"{name} is not installed.*pip install"):
        chosen(name)
