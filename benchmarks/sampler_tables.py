"""The figures of `samplers.py` as tables and as a plot."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

CALLS = (5, 8, 10, 15, 20, 30, 50)
FEW = (5, 8, 10)  # for tuning
DEFAULT, TUNED = "undiffuse: default", "undiffuse: tuned for the task"

LINES = {  # name: label, colour
    "diffusers: DEIS-3 exponential": ("diffusers DEIS-3, exponential", "#1f5aa0"),
    "diffusers: UniPC-2 exponential": ("diffusers UniPC-2, exponential", "#3c8c46"),
    "k-diffusion: sample_dpmpp_2m, karras": ("k-diffusion DPM++ 2M, Karras", "#8c8c8c"),
    "k-diffusion: sample_heun, karras": ("k-diffusion Heun, Karras", "#c4c4c4"),
}
SHOWN = (
    DEFAULT,
    TUNED,
    "undiffuse: exponential-adams(order=4), log-snr",
    "undiffuse: ddim, log-snr",
    "azula: zEABSampler order 3, VESchedule, + last denoise",
    "azula: zEABSampler order 4, VESchedule, + last denoise",
    "azula: zEABSampler order 4, VESchedule, + last denoise, to 0.002",
    "azula: vABSampler order 3, VESchedule, + last denoise",
    "diffusers: DPM++2M lu-lambdas",
    "diffusers: DPM++3M lu-lambdas",
    "diffusers: UniPC-3 exponential",
    "diffusers: UniPC-3 exponential, to 0.002",
    "k-diffusion: sample_dpmpp_2m, exponential",
    "k-diffusion: sample_lms, exponential",
    "smalldiffusion: samples, gam 2, karras",
    *LINES,
)


class Figure(NamedTuple):
    median: float  # over the samples, of the error of each
    rms: float
    calls: int


Rows = dict[str, dict[int, Figure]]  # by sampler and number of calls
Found = dict[str, dict[str, Rows]]  # by range and task


def is_peer(name: str) -> bool:
    return not name.startswith("undiffuse")


def error(row: dict[int, Figure], n: int, kind: str = "median") -> float:
    """The median or rms at n calls; infinite where a sampler gave no number."""
    value: float = getattr(row[n], kind)
    return value if math.isfinite(value) else math.inf


def best(rows: Rows, n: int, mine: bool = False, kind: str = "median") -> str:
    """The peer, or fixed rule of ours, with the smallest error at n calls."""
    names = [name for name in rows if name != TUNED and is_peer(name) != mine]
    return min(names, key=lambda name: error(rows[name], n, kind), default="")


def ratio(rows: Rows, name: str, n: int, kind: str = "median") -> float:
    return error(rows[name], n, kind) / error(rows[best(rows, n, kind=kind)], n, kind)


def shortlist(found: dict[str, Rows], within: float = 1.1) -> set[str]:
    """The peers that come near the best one somewhere, and what the tables show."""
    better = {
        name
        for rows in found.values()
        for name in filter(is_peer, rows)
        if any(ratio(rows, name, n) <= within for n in CALLS)
    }
    return better | set(SHOWN)


def head(first: str, columns: Sequence[object] = CALLS) -> list[str]:
    return [
        f"| {first} | " + " | ".join(map(str, columns)) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]


def tasks_of(found: Found) -> Iterator[tuple[str, Rows]]:
    for span, tasks in found.items():
        for title, rows in tasks.items():
            yield f"{span}: {title}", rows


def ratios(found: Found, name: str, calls: Sequence[int], kind: str, goal: float) -> list[str]:
    """One sampler of ours over the best peer; what reaches the goal is bold."""

    def cell(rows: Rows, n: int) -> str:
        value = ratio(rows, name, n, kind)
        return f"**{value:.2f}**" if value <= goal else f"{value:.2f}"

    lines = head(f"{kind} error over the best peer's, by calls", calls)
    for title, rows in tasks_of(found):
        if name in rows:
            lines.append(f"| {title} | " + " | ".join(cell(rows, n) for n in calls) + " |")
    return [*lines, ""]


def overall(found: Found, count: int = 12) -> list[str]:
    """The samplers with the smallest geometric mean of the ratio to the best peer, and ours."""
    everywhere = set.intersection(*(set(rows) for _, rows in tasks_of(found))) - {TUNED}
    values = {
        name: [ratio(rows, name, n) for _, rows in tasks_of(found) for n in CALLS]
        for name in everywhere
    }
    mean = {name: math.exp(statistics.mean(map(math.log, v))) for name, v in values.items()}
    usual = {name for name in LINES if name in mean}
    first = sorted(mean, key=lambda name: mean[name])[:count]
    lines = ["| sampler | geometric mean of the ratio | worst |", "|---|---|---|"]
    for name in sorted({*first, *usual}, key=lambda name: mean[name]):
        lines.append(f"| {name} | {mean[name]:.2f} | {max(values[name]):.1f} |")
    return [*lines, ""]


def endings(ended: Found) -> list[str]:
    """The share of samples that end at another data point, in percent."""
    lines = head("samples that end elsewhere, %, by calls")
    for title, rows in tasks_of(ended):

        def cells(name: str, rows: Rows = rows) -> str:
            return " | ".join(f"{100 * rows[name][n].rms ** 2:.1f}" for n in CALLS)

        chosen = [DEFAULT, "undiffuse: exponential-adams(order=4), log-snr", *LINES]
        lines += [f"| {title.partition(':')[0]}: {n} | {cells(n)} |" for n in chosen if n in rows]
        least = [rows[best(rows, n, kind="rms")][n].rms ** 2 for n in CALLS]
        marks = " | ".join(f"{100 * share:.1f}" for share in least)
        lines.append(f"| {title.partition(':')[0]}: *the best peer at each point* | {marks} |")
    return [*lines, ""]


def table(rows: Rows) -> list[str]:
    """The median errors of one task; the best fixed rule of each column is bold."""
    lines = head("median error, by calls")
    leaders = {best(rows, n, mine) for n in CALLS for mine in (False, True)} - {""}
    least = {n: min(error(rows[name], n) for name in leaders) for n in CALLS}
    for name in [*(n for n in SHOWN if n in rows), *sorted(leaders - set(SHOWN))]:
        cells = []
        for n in CALLS:
            if n not in rows[name]:
                cells.append("")
                continue
            value = error(rows[name], n)
            leads = value <= 1.005 * least[n]
            cells.append(f"**{value:.1e}**" if leads else f"{value:.1e}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def tables(found: Found, ended: Found, steps: dict[str, tuple[float, float]]) -> str:
    lines: list[str] = []
    everything = {span: {**found[span], **ended[span]} for span in found}
    if any(is_peer(name) for _, rows in tasks_of(everything) for name in rows):
        lines += ["## Our default over the best peer", ""]
        lines += ratios(found, DEFAULT, CALLS, "median", 1.0)
        lines += ratios(found, DEFAULT, CALLS, "rms", 1.0)
        lines += ["## The tuned solver over the best peer", ""]
        lines += ratios(found, TUNED, FEW, "median", 0.25)
        lines += ratios(found, TUNED, FEW, "rms", 0.25)
        lines += ["## One sampler for all tasks and numbers of calls", "", *overall(found)]
        lines += ["## Wrong endings", "", *endings(ended)]
    for title, rows in found["EDM"].items():
        lines += [f"## {title}", "", *table(rows)]
    lines += ["## What a step costs", "", "| sampler | µs per step, median | minimum |"]
    lines += ["|---|---|---|"]
    lines += [f"| {name} | {a:.0f} | {b:.0f} |" for name, (a, b) in steps.items()]
    return "\n".join(lines) + "\n"


def plot(found: Found, path: Path) -> None:
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9.5})
    tasks = found["EDM"]
    figure, axes = plt.subplots(2, math.ceil(len(tasks) / 2), figsize=(13, 7.4), sharex=True)
    for axis, (title, rows) in zip(axes.flat, tasks.items(), strict=False):
        own = [error(rows[DEFAULT], n) for n in CALLS]
        style = {"color": "#d65a28", "lw": 2.6, "ms": 4, "zorder": 4}
        axis.plot(CALLS, own, "o-", label="undiffuse, default", **style)
        if TUNED in rows:
            own = [error(rows[TUNED], n) for n in FEW]
            style = {"color": "#7a2f8f", "lw": 1.6, "ms": 5, "zorder": 5}
            axis.plot(FEW, own, "D--", label="undiffuse, tuned for the task", **style)
        if any(map(is_peer, rows)):
            floor = [error(rows[best(rows, n)], n) for n in CALLS]
            axis.plot(CALLS, floor, ":", color="black", lw=1.4, label="the best peer at each point")
        for name, (label, colour) in LINES.items():
            if name in rows:
                medians = [error(rows[name], n) for n in CALLS]
                axis.plot(CALLS, medians, "o-", color=colour, lw=1.4, ms=3.5, label=label)
        axis.set(xscale="log", yscale="log", title=title)
        axis.set_xticks(CALLS, map(str, CALLS))
        axis.minorticks_off()
        axis.grid(axis="y", color="#eeeeee", lw=0.8)
    for axis in axes[1]:
        axis.set_xlabel("calls of the denoiser")
    for axis in axes[:, 0]:
        axis.set_ylabel("median error of a sample")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.savefig(path, dpi=110)
