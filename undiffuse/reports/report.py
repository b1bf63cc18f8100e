"""The page of a run: one self-contained HTML file that shows what was learned, and how well.

It holds the exercise every course on diffusion asks for (noising, denoising, samples by class, the
loss), the figures, the settings and the commands that repeat it. Pictures are written into the
page; it asks for nothing from outside, runs no script, and can be printed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

import undiffuse
from undiffuse import storage
from undiffuse.data.dataset import Dataset
from undiffuse.errors import UndiffuseError
from undiffuse.evaluation import evaluate
from undiffuse.model import Model, load
from undiffuse.reports import charts, repeat, sections
from undiffuse.training import recipe as recipes
from undiffuse.training.run import Run

FILE = "report.html"
Pairs = list[tuple[str, str]]


def write_report(
    run: str | os.PathLike[str], device: str = "cpu", *, data: Dataset | None = None
) -> Path:
    """Write report.html into a run and return its path.

    Args:
        run: the run directory; an interrupted run will do, from its first checkpoint on.
        device: where to sample.
        data: what the run was trained on, where it was given in Python.

    Raises:
        UndiffuseError: no run or no checkpoint there, or the page cannot be written.
    """
    path = Path(run)
    page = render(**gather(path, device, data))
    file, temporary = path / FILE, path / f".{FILE}.tmp"
    try:
        # The name of the data may be any bytes.
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UndiffuseError(f"cannot write {file}: {error.strerror or error}") from error
    return file


def gather(path: Path, device: str = "cpu", data: Dataset | None = None) -> dict[str, Any]:
    """Everything the page shows, by the names that its template uses."""
    run = Run(path)
    run.read_config()  # refuses what is no run
    model = load(path).to(device)
    notes = [f"A damaged checkpoint was passed over: {skipped}." for skipped in model.skipped]
    if data is None:
        try:
            data = evaluate.training_data(path)
        except UndiffuseError as error:
            notes.append(f"Real data is missing from this page: {error}.")
    metrics = list(run.metrics())
    drawn = sections.draw(model)
    images = len(model.shape) == 3
    samples = torch.cat([x for _, x in drawn])
    measured = _evaluation(path, model, notes)
    near = (measured or {}).get("neighbours")
    if near is None and data is not None:
        near = evaluate.near(samples, data)
    table = recipes.load_toml(run.config)
    return {
        "name": path.resolve().name,
        "version": undiffuse.__version__,
        "notes": notes,
        "vectors": not images,
        "classes": model.classes,
        "shown": len(drawn),
        "guidance": model.sampling["guidance"],
        "guide": str(model.usual_guides()),
        "samples": sections.rows(drawn, model.data["class_names"], data),
        "figures": {
            "Quality": _quality(measured),
            "Training": _training(metrics),
            "Model": _model(model),
            "Data": _data(model.data),
        },
        "evaluated": measured,
        "neighbours": _distances(near),
        "closest": sections.closest(samples, data) if images and data is not None else [],
        "chart": charts.loss_chart([m["step"] for m in metrics], [m["loss"] for m in metrics]),
        "growth": sections.while_training(path, not images),
        "forward": [] if data is None else sections.forward(model.denoiser.schedule, data),
        "reverse": sections.reverse(model),
        "settings": repeat.rooms(table),
        "description": table.get("description", ""),
        "commands": repeat.commands(path, float(model.data["std"]), model.classes),
        "from_memory": table.get("run", {}).get("data", repeat.MEMORY) == repeat.MEMORY,
    }


def render(**page: Any) -> str:
    """The page as HTML; everything that is not made here is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("undiffuse.reports", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja").render(page)


def _evaluation(path: Path, model: Model, notes: list[str]) -> dict[str, Any] | None:
    """The figures of evaluation.json, where they are those of this model."""
    file = path / evaluate.FILE
    if not file.is_file():
        return None
    figures: dict[str, Any] = storage.read_json(file)
    if figures.get("model") != model.digest:
        notes.append(
            f"{evaluate.FILE} belongs to other weights than these; evaluate the run again."
        )
        return None
    return figures


def _quality(figures: dict[str, Any] | None) -> Pairs:
    if figures is None:
        return []
    pairs = []
    if figures["recognised"] is not None:
        pairs = [
            ("recognised as asked", f"{100 * figures['recognised']:.1f} %"),
            ("judge on real samples", f"{100 * figures['judge_accuracy']:.1f} %"),
        ]
    if figures["energy"] is not None:
        pairs += [
            ("energy distance", f"{figures['energy']['generated']:.2g}"),
            ("between real samples", f"{figures['energy']['real']:.2g}"),
        ]
    around = figures.get("guide") or ""
    sampling = f"{figures['sampler']}, {figures['steps']} steps{', ' * bool(around)}{around}"
    speed = figures["num"] / max(figures["sampling_seconds"], 1e-9)
    return [
        *pairs,
        ("measured on", f"{figures['num']:,} samples"),
        ("drawn by", sampling),
        ("samples per second", f"{speed:,.0f}" if speed > 10 else f"{speed:.2g}"),
    ]


def _training(metrics: list[dict[str, Any]]) -> Pairs:
    if not metrics:
        return []
    last, seconds = metrics[-1], sum(m["seconds"] for m in metrics)
    tail = metrics[-max(1, len(metrics) // 20) :]
    return [
        ("steps", f"{last['step']:,} of {last['steps']:,}"),
        ("samples seen", f"{last['images']:,}"),
        ("minutes", f"{seconds / 60:.1f}"),
        ("samples per second", f"{last['images'] / max(seconds, 1e-9):,.0f}"),
        (f"loss, last {len(tail)} steps", f"{sum(m['loss'] for m in tail) / len(tail):.4g}"),
    ]


def _model(model: Model) -> Pairs:
    network = model.denoiser.network
    count = sum(p.numel() for p in network.parameters())
    return [
        ("network", str(getattr(network, "name", type(network).__name__))),
        ("parameters", f"{count:,}"),
        ("prediction", model.denoiser.prediction.name),
        ("schedule", model.denoiser.schedule.name),
        ("sampling", f"{model.sampling['sampler']}, {model.sampling['steps']} steps"),
        ("digest", model.digest[:12]),
    ]


def _data(facts: dict[str, Any]) -> Pairs:
    return [
        ("source", str(facts["source"])),
        ("samples", f"{facts['count']:,}"),
        ("held out", f"{facts['held_out']:,}"),
        ("shape", " × ".join(map(str, facts["shape"]))),
        ("classes", str(facts["classes"] or "no labels")),
        ("standard deviation", f"{facts['std']:.3g}"),
    ]


def _distances(near: dict[str, Any] | None) -> list[tuple[str, list[str]]]:
    """Rows of the table of distances: whose, and smallest, quartiles."""
    names = {
        "generated": "generated samples",
        "held_out": "held-out real samples",
        "training": "training samples to each other",
    }
    order = ("smallest", "first_quartile", "median", "third_quartile")
    return [
        (words, [f"{near[key][column]:.3g}" for column in order])
        for key, words in names.items()
        if near and near.get(key)
    ]
