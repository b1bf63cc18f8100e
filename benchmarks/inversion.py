"""How much of a real image is lost on the way to noise and back, through a trained network.

Images of DATA, held-out ones where there are any, are taken to noise by `invert` and back by
`sample`, both with n calls of the network (and one more on the way back, the last denoising). The
figure is |back - x| / |x|, for the rule and the grid that `invert` has by default, and for the same
rule on its own grid for sampling, which ends at more noise. Without a run, one is trained first, by
the recipe of the demo.

    python benchmarks/inversion.py
    python benchmarks/inversion.py runs/mnist mnist.npz --out docs/results/inversion.md

--out puts the table in the place of the one on that page.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.data.dataset import Dataset
from undiffuse.model import Model
from undiffuse.samplers import invert
from undiffuse.samplers.editing import INVERSION_GRID, RULE

CALLS = (10, 20, 50, 100, 200)
WAYS = {  # the column -> rule, grid
    f"`{RULE}` on `{INVERSION_GRID}`": (RULE, INVERSION_GRID),
    f"the same on `{ud.samplers.ExponentialAdams.grid}`": (RULE, ud.samplers.ExponentialAdams.grid),
}


def images(data: Dataset, count: int) -> tuple[Tensor, Tensor | None]:
    """Real images, float64, from all over the set, and their labels."""
    real = data.held_out if data.held_out is not None else data
    rows = torch.arange(count) * (len(real) // count)
    batch = real.batch(rows)
    return batch.x.double(), batch.label if data.classes else None


def lost(model: Model, x: Tensor, label: Tensor | None, rule: str, grid: str, n: int) -> Tensor:
    """|back - x| / |x| of each image, [N]."""
    denoiser = model.denoiser
    x_T = invert(denoiser, x, rule, n, grid, label=label)
    back = ud.sample(denoiser, x.shape, rule, n + 1, grid, x_T=x_T, label=label)
    assert isinstance(back, Tensor)
    return (back - x).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)


def table(model: Model, x: Tensor, label: Tensor | None) -> str:
    """Medians over the images, and the worst of them for the default way."""
    lines = [f"| calls each way | {' | '.join(WAYS)} | the worst image of the first |"]
    lines += ["|---" * (len(WAYS) + 2) + "|"]
    for n in CALLS:
        rows = [lost(model, x, label, rule, grid, n) for rule, grid in WAYS.values()]
        cells = [f"{float(r.median()):.1e}" for r in rows] + [f"{float(rows[0].max()):.1e}"]
        lines.append(f"| {n} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, help="a run (default: train the demo's)")
    parser.add_argument("data", nargs="?", default="digits", help="what it was trained on")
    parser.add_argument("--num", type=int, default=16, help="images")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="write the table there")
    options = parser.parse_args()
    x, label = images(ud.data.open_data(options.data), options.num)
    with tempfile.TemporaryDirectory() as place:
        run = options.run
        if run is None:
            run = ud.train("digits", Path(place, "run"), "digits").path
        found = table(ud.load(run), x, label)
    if options.out is not None:
        write(found, options.out)


def write(found: str, page: Path) -> None:
    before, _, rest = page.read_text(encoding="utf-8").partition("| calls each way")
    after = rest.partition("\n\n")[2]
    page.write_text(f"{before}{found}\n\n{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
