"""`undiffuse train --dry-run`: what a training will take, before it takes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from undiffuse.cli.progress import clock_time
from undiffuse.errors import RunFailed

if TYPE_CHECKING:
    from undiffuse.training.plan import Plan
    from undiffuse.training.session import Session


def show_plan(session: Session) -> None:
    """Make a few steps, and print the plan; nothing is written.

    Raises:
        RunFailed: the disk has no room for it, or the steps failed.
    """
    from undiffuse.training.plan import measure

    plan = measure(session)
    for name, text in rows(session, plan):
        print(f"{name:<12}{text}")
    if plan.disk > plan.disk_free:
        raise RunFailed(
            f"the disk of {session.run.path} has {size(plan.disk_free)} free, and the run needs"
            f" {size(plan.disk)}: make room, choose another --out, or lower training.keep"
        )


def rows(session: Session, plan: Plan) -> Iterator[tuple[str, str]]:
    """The plan, a name and a text for each line."""
    facts, recipe = session.facts, session.recipe
    options = recipe.training
    shape = "x".join(str(edge) for edge in facts["shape"])
    labels = f" in {facts['classes']} classes" if facts["classes"] else ", no labels"
    skipped = f"; {facts['skipped']} files are left out" if facts["skipped"] else ""
    yield "data", f"{facts['source']}: {facts['count']} samples of {shape}{labels}{skipped}"
    passes = f"{amount(plan.flops)}FLOP for a sample and pass, three passes in training"
    yield "network", f"{recipe.network['name']}, {plan.weights / 1e6:.2f} M weights, {passes}"
    epochs = plan.steps * options.batch_size / facts["count"]
    done = f", {plan.done} of them done" if plan.done else ""
    device = next(session.state.denoiser.network.parameters()).device
    yield (
        "training",
        f"{plan.steps} steps of {options.batch_size}{done}, {epochs:.3g} times through the data,"
        f" {options.precision} on {device}",
    )
    yield (
        "time",
        f"about {clock_time(plan.seconds)}: {plan.seconds_per_step * 1e3:.3g} ms a step (median of"
        f" {plan.timed}), {options.batch_size / plan.seconds_per_step:.0f} images/s,"
        f" {plan.data_share:.0%} of it for data; pictures and checkpoints come on top",
    )
    left = f"; {size(plan.memory_left)} are free beside them" if plan.memory_left else ""
    yield "memory", f"{size(plan.memory)} at the peak of these steps{left}"
    best = f" and the {options.keep_best} best" if options.keep_best else ""
    every = f" and every {options.keep_every}th step's" if options.keep_every else ""
    yield (
        "checkpoints",
        f"one every {options.checkpoint_every} steps, {size(plan.checkpoint)} each, of which the"
        f" last {options.keep}{best}{every} stay",
    )
    yield "disk", f"{size(plan.disk)} at most; {size(plan.disk_free)} are free"
    yield "run", f"{session.run.path}, as yet untouched"


def size(count: int) -> str:
    """Bytes as people say them.

    >>> size(999), size(19_700_000)
    ('999 B', '19.7 MB')
    """
    return f"{amount(count)}B"


def amount(count: float) -> str:
    """A number with a prefix of thousands, and a space before what is counted.

    >>> amount(64_077_824) + "FLOP", amount(950) + "FLOP"
    ('64.1 MFLOP', '950 FLOP')
    """
    for power, prefix in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if count >= 10**power:
            return f"{count / 10**power:.3g} {prefix}"
    return f"{count:.0f} "
