"""Deterministic samplers, ours and other libraries': the error left for a number of calls.

All of them get the same closed-form denoiser, the same noise and the same ends, sigma = 80 and 0,
and take at most so many calls. The truth is the probability-flow ODE: a solution of order 8 with
rtol = 1e-10 in float64, or a closed form where there is one. Other libraries are called through
their own interfaces (`peers.py`); without `make peers` only our own samplers run.

    make peers
    .venv-peers/bin/python benchmarks/samplers.py --out docs

--out writes the tables to docs/results/samplers.md (below its mark; the text above it stays), all
figures to docs/results/samplers.json and the plot to docs/images/samplers.png.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peers import HIGH, LOW, Denoise, Run, peers, small_and_free
from torch import Tensor

import undiffuse as ud
from undiffuse.denoiser import Denoiser

CALLS = (5, 8, 10, 15, 20, 30, 50)
MARK = "<!-- What follows is written by benchmarks/samplers.py. -->"
DEFAULT = "undiffuse: default"
RANGE = ud.schedules.EDM(sigma_min=LOW, sigma_max=HIGH)  # the last call is made at sigma = 0.01
WIDE = ud.schedules.EDM(sigma_min=1e-7, sigma_max=HIGH)

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
GRIDS = {"log-snr": "log-snr", "karras": f"karras(noise_min={LOW})"}
SHOWN = [
    DEFAULT,
    "undiffuse: exponential-adams(order=4), log-snr",
    "undiffuse: exponential-adams(order=3), karras",
    "undiffuse: exponential-adams(order=4), karras",
    "undiffuse: unipc(order=2), log-snr",
    "undiffuse: unipc(order=3), log-snr",
    "undiffuse: dpm-solver++(order=2), log-snr",
    "undiffuse: ddim, log-snr",
    "azula: zEABSampler order 2, VESchedule, + last denoise",
    "azula: zEABSampler order 3, VESchedule, + last denoise",
    "azula: zEABSampler order 4, VESchedule, + last denoise",
    "azula: zEABSampler order 3, karras, + last denoise",
    "azula: vABSampler order 3, VESchedule, + last denoise",
    "diffusers: DEIS-3 exponential",
    "diffusers: DPM++2M lu-lambdas",
    "diffusers: DPM++3M lu-lambdas",
    "diffusers: UniPC-2 exponential",
    "diffusers: UniPC-3 exponential",
    "k-diffusion: sample_dpmpp_2m, karras",
    "k-diffusion: sample_dpmpp_2m, exponential",
    "k-diffusion: sample_dpmpp_3m_sde, eta 0, exponential",
    "k-diffusion: sample_lms, exponential",
    "k-diffusion: sample_heun, karras",
    "smalldiffusion: samples, gam 2, karras",
]


class Task(NamedTuple):
    title: str
    oracle: Denoiser
    z: Tensor  # [B, D], float64
    truth: Tensor


class Figure(NamedTuple):
    median: float  # over the samples, of the root mean square error of each
    rms: float
    calls: int


class Counted:
    """A denoiser with alpha = 1 as D(y, sigma), and how often it was asked."""

    def __init__(self, oracle: Denoiser) -> None:
        self.oracle, self.calls = oracle, 0

    def __call__(self, y: Tensor, sigma: Any) -> Tensor:
        self.calls += 1
        level = torch.as_tensor(sigma, dtype=torch.float64)
        return self.oracle(y.double(), self.oracle.schedule.t_from_log_snr(-2 * level.log()))


class Given(Denoiser):
    """D(y, sigma) as our samplers take it."""

    schedule = RANGE

    def __init__(self, D: Denoise) -> None:
        super().__init__()
        self.D = D

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        return self.D(x_t, self.schedule.sigma(t))


def noise(count: int, size: int) -> Tensor:
    return ud.noise.Stream(0, tuple(range(count))).draw((size,), step=0).double()


def exact(oracle: Denoiser, z: Tensor) -> Tensor:
    """Where the flow takes 80 z: dopri8 in log sigma down to 1e-6, where x0_hat is the end."""
    from torchdiffeq import odeint

    D = Counted(oracle)
    ends = torch.tensor([HIGH, 1e-6], dtype=torch.float64).log()
    path = odeint(
        lambda u, y: y - D(y, u.exp()), HIGH * z, ends, rtol=1e-10, atol=1e-10, method="dopri8"
    )
    return D(path[-1], 1e-6)


def tasks() -> list[Task]:
    angles = torch.arange(8, dtype=torch.float64) * (2 * math.pi / 8)
    ring = torch.stack([angles.cos(), angles.sin()], 1)
    made = []
    for std in (0.05, 0.2):
        oracle = ud.exact.GaussianMixture(ring, None, WIDE, std=std)
        z = noise(256, 2)
        made.append(Task(f"Eight modes of std {std}, 2-D", oracle, z, exact(oracle, z)))
    basis = torch.linalg.qr(noise(64, 64)).Q
    cov = basis * torch.logspace(-3, 0, 64, dtype=torch.float64) @ basis.mT
    gaussian = ud.exact.Gaussian(torch.zeros(64), WIDE, cov=cov)
    z, end = noise(256, 64), ud.schedules.Flow()  # sigma(0) = 0
    start = torch.tensor(HIGH / (1 + HIGH), dtype=torch.float64)
    truth = gaussian.with_schedule(end).flow(z * start, start, torch.zeros_like(start))
    made.append(Task("Correlated Gaussian, variances 0.001 to 1, 64-D", gaussian, z, truth))
    from sklearn.datasets import load_digits

    digits = torch.tensor(load_digits().data) / 8 - 1
    oracle = ud.exact.GaussianMixture(digits, None, WIDE, std=0.3)
    z = noise(16, 64)
    made.append(Task("Digits smoothed by std 0.3, 64-D", oracle, z, exact(oracle, z)))
    return made


def ours() -> dict[str, Run]:
    """Our samplers, called as the peers are."""

    def run(rule: str | None, grid: str | None, cost: int) -> Run:
        def go(D: Denoise, z: Tensor, n: int) -> Tensor:
            named = {} if rule is None else {"sampler": rule}
            steps = 1 + (n - 1) // cost
            return ud.sample(Given(D), z.shape, steps=steps, x_T=HIGH * z, grid=grid, **named)

        return go

    found = {DEFAULT: run(None, None, 1)}
    for rule, cost in RULES.items():
        for name, grid in GRIDS.items():
            found[f"undiffuse: {rule}, {name}"] = run(rule, grid, cost)
    return found


def measure(task: Task, rules: dict[str, Run]) -> dict[str, list[Figure]]:
    found = {}
    for name, run in rules.items():
        row = []
        for n in CALLS:
            counted = Counted(task.oracle)
            with torch.no_grad():
                x = run(counted, task.z, n)
            if counted.calls > n:
                raise RuntimeError(f"{name} took {counted.calls} calls, not {n}")
            square = (x.double() - task.truth).square().mean(1)
            row.append(
                Figure(float(square.sqrt().median()), float(square.mean().sqrt()), counted.calls)
            )
        found[name] = row
    return found


# ------------------------------------------------------------------ what a step costs


def overhead(rules: dict[str, Run], runs: int = 15) -> dict[str, tuple[float, float]]:
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

    jobs = {f"undiffuse: {rule}": loop(rule) for rule in ("ddim", "dpm-solver++", "unipc")}
    jobs["undiffuse: exponential-adams, the default"] = loop("exponential-adams")
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


# ------------------------------------------------------------------ tables and plot


def best(rows: dict[str, list[Figure]], i: int, mine: bool) -> str:
    """The sampler with the smallest median error at CALLS[i], of ours or of the peers."""
    names = [name for name in rows if name.startswith("undiffuse") == mine]
    return min(
        names, key=lambda k: v if math.isfinite(v := rows[k][i].median) else math.inf, default=""
    )


def head(first: str) -> list[str]:
    return [f"| {first} | " + " | ".join(map(str, CALLS)) + " |", "|---" * (len(CALLS) + 1) + "|"]


def ratios(found: dict[str, dict[str, list[Figure]]], default: bool) -> list[str]:
    lines = head("ratio of the median errors, by calls")
    for title, rows in found.items():
        cells = []
        for i in range(len(CALLS)):
            mine = rows[DEFAULT if default else best(rows, i, True)][i].median
            ratio = mine / rows[best(rows, i, False)][i].median
            cells.append(f"**{ratio:.2f}**" if ratio <= 1.005 else f"{ratio:.2f}")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


def overall(found: dict[str, dict[str, list[Figure]]], count: int = 12) -> list[str]:
    """The samplers with the smallest geometric mean of the ratio to the best peer, and ours."""
    ratio: dict[str, list[float]] = {}
    for rows in found.values():
        for i in range(len(CALLS)):
            least = rows[best(rows, i, False)][i].median
            for name, row in rows.items():
                ratio.setdefault(name, []).append(row[i].median / least)
    mean = {name: statistics.geometric_mean(v) for name, v in ratio.items()}
    usual = [name for name in LINES if name in mean]
    first = sorted(mean, key=lambda name: mean[name])[:count]
    lines = ["| sampler | geometric mean of the ratio | worst |", "|---|---|---|"]
    for name in sorted({*first, *usual}, key=lambda name: mean[name]):
        lines.append(f"| {name} | {mean[name]:.2f} | {max(ratio[name]):.1f} |")
    return lines


def tables(found: dict[str, dict[str, list[Figure]]], steps: dict[str, tuple[float, float]]) -> str:
    rows = next(iter(found.values()))
    lines: list[str] = []
    if any(not name.startswith("undiffuse") for name in rows):
        lines += ["## Our default over the best peer", "", *ratios(found, True), ""]
        lines += ["## Our best over the best peer", "", *ratios(found, False), ""]
        lines += ["## One sampler for all tasks and numbers of calls", "", *overall(found), ""]
    for title, rows in found.items():
        lines += [f"## {title}", "", *head("median error, by calls")]
        leaders = {min(rows, key=lambda k, i=i: rows[k][i].median) for i in range(len(CALLS))}
        for name in [*(n for n in SHOWN if n in rows), *sorted(leaders - set(SHOWN))]:
            cells = []
            for i, figure in enumerate(rows[name]):
                leads = all(figure.median <= 1.005 * row[i].median for row in rows.values())
                cells.append(f"**{figure.median:.1e}**" if leads else f"{figure.median:.1e}")
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        for who, mine in (("ours", True), ("a peer's", False)):
            names = [best(rows, i, mine) for i in range(len(CALLS))]
            if all(names):
                short = [n.partition(": ")[2].replace(", + last denoise", "") for n in names]
                lines.append(f"| *the best, {who}* | " + " | ".join(short) + " |")
        lines.append("")
    lines += ["## What a step costs", "", "| sampler | µs per step, median | minimum |"]
    lines += ["|---|---|---|"]
    lines += [f"| {name} | {a:.0f} | {b:.0f} |" for name, (a, b) in steps.items()]
    return "\n".join(lines) + "\n"


LINES = {  # name: label, colour, width
    DEFAULT: ("undiffuse, default (as azula zEAB3)", "#d65a28", 2.6),
    "diffusers: DEIS-3 exponential": ("diffusers DEIS-3, exponential", "#1f5aa0", 1.5),
    "diffusers: UniPC-2 exponential": ("diffusers UniPC-2, exponential", "#3c8c46", 1.5),
    "k-diffusion: sample_dpmpp_2m, karras": ("k-diffusion DPM++ 2M, Karras", "#8c8c8c", 1.5),
    "k-diffusion: sample_heun, karras": ("k-diffusion Heun, Karras", "#c4c4c4", 1.5),
}


def plot(found: dict[str, dict[str, list[Figure]]], path: Path) -> None:
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9.5})
    figure, axes = plt.subplots(2, 2, figsize=(9, 7.4), sharex=True)
    for axis, (title, rows) in zip(axes.flat, found.items(), strict=True):
        names = [name for name in rows if not name.startswith("undiffuse")]
        if names:
            floor = [min(rows[name][i].median for name in names) for i in range(len(CALLS))]
            label = f"the best of {len(names)} peers at each point"
            axis.plot(CALLS, floor, ":", color="black", lw=1.3, label=label, zorder=4)
        for name, (label, colour, width) in LINES.items():
            if name in rows:
                medians = [row.median for row in rows[name]]
                order = 3 if name == DEFAULT else 2
                axis.plot(
                    CALLS, medians, "o-", color=colour, lw=width, ms=3.5, label=label, zorder=order
                )
        axis.set(xscale="log", yscale="log", title=title)
        axis.set_xticks(CALLS, map(str, CALLS))
        axis.minorticks_off()
        axis.grid(axis="y", color="#eeeeee", lw=0.8)
    for axis in axes[1]:
        axis.set_xlabel("calls of the denoiser")
    for axis in axes[:, 0]:
        axis.set_ylabel("median error of a sample")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="DOCS", help="the folder of the documentation")
    options = parser.parse_args()
    torch.set_num_threads(1)
    others, versions, missing = peers()
    if missing:
        print(f"missing: {', '.join(missing)}; `make peers` installs them in .venv-peers")
    rules, found = {**ours(), **others}, {}
    for task in tasks():
        found[task.title] = measure(task, rules)
        print(f"measured: {task.title}", flush=True)
    text = tables(found, steps := overhead(others))
    if options.out is None:
        print(text)
        return
    page = options.out / "results" / "samplers.md"
    above = page.read_text(encoding="utf-8").partition(MARK)[0] if page.exists() else ""
    libraries = {"undiffuse": ud.__version__, "torch": torch.__version__, **versions}
    run_with = f"Python {platform.python_version()}, " + ", ".join(
        f"{name} {number}" for name, number in libraries.items()
    )
    page.write_text(f"{above}{MARK}\n\n{run_with}.\n\n{text}", encoding="utf-8")
    record = {"calls": CALLS, "versions": libraries, "median, rms, calls": {}, "us per step": steps}
    for title, rows in found.items():
        record["median, rms, calls"][title] = {
            name: [[float(f"{f.median:.4g}"), float(f"{f.rms:.4g}"), f.calls] for f in row]
            for name, row in rows.items()
        }
    data = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    page.with_suffix(".json").write_text(data.replace('],"', '],\n"') + "\n", encoding="utf-8")
    plot(found, options.out / "images" / "samplers.png")


if __name__ == "__main__":
    main()
