r"""What each choice of a recipe is worth: the same budget of computing with one thing changed.

A change is a name and the settings that it stands for. Each trains once, for so many CPU-seconds
(of all threads together), and is scored on 1,000 samples at guidance 1, drawn from the same noise
and labels with 20 steps of the default sampler, with averaged and with raw weights. The recipe as
it is trains with two seeds: what lies within their spread means nothing. Changes that cost the same
for each step take equally many, so that the clock adds no scatter of its own.

    python benchmarks/ablations.py --data digits --budget 30 --out docs
    python benchmarks/ablations.py --data MNIST.npz --budget 120 --changes lr-4e-3 batch-32

--unlabelled hides the labels from the training. --judge names other images for the judge to learn
from, scaled to the same size, where the data has no labels of its own. --set key=value starts from
another recipe; tables of several starting points stand side by side.

--out adds the figures to DOCS/results/ablations/, one JSON file for each data set, and writes the
tables to DOCS/results/ablations.md (below its mark; the text above it stays). A call that was
stopped goes on with the first change that is not in --work.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from budget import TRIAL, steps_for, timed, unlabelled, wanted_labels
from pages import write_below
from torch import Tensor

import undiffuse
from undiffuse import storage
from undiffuse.data.dataset import Dataset
from undiffuse.data.open import open_data
from undiffuse.evaluation import classifier
from undiffuse.evaluation.distribution import Reference
from undiffuse.evaluation.features import kept
from undiffuse.training import recipe as shelf
from undiffuse.training.recipe import Recipe, to_table

MARK = "<!-- What follows is written by benchmarks/ablations.py. -->"
AS_IT_IS = "as-it-is"
Settings = dict[str, Any]


def times(mean: float, std: float) -> Settings:
    return {"times.name": "log-normal", "times.mean": mean, "times.std": std}


def edm2(optimizer: str, lr: float) -> Settings:
    return {"network": {"name": "edm2.tiny"}, "training.optimizer": optimizer, "training.lr": lr}


CHANGES: dict[str, Settings] = {
    "times-1.2-1.2": times(-1.2, 1.2),
    "times-0.8-1.3": times(-0.8, 1.3),
    "times-0.4-1.2": times(-0.4, 1.2),
    "times-0.4-1.6": times(-0.4, 1.6),
    "times-0-1.2": times(0.0, 1.2),
    "times+0.4-1.2": times(0.4, 1.2),
    "times-uniform-log-snr": {
        "times": {"name": "uniform-log-snr", "noise_min": 0.01, "noise_max": 40.0}
    },
    "draws-low-discrepancy": {"training.time_draws": "low-discrepancy"},
    "coupling-optimal-transport": {"training.coupling": "optimal-transport"},
    "weight-soft-min-snr": {"weight": {"name": "soft-min-snr"}},
    "weight-min-snr": {"weight": {"name": "min-snr"}},
    "weight-flow": {"weight": {"name": "flow"}},
    "weight-sigmoid": {"weight": {"name": "sigmoid"}},
    "weight-simple": {"weight": {"name": "simple"}},
    "flow-matching": {
        "schedule": {"name": "flow"},
        "prediction": {"name": "flow"},
        "times": {"name": "logit-normal"},
        "weight": {"name": "flow"},
    },
    "v-cosine": {
        "schedule": {"name": "cosine"},
        "prediction": {"name": "v"},
        "times": {"name": "uniform"},
        "weight": {"name": "v"},
    },
    "adamw": {"training.optimizer": "adamw"},
    "muon": {"training.optimizer": "muon"},
    "to-zero": {"training.decay_to": 0.0025, "training.ema": 0.02},
    "width-128": {"network.width": 128},
    "depth-2": {"network.depth": 2},
    "lr-1e-3": {"training.lr": 1e-3},
    "lr-2e-3": {"training.lr": 2e-3},
    "lr-3e-3": {"training.lr": 3e-3},
    "lr-4e-3": {"training.lr": 4e-3},
    "lr-6e-3": {"training.lr": 6e-3},
    "lr-8e-3": {"training.lr": 8e-3},
    "warmup-20": {"training.warmup": 20},
    "warmup-100": {"training.warmup": 100},
    "beta2-0.95": {"training.betas": [0.9, 0.95]},
    "beta2-0.999": {"training.betas": [0.9, 0.999]},
    "batch-16": {"training.batch_size": 16},
    "batch-32": {"training.batch_size": 32},
    "batch-64": {"training.batch_size": 64},
    "batch-128": {"training.batch_size": 128},
    "ema-0.02": {"training.ema": 0.02},
    "ema-0.1": {"training.ema": 0.1},
    "label-dropout-0": {"training.label_dropout": 0.0},
    "label-dropout-0.2": {"training.label_dropout": 0.2},
    "dropout-0.1": {"network.dropout": 0.1},
    "flip": {"data.flip": True},
    "no-flip": {"data.flip": False},
    "patch-1": {"network.patch": 1},
    "patch-2": {"network.patch": 2},
    "patch-4": {
        "network.patch": 4,
        "network.multipliers": [1],
        "network.attention": [True],
        "network.width": 64,
    },
    "width-24": {"network.width": 24},
    "width-32": {"network.width": 32},
    "width-48": {"network.width": 48},
    "width-64": {"network.width": 64},
    "width-96": {"network.width": 96},
    "attention-none": {"network.attention": [False, False]},
    "attention-all": {"network.attention": [True, True]},
    "blocks-2": {"network.blocks": 2},
    "levels-1": {"network.multipliers": [1], "network.attention": [True]},
    "multipliers-1-3": {"network.multipliers": [1, 3]},
    "patches": {  # in place of the pixels: one level less, twice the width
        "network.patch": 2,
        "network.width": 32,
        "network.multipliers": [1, 2],
        "network.attention": [False, True],
    },
    "pixels": {  # in place of patches, for three levels: one more, half the width
        "network.patch": 1,
        "network.width": 16,
        "network.multipliers": [1, 2, 4, 6],
        "network.attention": [False, False, True, True],
    },
    "dit-tiny": {"network": {"name": "dit.tiny"}},
    "dit-tiny-patch-2": {"network": {"name": "dit.tiny", "patch": 2}},
    "edm2-tiny": edm2("muon", 1e-2),
    "edm2-tiny-muon-3e-2": edm2("muon", 3e-2),
    "edm2-tiny-muon-1e-1": edm2("muon", 1e-1),
    "edm2-tiny-adamw-1e-2": edm2("adamw", 1e-2),
    "edm2-tiny-adamw-3e-2": edm2("adamw", 3e-2),
    "edm2-tiny-adamw-6e-2": edm2("adamw", 6e-2),
}


class Plan(NamedTuple):
    """What to do, from the command line."""

    data: str  # its name in tables and files
    name: str  # of the recipe
    base: Recipe  # with --set
    budget: float  # CPU-seconds
    num: int  # samples
    weights: tuple[str, ...]  # ema, raw
    work: Path
    judged_by: Dataset  # whose labels the judge of samples has learned

    @property
    def place(self) -> Path:
        return self.work / self.data

    def record(self, change: str, recipe: Recipe, seed: int) -> Path:
        """Where its figures are; after the seed the name says all that they depend on."""
        measured = [self.num, self.weights, self.judged_by.fingerprint(), torch.get_num_threads()]
        what, start = digest([choices(recipe), *measured]), digest(choices(self.base))
        return self.place / f"{change}-{seed}-{self.budget:g}-{what}-from-{start}.json"


BEFORE = {"training.optimizer": "adamw", "training.compile": False}  # what old records leave out


def choices(recipe: Recipe) -> Settings:
    """What a recipe decides, as dotted keys; words about it, its length and guides are left out."""
    table = to_table(recipe)
    return deciding(
        {f"{r}.{k}": v for r, t in table.items() if isinstance(t, dict) for k, v in t.items()}
    )


def deciding(flat: Settings) -> Settings:
    """Those of the dotted keys that decide anything here: samples are always drawn unguided."""
    length = ("steps", "checkpoint_every", "sample_every", "keep", "keep_best", "keep_every")
    idle = {"sampling.guidance", "sampling.guide", *(f"training.{key}" for key in length)}
    return {k: v for k, v in flat.items() if k not in idle}


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


# ------------------------------------------------------------------ one change


def measure(plan: Plan, dataset: Dataset, change: str, seed: int) -> None:
    """Train with a change and score it, unless that was done."""
    settings = {} if change == AS_IT_IS else CHANGES[change]
    recipe = plan.base.changed(settings)
    target = plan.record(change, recipe, seed)
    if target.is_file() or (settings and choices(recipe) == choices(plan.base)):
        return
    same = target.name.removeprefix(change).partition("from")[0]
    known = next(plan.place.glob(f"*{same}from-*.json"), None)  # from another start
    record = storage.read_json(known) if known else figures(plan, dataset, recipe, seed)
    what = {"recipe": plan.name, "change": change, "settings": settings}
    record = {"data": plan.data, **record, **what, "base": choices(plan.base)}
    storage.write_json(target, record)
    lead, title, decimals = led(record)
    told = {k: f"{v[lead]:.{decimals}f}" for k, v in record["scores"].items()}
    print(f"{change}, seed {seed}: {record['steps']} steps, {title} {told}", flush=True)


def figures(plan: Plan, dataset: Dataset, recipe: Recipe, seed: int) -> dict[str, Any]:
    """Train for the budget and score."""
    steps = steps_for(plan.budget, pace(plan, dataset, recipe))
    run = plan.place / "run"
    facts = timed(dataset, run, recipe, steps, seed=seed)
    return {
        "seed": seed,
        "budget": plan.budget,
        "threads": torch.get_num_threads(),
        "version": version("undiffuse"),
        "torch": str(torch.__version__),
        **facts,
        **score(plan, dataset, run),
    }


def pace(plan: Plan, dataset: Dataset, recipe: Recipe) -> float:
    """CPU-seconds a step; measured once for all recipes whose steps do the same work."""
    training = recipe.training
    work = [recipe.network, training.batch_size, training.coupling, training.accumulate]
    work += [training.optimizer, training.precision, training.compile, torch.get_num_threads()]
    work += [dataset.shape]
    target = plan.place / f"pace-{digest(work)}.json"
    if not target.is_file():
        storage.write_json(target, timed(dataset, plan.place / "trial", recipe, TRIAL))
    return float(storage.read_json(target)["pace"])


def score(plan: Plan, dataset: Dataset, run: Path) -> dict[str, Any]:
    """Metrics of averaged and of raw weights, and of real samples.

    Where there are fewer held-out samples than made ones, figures are means over parts as large.
    """
    known = plan.judged_by
    pictures = len(dataset.shape) == 3
    features = kept(known, plan.place / "judge") if pictures else None  # points are as they are
    lead = "frechet" if pictures else "energy"
    judge = classifier.fit(known, known.held_out, 0, features)
    reference, labels = Reference(dataset, features), wanted_labels(dataset, plan.num)
    count = min(plan.num, len(reference.real()[1]))
    scores: dict[str, dict[str, float]] = {}
    found: list[dict[str, Any]] = []
    for weights in plan.weights:
        model = undiffuse.load(run, weights=weights)
        x: Tensor = model.sample(plan.num, labels, guidance=1.0, seed=0, steps=20)
        found = [reference.figures(part) for part in x.split(count) if len(part) == count]
        means = {m: sum(f[m]["generated"] for f in found) / len(found) for m in (lead, *OTHERS)}
        scores[weights] = means
        if labels is not None:
            right = (judge.predict(x) == labels).double().mean()
            scores[weights]["recognised"] = float(right)
    parameters = sum(p.numel() for p in model.denoiser.parameters())
    real = {m: found[0][m]["real"] for m in (lead, *OTHERS)}
    return {
        "parameters": parameters,
        "num": plan.num,
        "compared": count,
        "judge_accuracy": judge.accuracy,
        "scores": scores,
        "real": real,
    }


LEADS = {"frechet": ("Fréchet", 2), "energy": ("energy distance", 4)}  # and their decimals
OTHERS = ("precision", "recall")


# ------------------------------------------------------------------ tables


def tables(records: list[dict[str, Any]]) -> Iterator[str]:
    """A table for each data set, budget and starting point."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for r in records:
        start = digest({**BEFORE, **deciding(r["base"])})
        groups.setdefault((r["data"], r["recipe"], r["budget"], start), []).append(r)
    for (data, name, budget, _), mine in groups.items():
        yield from ("", f"## {data}: recipe {name}, {budget:g} CPU-seconds", "")
        today, base = choices(shelf.read(name)), {**BEFORE, **deciding(mine[0]["base"])}
        keys = [k for k in sorted({*today, *base}) if today.get(k) != base.get(k)]
        keys = [k for k in keys if "data" not in (today.get(k), base.get(k))]
        other = ", ".join(f"`{k} = {json.dumps(base.get(k))}`" for k in keys)
        start = f"the recipe with {other}" if other else "the recipe as it is"
        yield f"From {start}; {mine[0]['num']:,} samples, threads: {mine[0]['threads']}."
        yield from ("", *table(mine))


def led(record: dict[str, Any]) -> tuple[str, str, int]:
    """The metric that a record is about, what it is called, and its decimals."""
    lead = next(name for name in LEADS if name in record["real"])
    return lead, *LEADS[lead]


def table(mine: list[dict[str, Any]]) -> Iterator[str]:
    lead, title, decimals = led(mine[0])
    yield f"| change | steps | {title} | of raw weights | recall | recognised | {title}, ratio |"
    yield "|" + "---|" * 7
    first = [r["scores"]["ema"][lead] for r in mine if r["change"] == AS_IT_IS]
    plain = sum(first) / len(first) if first else float("nan")
    for r in sorted(mine, key=lambda r: (r["change"] != AS_IT_IS, r["scores"]["ema"][lead])):
        ema, raw = r["scores"]["ema"], r["scores"].get("raw")
        name = f"*as it is, seed {r['seed']}*" if r["change"] == AS_IT_IS else r["change"]
        cells = [
            name, f"{r['steps']:,}", f"{ema[lead]:.{decimals}f}",
            f"{raw[lead]:.{decimals}f}" if raw else "",
            f"{ema['recall']:.3f}", percent(ema.get("recognised")),
            f"{ema[lead] / plain:.2f}",
        ]  # fmt: skip
        yield "| " + " | ".join(cells) + " |"
    real = mine[0]["real"]
    places = {lead: decimals, "recall": 3}
    ends = {m: [f"{real[m][k]:.{d}f}" for k in ("smallest", "largest")] for m, d in places.items()}
    spread = {m: " to ".join(dict.fromkeys(both)) for m, both in ends.items()}
    judge = percent(mine[0]["judge_accuracy"] if "recognised" in ema else None)
    yield f"| *held-out real samples* | | {spread[lead]} | | {spread['recall']} | {judge} | |"


def percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def asked(record: dict[str, Any]) -> str:
    """What a record answers, so that a new answer takes the place of an old one."""
    what = ("recipe", "change", "settings", "seed", "budget", "num")
    return digest([*(record[k] for k in what), deciding(record["base"])])


def report(plan: Plan, docs: Path | None) -> None:
    """The figures of this data set as JSON, and the tables of all that are there."""
    files = sorted(plan.place.glob("*-*-*-*.json"), key=lambda file: file.stat().st_mtime)
    records = [storage.read_json(file) for file in files]
    if docs is None:
        print("\n".join(tables(records)))
        return
    kept_in, page = docs / "results" / "ablations", docs / "results" / "ablations.md"
    kept_in.mkdir(parents=True, exist_ok=True)
    kept = kept_in / f"{plan.data}.json"
    runs = {asked(r): r for r in storage.read_json(kept)["runs"]} if kept.is_file() else {}
    storage.write_json(kept, {"runs": list((runs | {asked(r): r for r in records}).values())})
    every = [storage.read_json(f)["runs"] for f in sorted(kept_in.glob("*.json"))]
    text = "\n".join(tables([r for runs in every for r in runs]))
    write_below(page, MARK, f"{text}\n", "# Ablations\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", help="a name, a folder or an .npz file")
    parser.add_argument("--judge", metavar="DATA", help="labelled images for the judge to learn"
                        " (default: --data)")  # fmt: skip
    parser.add_argument(
        "--recipe", help="default: digits or vectors for digits or moons, else mnist"
    )
    parser.add_argument("--unlabelled", action="store_true",
                        help="hide the labels from the training")  # fmt: skip
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="another start")
    parser.add_argument("--changes", nargs="+", choices=[AS_IT_IS, *CHANGES], metavar="NAME",
                        help=f"of {', '.join(CHANGES)} (default: all)")  # fmt: skip
    parser.add_argument("--seeds", type=int, default=2, help="seeds of the recipe as it is")
    parser.add_argument("--budget", type=float, default=30, help="CPU-seconds of a training")
    parser.add_argument("--num", type=int, default=1000, help="samples")
    parser.add_argument("--no-raw", action="store_true", help="score averaged weights only")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--out", type=Path, metavar="DOCS", help="the folder of the documentation")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    own = {"digits": "digits", "moons": "vectors"}
    name = options.recipe or own.get(options.data, "mnist")
    base = shelf.read(name).changed(shelf.settings(options.set))
    weights = ("ema",) if options.no_raw else ("ema", "raw")
    dataset = open_data(options.data, size=base.data.size)
    known = open_data(options.judge, size=dataset.shape[-1]) if options.judge else dataset
    if options.unlabelled:
        dataset = unlabelled(dataset)
    work, num = options.work, options.num
    data = Path(options.data).stem + ("-unlabelled" if options.unlabelled else "")
    plan = Plan(data, name, base, options.budget, num, weights, work, known)
    plan.place.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        measure(plan, dataset, AS_IT_IS, seed)
    for change in options.changes or CHANGES:
        if change != AS_IT_IS:
            measure(plan, dataset, change, 0)
    report(plan, options.out)


if __name__ == "__main__":
    main()
