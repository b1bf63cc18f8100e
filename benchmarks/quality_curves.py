"""The picture of `time_to_quality.py`: distance to the data over CPU-seconds, a line a system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

COLOURS = {
    "undiffuse": "#d65a28",
    "undiffuse-unconditional": "#8a2f6b",
    "denoising-diffusion-pytorch": "#8fb4d6",
    "denoising-diffusion-pytorch-quick": "#2f6fa8",
    "diffusers": "#97cfab",
    "diffusers-quick": "#3c9a5f",
    "smalldiffusion": "#c4c47f",
    "smalldiffusion-quick": "#8a8a2a",
    "azula": "#5b5b5b",
}
TICKS = (60, 120, 240, 600, 1200, 2400)

Record = dict[str, Any]


def curve(record: Record, num: int) -> tuple[list[float], list[float], Record]:
    """CPU-seconds, Fréchet distances of `num` samples, and the distances of as many real ones.

    Ours are without guidance and of averaged weights, a peer's of its better ones.
    """
    seconds, distances, real = [], [], {}
    for budget in record["budgets"].values():
        scores = {
            k.rpartition(" ")[0]: v for k, v in budget["scores"].items() if k.endswith(f" {num}")
        }
        own = [scores[name] for name in ("guidance-1", "ema") if name in scores]
        shown = own[:1] if record["system"].startswith("undiffuse") else list(scores.values())
        if shown:
            best = min((figures["frechet"] for figures in shown), key=lambda f: f["generated"])
            seconds.append(budget["cpu_seconds"])
            distances.append(best["generated"])
            real = best["real"]
    return seconds, distances, real


def counts(records: list[Record]) -> list[int]:
    """The numbers of samples that any system was scored on, smallest first."""
    keys = (key for r in records for b in r["budgets"].values() for key in b["scores"])
    return sorted({int(key.split()[-1]) for key in keys})


def draw(records: list[Record], target: Path) -> None:
    """One panel for each data set; real held-out samples are a band."""
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9.5})
    sets = list(dict.fromkeys(r["data"] for r in records))
    figure, axes = plt.subplots(1, len(sets), figsize=(6.2 * len(sets), 5), squeeze=False)
    legend: dict[str, Any] = {}
    for axis, data in zip(axes[0], sets, strict=True):
        mine = [r for r in records if r["data"] == data]
        for num, style, shade in zip(counts(mine), ("-", "--"), ("0.9", "0.75"), strict=False):
            for record in mine:
                seconds, distances, real = curve(record, num)
                if not seconds:
                    continue
                label = record["system"] + ("" if style == "-" else f", {num:,} samples")
                looks = {"color": COLOURS.get(record["system"]), "lw": 1.5, "ms": 4}
                (legend[label],) = axis.plot(seconds, distances, f"o{style}", **looks)
                ends = (real["smallest"], real["largest"])
            label = f"{num:,} held-out real samples"
            legend[label] = axis.axhspan(*ends, color=shade, lw=0, zorder=0)
        axis.set(title=data, xscale="log", yscale="log", xlabel="CPU-seconds of training")
        axis.set_xticks(TICKS, map(str, TICKS))
        axis.minorticks_off()
    axes[0, 0].set_ylabel("Fréchet distance (500 samples; dashed: 5,000)")
    figure.legend(
        legend.values(), legend.keys(), loc="lower center", ncols=3, frameon=False, fontsize=8.5
    )
    figure.tight_layout(rect=(0, 0.15, 1, 1))
    figure.savefig(target, dpi=110)
    plt.close(figure)
