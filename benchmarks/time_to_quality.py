r"""How good the samples are after so much computing: ours and other libraries', all on the CPU.

A budget is CPU-seconds of training, of all threads together: 240 are two minutes of two cores. What
it costs to read the data, to draw samples and to score them is not counted. Every system has its
own process and its own documented recipe (`peer_training.py`, `recipes/`), and the same scorer.
A peer trains once and is sampled at each budget on the way; our rate of learning falls over the
length that is known beforehand, so each budget is a run of its own, of as many steps as the pace of
a short trial allows.

    make peers
    .venv-peers/bin/python benchmarks/time_to_quality.py --data MNIST.npz FASHION.npz \
        --budgets 240 600 1200 2400 --out docs

--out keeps the figures in DOCS/results/time_to_quality/, one JSON file and one sheet of 100 samples
for each system, and the curves of them all, and writes the tables to
DOCS/results/time_to_quality.md (below its mark; the text above it stays). Everything else is in
--work. A call that was stopped goes on with the first budget or system that is not done; delete a
system's folder there to have it anew.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import quality_curves
import torch
from bounds import convolution_speed
from budget import TRIAL, steps_for, timed, unlabelled, wanted_labels
from pages import write_below
from peer_training import PEERS, Peer
from safetensors.torch import load_file, save_file
from torch import Tensor

import undiffuse
from undiffuse import pictures, storage
from undiffuse.data.dataset import Dataset, from_bytes
from undiffuse.data.open import open_data
from undiffuse.training import recipe as shelf

MARK = "<!-- What follows is written by benchmarks/time_to_quality.py. -->"
HEAD = """# Time to quality

How good samples are after so many CPU-seconds of training, of all threads together; 240 are two
minutes of two cores. Reading data, drawing samples and scoring them is not counted. Every system
ran once, in a process of its own, with one seed.

- The score is the Fréchet distance of features, with precision and recall, as
  [evaluation](../evaluation.md) explains. It depends on the number of samples; the last row says
  what as many real ones get that no system has seen.
- A peer trains once and is sampled at each budget on the way. Our rate of learning falls over a
  length that is known beforehand, so each budget is a run of its own, of as many steps as the pace
  of a short trial allows: the CPU-seconds that were really spent are in the JSON files.
- `azula` and `undiffuse` are told labels, drawn as often as they are in the data; the others are
  not, so the row to compare with theirs is `undiffuse-unconditional`. *guidance-1* is without
  guidance, *ema* and *raw* have that of the recipe. The curves are without guidance.
- Peers train as their own examples do. Where those are made for days on a GPU, the recipe called
  *quick* is ours for them: batches of 64 and a rate of 1e-3 that falls to 1e-4. They sample by
  their own DDIM with 50 calls.
- The pictures are 100 samples of each system after the longest budget, of raw or averaged weights,
  whichever scored better.

"""
AT_ONCE = 100  # samples of a peer
VARIANTS: dict[str, dict[str, Any]] = {  # of our samples; by default averaged, as the recipe guides
    "ema": {},
    "raw": {"weights": "raw"},
    "guidance 1": {"guidance": 1.0},
    "raw guidance 1": {"weights": "raw", "guidance": 1.0},
}


class Plan(NamedTuple):
    """What to do: from the command line, the same for every system."""

    data: str
    budgets: tuple[int, ...]
    num: int  # samples of a peer
    many: int  # samples of ours
    calls: int  # of a peer's sampler
    weights: tuple[str, ...]  # of which samples are drawn
    recipe: str
    work: Path

    def place(self, system: str) -> Path:
        return self.work / Path(self.data).stem / system


# ------------------------------------------------------------------ ours


class Ours:
    """undiffuse.train with a shipped recipe; with labels, or without."""

    library = "undiffuse"

    def __init__(self, name: str, conditional: bool) -> None:
        self.name, self.conditional = name, conditional

    def recipe_of(self, plan: Plan) -> str:
        return f"the recipe {plan.recipe}" + ("" if self.conditional else ", without labels")

    def run(self, plan: Plan) -> None:
        dataset = open_data(plan.data)
        if not self.conditional:
            dataset = unlabelled(dataset)
        pace = 0.0
        for budget in plan.budgets:
            place = plan.place(self.name) / str(budget)
            if not (place / "facts.json").is_file():
                pace = pace or timed(dataset, place / "trial", plan.recipe, TRIAL)["pace"]
                facts = timed(dataset, place / "run", plan.recipe, steps_for(budget, pace))
                pace = facts["pace"]
                storage.write_json(place / "facts.json", facts)
                told(self.name, plan, budget, facts)
            for variant, options in VARIANTS.items():
                if options.get("weights", "ema") in plan.weights:
                    self._draw(plan, dataset, place, variant, dict(options))

    def _draw(
        self, plan: Plan, dataset: Dataset, place: Path, variant: str, options: dict[str, Any]
    ) -> None:
        target = place / f"{variant.replace(' ', '-')}.npz"
        if target.is_file():
            return
        weights = options.pop("weights", "ema")
        model = undiffuse.load(place / "run", weights=weights)
        today = asdict(shelf.read(plan.recipe).sampling)  # whatever it was when the run was trained
        model = replace(model, sampling=today)
        guided = self.conditional and model.sampling["guidance"] != 1
        if "guidance" in options and not guided:
            return
        labels = wanted_labels(dataset, plan.many)
        keep(target, model.sample(plan.many, labels, seed=0, **options), labels)


# ------------------------------------------------------------------ peers


class Theirs:
    """A peer, trained once and sampled as it was at each budget."""

    def __init__(self, kind: type[Peer]) -> None:
        self.kind, self.name, self.library = kind, kind.name, kind.library
        self.conditional = kind.conditional

    def recipe_of(self, plan: Plan) -> str:
        return self.kind.recipe

    def run(self, plan: Plan) -> None:
        dataset, place = open_data(plan.data), plan.place(self.name)
        images, labels = dataset.batch(torch.arange(len(dataset)))
        torch.manual_seed(0)
        peer = self.kind(images, labels, plan.calls)
        asked = wanted_labels(dataset, plan.num) if self.conditional else None
        if not all((place / str(b) / "facts.json").is_file() for b in plan.budgets):
            self._train(plan, peer, place)
        for budget in plan.budgets:
            for name, network in peer.weights().items():
                target = place / str(budget) / f"{name}.npz"
                if name in plan.weights and not target.is_file():
                    network.load_state_dict(load_file(target.with_suffix(".safetensors")))
                    torch.manual_seed(1)
                    parts = torch.arange(plan.num).split(AT_ONCE)
                    made = [
                        peer.sample(network, len(part), None if asked is None else asked[part])
                        for part in parts
                    ]
                    keep(target, torch.cat(made), asked)

    def _train(self, plan: Plan, peer: Peer, place: Path) -> None:
        spent, steps, begun, longest = 0.0, 0, time.perf_counter(), max(plan.budgets)
        for budget in plan.budgets:
            while spent < budget:
                at = time.process_time()
                peer.step(spent / longest)
                spent += time.process_time() - at
                steps += 1
            folder = place / str(budget)
            folder.mkdir(parents=True, exist_ok=True)
            for name, network in peer.weights().items():
                state = {k: v.clone() for k, v in network.state_dict().items()}
                save_file(state, folder / f"{name}.safetensors")
            facts = {
                "cpu_seconds": spent,
                "wall_seconds": time.perf_counter() - begun,
                "steps": steps,
                "images": steps * peer.batch_size * peer.accumulate,
            }
            storage.write_json(folder / "facts.json", facts)
            told(self.name, plan, budget, facts)


System = Ours | Theirs
SYSTEMS: dict[str, System] = {
    "undiffuse": Ours("undiffuse", True),
    "undiffuse-unconditional": Ours("undiffuse-unconditional", False),
    **{name: Theirs(kind) for name, kind in PEERS.items()},
}


def keep(target: Path, x: Tensor, labels: Tensor | None = None) -> None:
    """Store samples as `undiffuse sample` does, whole or not at all."""
    arrays = {"images": pictures.to_bytes(x).numpy()}  # [N, H, W, C]
    if labels is not None:
        arrays["labels"] = labels.numpy()
    temporary = target.with_suffix(".tmp.npz")
    np.savez_compressed(temporary, **arrays)
    temporary.replace(target)
    print(f"  drawn: {target}, {len(x)} samples", flush=True)


def drawn(file: Path) -> tuple[Tensor, Tensor | None]:
    """Samples [N, C, H, W] in [-1, 1] and their labels, where there are any."""
    with np.load(file, allow_pickle=False) as arrays:
        labels = torch.from_numpy(arrays["labels"]) if "labels" in arrays.files else None
        return from_bytes(torch.from_numpy(arrays["images"])), labels


def told(system: str, plan: Plan, budget: int, facts: dict[str, Any]) -> None:
    print(
        f"  {system} on {Path(plan.data).stem}: {facts['steps']} steps in"
        f" {facts['cpu_seconds']:.0f} of {budget} CPU-seconds",
        flush=True,
    )


# ------------------------------------------------------------------ scores


def score(plan: Plan, system: System, dataset: Dataset, out: Path) -> None:
    """Score all samples of a system, and draw 100 of the last and better ones."""
    from undiffuse.evaluation.distribution import Reference
    from undiffuse.evaluation.features import kept

    features = kept(dataset, plan.work / Path(plan.data).stem / "judge")
    reference, budgets = Reference(dataset, features), {}
    best: tuple[float, Tensor] = (float("inf"), torch.empty(0))
    for budget in plan.budgets:
        place, scores = plan.place(system.name) / str(budget), {}
        for file in sorted(place.glob("*.npz")):
            made, labels = drawn(file)
            few = min(plan.num, len(made))
            for num in sorted({few, len(made)}):
                figures = reference.figures(made[:num])
                if labels is not None:
                    right = features.predict(made[:num]) == labels[:num]
                    figures["recognised"] = float(right.double().mean())
                scores[f"{file.stem} {num}"] = figures
            frechet = scores[f"{file.stem} {few}"]["frechet"]["generated"]
            if budget == max(plan.budgets) and frechet < best[0]:
                best = (frechet, made[:100])
        facts = storage.read_json(place / "facts.json")
        budgets[str(budget)] = {**facts, "scores": scores}
    from importlib.metadata import version

    record = {
        "system": system.name,
        "version": version(system.library),
        "torch": str(torch.__version__),
        "recipe": system.recipe_of(plan),
        "calls": plan.calls if isinstance(system, Theirs) else None,
        "conditional": system.conditional,
        "data": Path(plan.data).stem,
        "judge_accuracy": features.accuracy,
        "convolution_gflops": round(convolution_speed()),
        "budgets": budgets,
    }
    name = f"{record['data']}-{system.name}"
    out.mkdir(parents=True, exist_ok=True)
    storage.write_json(out / f"{name}.json", record)
    pictures.save(pictures.grid(best[1], 10, 1), out / f"{name}.png")


# ------------------------------------------------------------------ tables


def tables(records: list[dict[str, Any]]) -> Iterator[str]:
    """A table for each data set and for each number of samples, below the curves of them all."""
    yield from ("", "![Distance over CPU-seconds](time_to_quality/curves.png)")
    for data in dict.fromkeys(r["data"] for r in records):
        mine = [r for r in records if r["data"] == data]
        yield from ("", f"## {data}", "")
        yield f"The judge names {100 * mine[0]['judge_accuracy']:.1f} % of real samples rightly."
        counts = {
            int(k.split()[-1]) for r in mine for b in r["budgets"].values() for k in b["scores"]
        }
        for num in sorted(counts):
            yield from ("", f"### {num:,} samples", "", *table(mine, num))
        for record in mine:
            name = f"{data}-{record['system']}"
            yield from ("", f"![100 samples of {name}](time_to_quality/{name}.png)")
            yield from (
                "",
                f"*{record['system']} {record['version']}: {record['recipe']}.{where(record)}*",
            )


def where(record: dict[str, Any]) -> str:
    """How quick the machine was, if that was measured."""
    speed = record.get("convolution_gflops")
    return f" A machine whose convolutions reach {speed} GFLOP/s." if speed else ""


def table(records: list[dict[str, Any]], num: int) -> Iterator[str]:
    head = "| system | weights | CPU-seconds | steps | Fréchet | precision | recall | recognised |"
    yield from (head, "|" + "---|" * 8)
    floor: dict[str, Any] = {}
    for record in records:
        for asked, budget in record["budgets"].items():
            for key, figures in budget["scores"].items():
                variant, _, count = key.rpartition(" ")
                if int(count) != num:
                    continue
                floor = figures
                cells = [
                    record["system"], variant, asked, f"{budget['steps']:,}",
                    *(f"{figures[m]['generated']:.{d}f}" for m, d in SHOWN),
                    f"{100 * figures['recognised']:.1f} %" if "recognised" in figures else "",
                ]  # fmt: skip
                yield "| " + " | ".join(cells) + " |"
    if floor:
        spread = [" to ".join(f"{floor[m]['real'][k]:.{d}f}" for k in ENDS) for m, d in SHOWN]
        yield "| *held-out real samples* | | | | " + " | ".join(spread) + " | |"


SHOWN = (("frechet", 2), ("precision", 3), ("recall", 3))
ENDS = ("smallest", "largest")


# ------------------------------------------------------------------ the command


def present() -> list[str]:
    """The systems whose library is here."""
    from peer_networks import networks

    _, versions, missing = networks(1, 28)
    if missing:
        print(f"missing: {', '.join(dict.fromkeys(missing))}; `make peers` installs them")
    return [n for n, s in SYSTEMS.items() if s.library == "undiffuse" or s.library in versions]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, metavar="NAME",
                        help=f"of {', '.join(SYSTEMS)} (default: all that are here)")  # fmt: skip
    parser.add_argument("--data", nargs="+", default=["digits"], help="names or .npz files")
    parser.add_argument("--budgets", nargs="+", type=int, default=[10], help="CPU-seconds")
    parser.add_argument("--num", type=int, default=500, help="samples of a peer")
    parser.add_argument("--many", type=int, default=5000, help="samples of ours")
    parser.add_argument("--calls", type=int, default=50, help="network calls of a peer's sampler")
    parser.add_argument("--weights", nargs="+", choices=("raw", "ema"), default=("raw", "ema"),
                        help="draw samples of these (default: both)")  # fmt: skip
    parser.add_argument("--recipe", help="ours (default: of the data's name, or mnist)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("runs/time_to_quality"))
    parser.add_argument("--out", type=Path, metavar="DOCS", help="the folder of the documentation")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    systems = options.systems or present()
    out = (
        options.work / "results" if options.out is None else options.out / "results/time_to_quality"
    )
    for data in options.data:
        own = Path(data).stem.replace("_", "-")
        recipe = options.recipe or (own if own in shelf.shipped() else "mnist")
        budgets = tuple(sorted(set(options.budgets)))
        plan = Plan(
            data, budgets, options.num, options.many, options.calls, tuple(options.weights),
            recipe, options.work,
        )  # fmt: skip
        if options.alone:
            SYSTEMS[systems[0]].run(plan)
            continue
        for name in systems:
            print(f"{name} on {Path(data).stem}", flush=True)
            once(options, data, name)
            score(plan, SYSTEMS[name], open_data(data), out)
    if not options.alone:
        report(out, options.out)


def once(options: argparse.Namespace, data: str, system: str) -> None:
    """Train and sample one system in a process of its own."""
    words = [sys.executable, __file__, "--alone", "--systems", system, "--data", data]
    words += ["--budgets", *map(str, options.budgets), "--weights", *options.weights]
    for flag in ("num", "many", "calls", "recipe", "threads", "work"):
        if getattr(options, flag) is not None:
            words += [f"--{flag}", str(getattr(options, flag))]
    quiet = {"OMP_WAIT_POLICY": "PASSIVE", "TQDM_DISABLE": "1"}  # waiting costs no CPU-seconds
    threads = {"OMP_NUM_THREADS": str(options.threads)}
    subprocess.run(words, check=True, env={**os.environ, **threads, **quiet})


def report(out: Path, docs: Path | None) -> None:
    """The tables of all records that are there."""
    order = list(SYSTEMS)
    records = [json.loads(f.read_text(encoding="utf-8")) for f in out.glob("*.json")]
    records.sort(key=lambda r: (r["data"] != "mnist", r["data"], order.index(r["system"])))
    text = "\n".join(tables(records)) + "\n"
    quality_curves.draw(records, out / "curves.png")
    if docs is None:
        print(text)
        return
    write_below(docs / "results" / "time_to_quality.md", MARK, text, HEAD)


if __name__ == "__main__":
    main()
