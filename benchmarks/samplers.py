"""Deterministic samplers, ours and other libraries': the error left for a number of calls.

All of them get the same denoiser and noise, begin at the same sigma, end at 0 and take at most so
many calls. The tasks and their truth are in `sampler_tasks.py`, the other libraries, each called
through its own interface and with its last call at sigma = 0.01 and at 0.002, in `peers.py`;
without `make peers` only our own samplers run.

    make peers
    .venv-peers/bin/python benchmarks/samplers.py --mnist mnist.npz --run runs/mnist --out docs

--out writes the tables to docs/results/samplers.md (below its mark; the text above it stays), all
figures to docs/results/samplers.json and the plot to docs/images/samplers.png. --keep names a
folder for the figures of each task: a run that was stopped goes on from there.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pages import write_below
from peers import Denoise, Run, peers, small_and_free
from sampler_tables import CALLS, DEFAULT, FEW, TUNED, Figure, Found, Rows, plot, shortlist, tables
from sampler_tasks import RANGES, Counted, Task, distance, finite, tasks
from torch import Tensor

import undiffuse as ud
from undiffuse.denoiser import Denoiser
from undiffuse.samplers.non_stationary import NonStationary
from undiffuse.samplers.tuning import tune

MARK = "<!-- What follows is written by benchmarks/samplers.py. -->"
LOWS = (0.01, 0.002)  # where the peers make their last call

RULES = {  # evaluations of a step
    **dict.fromkeys(("ddim", "gradient-estimation", "plms"), 1),
    **dict.fromkeys(("heun", "midpoint", "dpm-solver++2s"), 2),
    "rk4": 4,
    **{f"exponential-adams(order={p})": 1 for p in (2, 3, 4)},
    **{f"deis(order={p})": 1 for p in (2, 3, 4)},
    **{f"lms(order={p})": 1 for p in (2, 3, 4)},
    **{f"dpm-solver++(order={p})": 1 for p in (2, 3)},
    **{f"unipc(order={p})": 1 for p in (1, 2, 3)},
}


class Given(Denoiser):
    """D(y, sigma) as our samplers take it."""

    def __init__(self, D: Denoise, high: float) -> None:
        super().__init__()
        self.D, self.schedule = D, ud.schedules.EDM(sigma_max=high)

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        return self.D(x_t, self.schedule.sigma(t))


def our(rule: str, grid: str, high: float, cost: int = 1) -> Run:
    """A sampler of ours, called as the peers are."""

    def go(D: Denoise, z: Tensor, n: int) -> Tensor:
        steps = 1 + (n - 1) // cost
        return ud.sample(Given(D, high), z.shape, rule, steps, grid, x_T=high * z)

    return go


def default(high: float) -> dict[str, Run]:
    return {DEFAULT: our("universal", f"universal(noise_max={high})", high)}


def ours(high: float) -> dict[str, Run]:
    """Our fixed rules."""
    found = {}
    for rule, cost in RULES.items():
        for grid in ("log-snr", "karras"):
            span = f"{grid}(noise_max={high}, noise_min={LOWS[0]})"
            found[f"undiffuse: {rule}, {grid}"] = our(rule, span, high, cost)
    return found


def theirs(high: float) -> dict[str, Run]:
    """The peers, with each of the two last levels."""
    return {
        name if low == LOWS[0] else f"{name}, to {low}": run
        for low in LOWS
        for name, run in peers(high, low)[0].items()
    }


def measure(
    task: Task, truth: Tensor, rules: dict[str, Run], calls: tuple[int, ...] = CALLS
) -> Rows:
    """The figures of each sampler for each number of calls."""
    found: Rows = {}
    for name, run in rules.items():
        found[name] = {}
        for n in calls:
            counted = Counted(task)
            with torch.no_grad():
                x = run(counted, task.z, n)
            if counted.calls > n:
                raise RuntimeError(f"{name} took {counted.calls} calls, not {n}")
            left = task.error(x.double(), truth)
            rms = float(left.square().mean().sqrt())
            found[name][n] = Figure(float(left.median()), rms, counted.calls)
    return found


# ------------------------------------------------------------------ tuning


def tuned(task: Task, steps: int) -> list[Any]:
    """Levels and weights for one denoiser, tuned from sigma = 80 on noise of other seeds."""
    denoiser = task.denoiser.with_schedule(ud.schedules.EDM())
    found = tune(denoiser, task.z.shape[1:], steps, condition=task.condition, **task.tuning)
    return [found.rule.noise_levels, found.rule.weights]


def with_rules(rules: dict[int, list[Any]], high: float) -> Run:
    def go(D: Denoise, z: Tensor, n: int) -> Tensor:
        levels, weights = rules[n]
        rule = NonStationary(tuple(levels), tuple(map(tuple, weights)), high)
        return ud.sample(Given(D, high), z.shape, rule, n, x_T=high * z)

    return go


# ------------------------------------------------------------------ what a step costs


def overhead(rules: dict[str, Run], runs: int = 25) -> dict[str, tuple[float, float]]:
    """Microseconds per step, median and minimum: 1x3x32x32, 50 steps, a denoiser that is free."""
    steps, z = 50, torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    class Free(Denoiser):
        schedule = ud.schedules.VP()

        def denoise(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
            return x_t / 2

    free = Free()

    def loop(rule: str) -> Any:
        return lambda: ud.sample(free, (1, 3, 32, 32), rule, steps=steps)

    def bound() -> None:
        x = z
        with torch.no_grad():
            for _ in range(steps):
                x = torch.add(x * 0.9, x * 0.5, alpha=0.1)

    jobs = {"undiffuse: universal, the default": loop("universal")}
    for rule in ("ddim", "dpm-solver++", "unipc", "exponential-adams"):
        jobs[f"undiffuse: {rule}"] = loop(rule)
    if any(name.startswith("smalldiffusion") for name in rules):
        jobs["smalldiffusion: samples, gam 1"] = small_and_free(z, steps)
    for name in (
        "k-diffusion: sample_euler, karras",
        "k-diffusion: sample_dpmpp_2m, karras",
        "azula: DDIMSampler, VESchedule, + last denoise",
        "azula: zEABSampler order 3, VESchedule, + last denoise",
        "diffusers: EDMEuler",
        "diffusers: DPM++2M lu-lambdas",
        "diffusers: UniPC-2 exponential",
        "diffusers: DEIS-3 exponential",
    ):
        if name in rules:
            jobs[name] = lambda run=rules[name]: run(lambda y, _: y / 2, z, steps)
    jobs["an update of three operations, coefficients ready"] = bound
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(runs + 1):  # the first is for warming up
        for name, job in jobs.items():
            begun = time.perf_counter()
            job()
            found[name].append((time.perf_counter() - begun) / steps * 1e6)
    return {name: (statistics.median(v[1:]), min(v[1:])) for name, v in found.items()}


# ------------------------------------------------------------------ all of it


def kept(folder: Path | None, name: str, make: Callable[[], Any]) -> Any:
    """What `make` returns, as JSON; read from the folder where it was made before."""
    path = None if folder is None else folder / f"{name.replace('/', ' ')}.json"
    if path is not None and path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    begun = time.perf_counter()
    made = json.loads(json.dumps(make()))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(made), encoding="utf-8")
    print(f"{name}: {time.perf_counter() - begun:.0f} s", flush=True)
    return made


def figures(rows: dict[str, dict[str, list[Any]]]) -> Rows:
    return {
        name: {int(n): Figure(*figure) for n, figure in row.items()} for name, row in rows.items()
    }


def end(task: Task, span: str, folder: Path | None) -> Tensor:
    """The truth, [B, ...]."""
    high = RANGES[span]
    made = kept(
        folder, f"{span}, {task.title}, truth", lambda: task.end(high * task.z, high).tolist()
    )
    return torch.tensor(made, dtype=torch.float64)


def run_all(graded: list[Task], folder: Path | None) -> tuple[Found, Found]:
    """The figures of the tasks with a distance and of the one with wrong endings, by range.

    All samplers run the tasks in few dimensions from sigma = 80; the others run the better peers.
    """
    found: Found = {span: {} for span in RANGES}
    ended: Found = {span: {} for span in RANGES}
    light: dict[str, Rows] = {}
    for span, high in RANGES.items():
        for task in [*graded, finite()]:
            if high > task.highest:
                continue
            rules = {**ours(high), **theirs(high)}
            whole = span == "EDM" and not task.heavy
            if not whole:
                chosen = shortlist(light)
                rules = {name: rule for name, rule in rules.items() if name in chosen}
            job = functools.partial(measure, task, truth := end(task, span, folder), rules)
            rows = figures(kept(folder, f"{span}, {task.title}", job))
            if whole:
                light[task.title] = rows
            into = found if task.error is distance else ended
            into[span][task.title] = rows | measure(task, truth, default(high))
    return found, ended


def run_tuned(graded: list[Task], folder: Path | None) -> Found:
    """The figures of the solvers that are tuned for each task, which serve both ranges."""
    found: Found = {span: {} for span in RANGES}
    for task in graded:
        rules = {
            n: kept(folder, f"{task.title}, tuned {n}", functools.partial(tuned, task, n))
            for n in FEW
        }
        for span, high in RANGES.items():
            if high <= task.highest:
                own = {TUNED: with_rules(rules, high)}
                found[span][task.title] = measure(task, end(task, span, folder), own, FEW)
    return found


def write(
    docs: Path,
    found: Found,
    ended: Found,
    steps: dict[str, tuple[float, float]],
    versions: dict[str, str],
) -> None:
    """The page, its data and its plot."""
    page = docs / "results" / "samplers.md"
    libraries = {"undiffuse": ud.__version__, "torch": torch.__version__, **versions}
    run_with = f"Python {platform.python_version()}, " + ", ".join(
        f"{name} {number}" for name, number in libraries.items()
    )
    write_below(page, MARK, f"\n{run_with}.\n\n{tables(found, ended, steps)}")
    figures_of = {
        span: {
            title: {
                name: {n: [float(f"{e:.3g}") for e in figure] for n, figure in row.items()}
                for name, row in rows.items()
            }
            for title, rows in {**found[span], **ended[span]}.items()
        }
        for span in found
    }
    record = {"versions": libraries, "us per step": steps, "median, rms, calls": figures_of}
    data = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    page.with_suffix(".json").write_text(data.replace('},"', '},\n"') + "\n", encoding="utf-8")
    plot(found, docs / "images" / "samplers.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", type=Path, metavar="FILE.npz", help="for the task in 784-D")
    parser.add_argument("--run", type=Path, help="for the task of a trained network")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="go on from what is there")
    parser.add_argument("--out", type=Path, metavar="DOCS", help="the folder of the documentation")
    options = parser.parse_args()
    torch.set_num_threads(1)
    others, versions, missing = peers()
    if missing:
        print(f"missing: {', '.join(missing)}; `make peers` installs them in .venv-peers")
    graded = tasks(options.mnist, options.run)
    found, ended = run_all(graded, options.keep)
    for span, rows in run_tuned(graded, options.keep).items():
        for title, row in rows.items():
            found[span][title] |= row
    steps = overhead(others)
    if options.out is None:
        print(tables(found, ended, steps))
    else:
        write(options.out, found, ended, steps, versions)


if __name__ == "__main__":
    main()
