"""What guidance brings and what it costs: everywhere, and in an interval of noise levels.

Samples of a run are drawn from the same noise and for the same labels with each way to guide, and
measured as `undiffuse evaluate` does: their distance to the data, their precision and recall, and
the share that a judge gives the label asked for.

    python benchmarks/guidance.py runs/digits runs/mnist --out docs

--judges names the judges' folders, one for each run, where a run has none of its own; one that is
missing is trained. --out writes the tables to DOCS/results/guidance.md, below its mark; the text
above it stays.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from budget import wanted_labels
from pages import write_below

import undiffuse
from undiffuse.evaluation.distribution import Reference
from undiffuse.evaluation.evaluate import JUDGE, training_data
from undiffuse.evaluation.features import kept

MARK = "<!-- What follows is written by benchmarks/guidance.py. -->"
WHOLE, WIDE, NARROW = "every noise level", (0.2, 2.0), (0.2, 1.0)
WAYS: list[tuple[str | tuple[float, float], float]] = [
    (WHOLE, 1.0), (WHOLE, 1.5), (WHOLE, 2.0), (WIDE, 1.5), (WIDE, 2.0), (WIDE, 2.5), (WIDE, 3.0),
    (NARROW, 2.0), (NARROW, 3.0),
]  # fmt: skip
SHOWN = (("frechet", 2), ("precision", 3), ("recall", 3))


def words(where: str | tuple[float, float], weight: float) -> list[str]:
    """The guides of a way."""
    inner = f"classifier-free(weight={weight})"
    if isinstance(where, str):
        return [inner]
    return [inner, f"interval(noise_min={where[0]}, noise_max={where[1]})"]


def table(run: Path, judge: Path, num: int) -> Iterator[str]:
    """A row for each way, and one of real samples."""
    data = training_data(run)
    features = kept(data, judge)
    reference, labels = Reference(data, features), wanted_labels(data, num)
    model = undiffuse.load(run)
    yield f"## {run.name}"
    yield ""
    yield "| w | where | Fréchet | precision | recall | recognised |"
    yield "|" + "---|" * 6
    for where, weight in WAYS:
        x = model.sample(num, labels, guide=words(where, weight))
        figures = reference.figures(x)
        right = float((features.predict(x) == labels).double().mean())
        cells = [f"{figures[name]['generated']:.{digits}f}" for name, digits in SHOWN]
        place = where if isinstance(where, str) else f"{where[0]:g} < σ/α ≤ {where[1]:g}"
        yield f"| {weight:g} | {place} | {' | '.join(cells)} | {100 * right:.1f} % |"
    real = [[figures[n]["real"][k] for k in ("smallest", "largest")] for n, _ in SHOWN]
    cells = [
        f"{low:.{d}f} to {high:.{d}f}" for (low, high), (_, d) in zip(real, SHOWN, strict=True)
    ]
    yield f"| *real ones* | | {' | '.join(cells)} | {100 * features.accuracy:.1f} % |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="runs on images with labels")
    parser.add_argument("--judges", nargs="+", type=Path, help="their folders (default: the runs')")
    parser.add_argument("--num", type=int, default=500, help="samples of each way")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, metavar="DOCS", help="the folder of the documentation")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    judges = options.judges or [run / JUDGE for run in options.runs]
    lines: list[str] = []
    for run, judge in zip(options.runs, judges, strict=True):
        for line in ("", *table(run, judge, options.num)):
            print(line, flush=True)
            lines.append(line)
    if options.out is not None:
        write_below(options.out / "results" / "guidance.md", MARK, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
