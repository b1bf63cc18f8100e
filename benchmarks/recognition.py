"""How often samples show what was asked for, and whether they are copies.

1,000 samples of a run are judged by a classifier that saw only real data; its accuracy on held-out
real samples stands beside, as do the distances to the nearest training samples beside those of
held-out ones. Without a run, one is trained first, by the recipe of the demo.

    python benchmarks/recognition.py
    python benchmarks/recognition.py runs/mnist --out docs/results/mnist

--out writes the figures to NAME.json and 100 samples, a row for each class, to NAME.png.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

import undiffuse
from undiffuse import pictures
from undiffuse.evaluation.evaluate import evaluate, keep, summary

ACROSS = 10  # samples in a row of the picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, help="a run (default: train the demo's)")
    parser.add_argument("--out", type=Path, metavar="NAME", help="write NAME.json and NAME.png")
    parser.add_argument("--num", type=int, default=1000, help="samples to judge")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        run = options.run
        if run is None:
            run = undiffuse.train("digits", Path(place, "run"), "digits").path
        figures = evaluate(run, options.num, device=options.device)
        print(summary(figures))
        if options.out is not None:
            write(run, options.out, figures, options.device)


def write(run: Path, out: Path, figures: dict[str, object], device: str) -> None:
    model = undiffuse.load(run).to(device)
    count = ACROSS * (min(model.classes, ACROSS) or ACROSS)
    labels = torch.arange(count) // ACROSS if model.classes else None
    x = model.sample(count, labels, seed=0).cpu()
    facts = {"seed": 0, "model": model.digest, **model.sampling}
    keep(out.with_name(f"{out.name}.json"), figures)
    pictures.save(pictures.draw(x, ACROSS), out.with_name(f"{out.name}.png"), facts)


if __name__ == "__main__":
    main()
