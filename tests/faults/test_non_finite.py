"""Numbers that are not finite are seen, skipped and never stored (reliability goal R11).

NaN or infinity is put into an input, a loss, a gradient, a weight or a moment of the optimiser at
some step. The first three cost that step; the last two end the run by the name of what is broken.
The newest checkpoint is always finite, and a run with skipped steps resumes bit for bit.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from figures import Figures
from torch import Tensor

from undiffuse import noise, storage
from undiffuse.cli import main
from undiffuse.data.dataset import Batch, InMemory
from undiffuse.errors import RunFailed
from undiffuse.model import load
from undiffuse.training import checkpoint
from undiffuse.training.loop import Record
from undiffuse.training.recipe import Recipe, from_table
from undiffuse.training.run import Run
from undiffuse.training.session import Session

POINTS = noise.normal(0, "points", (40, 2))
RECIPE = from_table(
    {
        "network": {"name": "mlp", "width": 8, "depth": 1},
        "training": {"steps": 12, "batch_size": 4, "warmup": 2, "checkpoint_every": 3, "keep": 99},
        "sampling": {"steps": 1},
    }
)
Put = Callable[[Session, float], None]


def into_the_input(session: Session, value: float) -> None:
    values = session.dataset.values.clone()  # type: ignore[attr-defined]
    values[:] = value
    object.__setattr__(session.dataset, "values", values)


def into_the_loss(session: Session, value: float) -> None:
    loss = type(session.objective).loss
    once = iter([True])

    def spoiled(*arguments: Any, **condition: Any) -> Tensor:
        found = loss(session.objective, *arguments, **condition)
        return found * value if next(once, False) else found

    object.__setattr__(session.objective, "loss", spoiled)


def into_a_gradient(session: Session, value: float) -> None:
    parameter = list(session.state.denoiser.network.parameters())[2]
    parameter.register_hook(lambda gradient: gradient * value)


@torch.no_grad()
def into_a_weight(session: Session, value: float) -> None:
    list(session.state.denoiser.network.parameters())[2].view(-1)[0] = value


def into_a_moment(session: Session, value: float) -> None:
    parameter = list(session.state.denoiser.network.parameters())[2]
    session.state.optimizers[0].state[parameter]["exp_avg"].view(-1)[0] = value


LASTING = (into_a_weight, into_a_moment)
FAULTS: Sequence[Put] = (into_the_input, into_the_loss, into_a_gradient, *LASTING)


def train(session: Session, put: Put, at: int, value: float) -> list[Record]:
    """Train with the fault put in before step `at` and taken out after it."""
    records, whole = [], session.dataset.values  # type: ignore[attr-defined]
    objective = vars(session.objective).copy()
    hooks = list(session.state.denoiser.network.parameters())[2]
    for record in session.records():
        records.append(record)
        if record.step == at - 1:
            put(session, value)
        if record.step == at:
            object.__setattr__(session.dataset, "values", whole)
            vars(session.objective).clear()
            vars(session.objective).update(objective)
            hooks._backward_hooks = None
    return records


def attack(count: int, seed: int, tmp: Path) -> Figures:
    """`count` runs with a number that is not finite somewhere."""
    rng, failures = random.Random(seed), []
    for number in range(count):
        put = FAULTS[number % len(FAULTS)]
        at = rng.choice((3, 6, 9)) if put in LASTING else rng.randint(2, 11)  # a checkpoint is due
        value = rng.choice([math.nan, math.inf])
        out, what = tmp / f"run-{number}", f"{value} {put.__name__} at step {at}"
        session, told = Session(InMemory(POINTS), out, RECIPE), ""
        try:
            records = train(session, put, at, value)
        except RunFailed as error:
            told, records = str(error), []
        failures += [f"{what}: {wrong}" for wrong in harm(out, put, at, records, told)]
    return Figures(count, tuple(failures))


def harm(out: Path, put: Put, at: int, records: list[Record], told: str) -> Iterator[str]:
    """What is not as promised."""
    folders = checkpoint.listed(out)
    for folder in folders:
        for stem in ("weights", "ema", "optimizer"):
            if not all(bool(t.isfinite().all()) for t in storage.tensors(folder, stem).values()):
                yield f"{folder.name} holds {stem} that are not finite"
    text = (out / "metrics.jsonl").read_text(encoding="utf-8")
    if "NaN" in text or "Infinity" in text:
        yield "metrics.jsonl is no strict JSON"
    if put in LASTING:
        if "is not finite" not in told or "'" not in told:
            yield f"the weight is not named: {told}"
        if folders and int(folders[-1].name[5:]) >= at:
            yield f"{folders[-1].name} was stored"
        return
    if told or len(records) != 12:
        yield f"the run ended: {told}"
        return
    faults = [record for record in records if record.fault is not None]
    if [(r.step, r.skipped) for r in faults] != [(at, 1)] or records[-1].skipped != 1:
        yield f"seen at {[r.step for r in faults]}"
    line = json.loads(text.splitlines()[at - 1]).get("fault", {})
    if len(line.get("samples", ())) != 4 or len(line.get("log_snr", ())) != 4:
        yield f"told as {line}"


def test_what_is_not_finite_is_skipped_or_named(tmp_path: Path) -> None:
    assert attack(10, 0, tmp_path).failures == ()


class Spoiled(InMemory):
    """Number 9 is not a number, which nobody notices before it is learned from."""

    def batch(self, indices: Sequence[int] | Tensor) -> Batch:
        x, label = super().batch(indices)
        return Batch(torch.where(torch.as_tensor(indices)[:, None] == 9, math.nan, x), label)


def held(session: Session) -> list[Tensor]:
    """Weights, average, moments and their counters, as they are now."""
    state = session.state
    held = [*state.denoiser.network.state_dict().values(), *state.ema.weights.values()]
    held += [v for moments in state.optimizers[0].state.values() for v in moments.values()]
    return [value.clone() for value in held]


def test_a_skipped_step_counts_and_leaves_the_rest(tmp_path: Path) -> None:
    session = Session(Spoiled(POINTS), tmp_path / "run", RECIPE)
    records, skipped = session.records(), []
    next(records)
    for step in range(2, 13):
        before = held(session)
        record = next(records)
        assert record.step == step
        moved = any(not torch.equal(a, b) for a, b in zip(before, held(session), strict=True))
        assert moved == (record.fault is None)
        if record.fault is not None:
            skipped.append(step)
            assert record.fault.samples == (9,)
            assert len(record.fault.log_snr) == 1
            assert math.isnan(record.loss)
    list(records)
    assert skipped == [line["step"] for line in Run(tmp_path / "run").lines() if "fault" in line]
    assert [line["step"] for line in Run(tmp_path / "run").metrics()] == [
        step for step in range(1, 13) if step not in skipped
    ]
    assert skipped


def test_skipped_steps_are_resumed_bit_for_bit(tmp_path: Path) -> None:
    for name, stops in (("whole", []), ("parts", [2, 5, 8])):
        for stop in [*stops, None]:
            session = Session(Spoiled(POINTS), tmp_path / name, RECIPE, resume=True)
            for record in session.records():
                session.stop = record.step == stop
    assert tiny.remains(tmp_path / "parts") == tiny.remains(tmp_path / "whole")


@pytest.mark.parametrize("limit", [1, 3])
def test_too_many_in_a_row_end_the_run(limit: int, tmp_path: Path) -> None:
    session = Session(
        InMemory(POINTS), tmp_path / "run", RECIPE, settings={"training.skip_limit": limit}
    )
    seen = []
    said = f"{limit} steps in a row were skipped, step {3 + limit}"
    with pytest.raises(RunFailed, match=said):  # noqa: PT012
        for record in session.records():
            seen.append(record.fault is None)
            if record.step == 3:
                into_the_input(session, math.inf)
    assert seen == [True] * 3 + [False] * limit
    folder, _ = checkpoint.newest(tmp_path / "run")
    assert folder is not None
    assert folder.name == f"step-{3 + limit // 3 * 3:08d}"  # skipped steps leave a whole state
    assert [line["step"] for line in Run(tmp_path / "run").lines()] == list(range(1, 4 + limit))


def test_a_run_that_learns_nothing_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = tmp_path / "wild.npz"
    np.savez(wild, images=np.tile(np.float32([[3e38], [-3e38]]), (4, 2)))
    words = ["--steps", "3", "--set", "prediction.sigma_data=1", "weight.sigma_data=1"]
    assert main(["train", str(wild), "--out", str(tmp_path / "x"), *words]) == 1
    assert "error: 3 steps in a row were skipped" in capsys.readouterr().err


@pytest.mark.parametrize("scale", [2.0**24, 2.0**60])
def test_float16_lowers_its_scale_and_goes_on(scale: float, tmp_path: Path) -> None:
    settings = {"training.precision": "float16", "training.skip_limit": 99, "training.steps": 70}
    session = Session(InMemory(POINTS), tmp_path / "run", RECIPE, settings=settings)
    session.state.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    records = list(session.records())
    faults = [record for record in records if record.fault is not None]
    assert all(f.fault.skipped and "scale for float16" in f.fault.reason for f in faults if f.fault)
    assert faults
    assert records[-1].fault is None
    assert "Infinity" not in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_the_scale_of_float16_is_resumed(tmp_path: Path) -> None:
    settings = {"training.precision": "float16"}
    for name, stops in (("whole", []), ("parts", [5])):
        for stop in [*stops, None]:
            session = Session(
                InMemory(POINTS), tmp_path / name, RECIPE, settings=settings, resume=True
            )
            for record in session.records():
                session.stop = record.step == stop
                parameter = list(session.state.denoiser.network.parameters())[2]
                parameter._backward_hooks = None
                if record.step == 2:
                    into_a_gradient(session, math.inf)
        assert session.state.course.skipped > 0
        assert session.state.scaler.get_scale() < 2.0**16  # the scale of a new one
    assert tiny.remains(tmp_path / "parts") == tiny.remains(tmp_path / "whole")


def test_an_explosion_is_told_and_bounded(tmp_path: Path) -> None:
    recipe: Recipe = RECIPE.changed({"training.steps": 30})
    session = Session(InMemory(POINTS), tmp_path / "run", recipe)
    parameter, faults = list(session.state.denoiser.network.parameters())[-1], []
    for record in session.records():
        if record.step == 25:
            parameter.register_hook(lambda gradient: gradient * 1e6)
        if record.step == 26:
            parameter._backward_hooks = None
        if record.fault is not None:
            faults.append((record.step, record.fault.skipped))
            assert "times its usual size" in record.fault.reason
    assert faults == [(26, False)]


def test_a_model_that_is_not_finite_gives_no_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    list(Session(InMemory(POINTS), tmp_path / "run", RECIPE).records())
    model = load(tmp_path / "run")
    with torch.no_grad():
        next(iter(model.denoiser.network.parameters())).fill_(math.nan)
    model.save(tmp_path / "broken")
    assert main(["sample", str(tmp_path / "broken"), "--out", str(tmp_path / "x.npz")]) == 1
    assert "are not finite" in capsys.readouterr().err
    assert not (tmp_path / "x.npz").exists()
