r"""The figures of a run, measured on samples drawn as its recipe says.

    recognised       share of the samples that an independent judge gives the label asked for
    judge_accuracy   the same judge on real samples that it has not seen
    distribution     every metric of `undiffuse.metrics`, beside those of real samples
    neighbours       distances to the nearest training sample, beside those of real samples
    energy           for vectors: the energy distance to real samples, beside that between real ones

Images are compared by the features of a network that knows their labels; it is trained once and
kept in the run (`judge/`). Points are compared as they are. Labels cycle through the classes. What
cannot be measured (labels of unlabelled data) is None.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from undiffuse import storage
from undiffuse.data.dataset import Dataset
from undiffuse.data.open import open_data
from undiffuse.errors import UndiffuseError
from undiffuse.evaluation import classifier, neighbours
from undiffuse.evaluation.distribution import Reference
from undiffuse.evaluation.features import Features, kept, open_features
from undiffuse.evaluation.spread import spread
from undiffuse.metrics.energy import Energy
from undiffuse.model import load
from undiffuse.training.run import Run

FILE, JUDGE = "evaluation.json", "judge"
PRECISIONS = ("float32", "bfloat16", "float16")


def evaluate(
    run: str | os.PathLike[str],
    num: int = 500,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    *,
    precision: str = "float32",
    data: Dataset | None = None,
    judge: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Measure the newest model of a run and keep the figures in its evaluation.json.

    Args:
        run: the run directory.
        num: how many samples.
        seed: of the samples and the judge.
        device: where to sample.
        progress: called with (done, num) while sampling.
        precision: float32, bfloat16 or float16, of the network while sampling.
        data: what the run was trained on, where it was given in Python.
        judge: a folder with the network whose features are compared; made there if it is missing.
            Default: the run's own. Figures of runs on the same data are comparable either way, as
            the network is a function of the data and the seed.

    Raises:
        UndiffuseError: no run or checkpoint there, its data is gone or changed, num < 1, an
            unknown precision, or a judge of images of another shape.
    """
    if num < 1:
        raise UndiffuseError(f"an evaluation needs at least 1 sample, not {num}")
    if precision not in PRECISIONS:
        raise UndiffuseError(f"precision must be one of {', '.join(PRECISIONS)}, not '{precision}'")
    begun, path = time.perf_counter(), Path(run)
    recipe, facts = Run(path).read_config()
    model = load(path)
    training = data if data is not None else training_data(path)
    features = seen(training, path / JUDGE, None if judge is None else Path(judge), seed)
    labels = torch.arange(num) % model.classes if model.classes else None
    dtype, opened = getattr(torch, precision), time.perf_counter()
    with torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32):
        draw = model.to(device).sample  # by the recipe's sampler, also where another was tuned
        rule = recipe.sampling.sampler
        x = draw(num, labels, seed=seed, sampler=rule, progress=progress).cpu()
    sampled = time.perf_counter()
    figures: dict[str, Any] = {
        "num": num,
        "seed": seed,
        "sampler": recipe.sampling.sampler,
        "steps": recipe.sampling.steps,
        "guidance": recipe.sampling.guidance if model.classes else None,
        "guide": str(model.usual_guides()),
        "model": model.digest,
        "data": facts.get("data"),
        **judged(x, labels, training, seed, features),
        "distribution": compared(x, training, features),
        "neighbours": near(x, training),
        "energy": energy(x, training) if len(model.shape) == 1 else None,
        "sampling_seconds": round(sampled - opened, 2),
        "seconds": round(time.perf_counter() - begun, 2),
    }
    keep(path / FILE, figures)
    return figures


def training_data(run: Path) -> Dataset:
    """The data that a run was trained on, opened again and compared with what it was.

    Raises:
        UndiffuseError: it was given in Python, is gone, or has changed.
    """
    recipe, facts = Run(run).read_config()
    if facts.get("data") == "memory":
        raise UndiffuseError(f"the data of {run} was given in Python; pass it again as data=...")
    dataset = open_data(facts["data"], size=recipe.data.size)
    if facts.get("fingerprint") not in {None, dataset.fingerprint()}:
        raise UndiffuseError(
            f"{facts['data']} is not what {run} was trained on: its content has changed; restore"
            " it or train anew"
        )
    return dataset


def seen(training: Dataset, own: Path, given: Path | None, seed: int) -> Features | None:
    """The network whose features are compared; None for points and for images without labels."""
    if given is not None and given.exists():
        return open_features(given)
    labelled = training.labels is not None and len(training.labels.unique()) > 1
    if len(training.shape) != 3 or not labelled:
        return None
    return kept(training, own if given is None else given, seed)


def judged(
    x: Tensor, labels: Tensor | None, training: Dataset, seed: int, features: Features | None
) -> dict[str, Any]:
    """The share of the samples that have the label asked for, and how good the judge is."""
    if labels is None or training.labels is None or len(training.labels.unique()) < 2:
        return {"recognised": None, "judge": None, "judge_accuracy": None}
    if features is not None and features.facts["fingerprint"] != training.fingerprint():
        features = None
    judge = classifier.fit(training, training.held_out, seed, features)
    right = (judge.predict(x) == labels).double().mean()
    return {"recognised": float(right), "judge": judge.kind, "judge_accuracy": judge.accuracy}


def compared(x: Tensor, training: Dataset, features: Features | None) -> dict[str, Any] | None:
    """Every metric of the samples and of held-out real ones; None for images without features."""
    if features is None and len(training.shape) != 1:
        return None
    space = "features" if features is not None else "samples"
    return {"space": space, **Reference(training, features).figures(x)}


def near(x: Tensor, training: Dataset) -> dict[str, Any]:
    """Quartiles of the distance to the nearest training sample: generated, and real ones."""
    which, real = neighbours.unseen(training, len(x))
    made = neighbours.nearest(x, training).quartiles()
    return {"generated": made, "held_out": None, which: real.quartiles()}


def energy(x: Tensor, training: Dataset) -> dict[str, float]:
    """The energy distance of samples to real ones, beside that of as many other real ones."""
    everything = torch.arange(len(training))
    if training.held_out is None:
        real = training.batch(spread(everything[1::2], len(x))).x
        everything = everything[::2]
    else:
        real = training.held_out.batch(spread(torch.arange(len(training.held_out)), len(x))).x
    other = training.batch(spread(everything, len(x))).x
    return {"generated": Energy()(x, real), "real": Energy()(other, real)}


def summary(figures: dict[str, Any]) -> str:
    """The figures in one line.

    >>> quartiles = {"median": 0.31}
    >>> summary({"recognised": None, "neighbours": {"generated": quartiles, "held_out": None,
    ...     "training": {"median": 0.33}}, "energy": None, "num": 500, "steps": 20,
    ...     "sampler": "ddim"})
    'nearest training sample 0.31 (real ones to each other 0.33), 20 steps of ddim'
    """
    parts = []
    if figures["recognised"] is not None:
        parts.append(
            f"recognised {100 * figures['recognised']:.1f} % of {figures['num']}"
            f" (judge on real samples {100 * figures['judge_accuracy']:.1f} %)"
        )
    frechet = (figures.get("distribution") or {}).get("frechet")
    if frechet is not None:
        real = frechet["real"]
        parts.append(
            f"Frechet distance {frechet['generated']:.2f}"
            f" (held-out real {real['smallest']:.2f} to {real['largest']:.2f})"
        )
    if figures["energy"] is not None:
        made, real = figures["energy"]["generated"], figures["energy"]["real"]
        parts.append(f"energy distance {made:.2g} (between real samples {real:.2g})")
    near = figures["neighbours"]
    real = near["held_out"] or near["training"]
    words = "held-out real" if near["held_out"] else "real ones to each other"
    beside = f" ({words} {real['median']:.2g})" if real else ""
    parts.append(f"nearest training sample {near['generated']['median']:.2g}{beside}")
    return ", ".join([*parts, f"{figures['steps']} steps of {figures['sampler']}"])


def keep(file: Path, figures: dict[str, Any]) -> None:
    """Write JSON, replacing the file as a whole.

    Raises:
        UndiffuseError: the place cannot be written.
    """
    temporary = file.with_name(f".{file.name}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        storage.write_json(temporary, figures)
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UndiffuseError(f"cannot write {file}: {error.strerror or error}") from error
