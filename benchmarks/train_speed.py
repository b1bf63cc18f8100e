"""Images per second of a full training step: our U-Net and other libraries', in turns.

A step is forward, backward, gradient clipping, optimiser and moving average on a batch of images.
Ours is what `undiffuse train` does, with the network and the objective of a recipe and its memory
format and fused optimiser; theirs predict noise with a mean square, the for-loop AdamW that torch
takes by default on a CPU, and an average by one foreach operation, which is the quickest that they
could do. All of them and the bounds take turns within each round, so a machine that is busy
elsewhere slows them alike: read the ratios.

The bounds are the machine's own: a 3x3 convolution of 64 channels in channels_last and a product of
matrices, the best of the same run, in float32 and in bfloat16. Utilisation is GFLOP/s over that of
the convolution. FLOPs are those of products, convolutions and attention.

    make peers
    .venv-peers/bin/python benchmarks/train_speed.py --out docs

--out writes the tables to docs/results/train_speed.md (below its mark; the text above it stays) and
the figures to docs/results/train_speed.json.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded
os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # as the command line has it on a quiet machine

import torch
from bounds import Job, bounds, timed
from pages import write_below
from peer_networks import Network, networks
from torch import Tensor, nn

import undiffuse
from undiffuse import noise, storage
from undiffuse.data.dataset import InMemory
from undiffuse.networks.cost import counting
from undiffuse.training import recipe as recipes
from undiffuse.training.allocator import keep_memory
from undiffuse.training.assemble import make_denoiser, make_objective, measured
from undiffuse.training.loop import State, train_steps

MARK = "<!-- What follows is written by benchmarks/train_speed.py. -->"
HEAD = """# Training speed

Images per second of a full training step: forward, backward, clipping, optimiser, moving average.
All networks and bounds take turns in one process, so the ratios hold even on a busy machine. FLOPs
are those of products, convolutions and attention, forward and backward; utilisation is GFLOP/s over
the best 3x3 convolution of 64 channels that the same run measured. Peers' networks are as large as
their examples suggest for images of this size; how good a network becomes in how long is the
subject of [time to quality](time_to_quality.md).

"""
CLIP, RATE = 1.0, 1e-4


# ------------------------------------------------------------------ steps


def ours(images: Tensor, name: str, precision: str) -> Job:
    """The training loop with a shipped recipe, one step at a time, labels included."""
    labels = torch.arange(len(images)) % 10
    dataset = InMemory(images, labels=labels, class_names=tuple("0123456789"))
    settings = {"training.batch_size": len(images), "training.precision": precision}
    recipe = measured(recipes.read(name).changed(settings), dataset)
    denoiser = make_denoiser(recipe, dataset, 0)
    denoiser.network.to(memory_format=torch.channels_last)
    state, objective = State.new(denoiser, recipe.training), make_objective(recipe)
    loop = train_steps(state, dataset, objective, 10**6, 0, recipe.training, recipe.data)

    def loss() -> Tensor:
        u = noise.uniform(0, "time", len(images))
        eps = noise.normal(0, "noise", images.shape)
        return objective.loss(denoiser, images, u, eps, label=labels).mean()

    return Job(lambda: next(loop), flops(loss), count(denoiser.network))


def theirs(images: Tensor, network: Network, precision: str) -> Job:
    """A peer's network in the step that its users write."""
    model = network.make().train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    average = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=RATE)
    kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)  # alpha^2

    def loss() -> Tensor:
        t, eps = torch.randint(0, 1000, (len(images),)), torch.randn_like(images)
        share = kept[t].reshape(-1, 1, 1, 1)
        x_t = share.sqrt() * images + (1 - share).sqrt() * eps
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            out = network.call(model, x_t, t)
        return nn.functional.mse_loss(out.float(), eps)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 1e-3)

    return Job(step, flops(loss), count(model))


def flops(loss: Callable[[], Tensor]) -> int:
    """Of a forward and a backward pass."""
    with counting() as counter:
        loss().backward()
    return int(counter.get_total_flops())


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


# ------------------------------------------------------------------ the tables


def measure(options: argparse.Namespace, shape: tuple[int, int], precision: str) -> dict[str, Any]:
    """All figures of one shape of images and one precision."""
    channels, size = shape
    images = torch.rand(options.batch, channels, size, size) * 2 - 1
    others, versions, _ = networks(channels, size)
    jobs = {f"undiffuse, recipe {name}": ours(images, name, precision) for name in options.recipes}
    jobs |= {name: theirs(images, network, precision) for name, network in others.items()}
    peak = bounds(precision)
    found = timed({**jobs, **peak}, options.rounds)
    best = {name: job.flops / found[name].least / 1e9 for name, job in peak.items()}
    convolution = best[f"convolution {precision}"]
    rows = {}
    for name, job in jobs.items():
        speed = job.flops / found[name].median / 1e9
        rows[name] = {
            "parameters": job.parameters,
            "gflop_per_image": job.flops / options.batch / 1e9,
            "seconds": found[name].median,
            "least_seconds": found[name].least,
            "images_per_second": options.batch / found[name].median,
            "gflop_per_second": speed,
            "utilisation": speed / convolution,
        }
    return {
        "image": [channels, size, size],
        "precision": precision,
        "rows": rows,
        "bounds": best,
        "versions": versions,
    }


def tables(record: dict[str, Any]) -> Iterator[str]:
    head = (
        "| network | M parameters | GFLOP per image | images/s | ratio to the best peer U-Net |"
        " GFLOP/s | of the convolution's peak |"
    )
    for part in record["parts"]:
        rows, (channels, size, _) = part["rows"], part["image"]
        peers = [v["images_per_second"] for k, v in rows.items() if "net" in k.lower()]
        yield f"## {size}x{size}x{channels}, {part['precision']}"
        yield from ("", head, "|" + "---|" * 7)
        for name, row in rows.items():
            ratio = f"{row['images_per_second'] / max(peers):.2f}" if peers else ""
            yield (
                f"| {name} | {row['parameters'] / 1e6:.2f} | {row['gflop_per_image']:.3f}"
                f" | {row['images_per_second']:.0f} | {ratio} | {row['gflop_per_second']:.0f}"
                f" | {100 * row['utilisation']:.0f} % |"
            )
        for name, speed in part["bounds"].items():
            yield f"| *bound: {name}* | | | | | {speed:.0f} | |"
        yield ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="DOCS", help="the folder of the documentation")
    parser.add_argument("--recipes", nargs="+", default=["mnist"], help="ours")
    parser.add_argument("--shapes", nargs="+", default=["1x28"], help="CHANNELSxSIZE")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    keep_memory()
    _, versions, missing = networks(1, 28)
    if missing:
        print(f"missing: {', '.join(dict.fromkeys(missing))}; `make peers` installs them")
    shapes = [tuple(map(int, text.split("x"))) for text in options.shapes]
    record = {
        "batch": options.batch,
        "threads": options.threads,
        "rounds": options.rounds,
        "versions": {"undiffuse": undiffuse.__version__, "torch": torch.__version__, **versions},
        "parts": [measure(options, s, p) for s in shapes for p in options.precisions],
    }
    text = "\n".join(tables(record))
    if options.out is None:
        print(text)
        return
    page = options.out / "results" / "train_speed.md"
    libraries = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    machine = (
        f"Python {platform.python_version()}, {libraries}. {platform.machine()},"
        f" {options.threads} threads, batches of {options.batch}, {options.rounds} rounds."
    )
    write_below(page, MARK, f"\n{machine}\n\n{text}", HEAD)
    storage.write_json(page.with_suffix(".json"), record)


if __name__ == "__main__":
    main()
