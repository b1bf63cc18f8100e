"""undiffuse: diffusion models, whole.

A schedule fixes x_t = alpha(t) x_0 + sigma(t) eps for t in [0, 1]. A denoiser under that schedule
returns E[x_0 | x_t]. Everything else makes a denoiser, trains one, or uses one.

    import undiffuse as ud
    schedule = ud.schedules.VP()
    oracle = ud.exact.GaussianMixture(means, weights, schedule, std=0.1)
    samples = ud.sample(oracle, shape=(16, 2), steps=20, seed=0)

Names are opened when they are first used (PEP 562): importing the package imports nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_ROOMS = (
    *("catalogue", "cli", "covariance", "data", "denoiser", "derivatives", "errors"),
    *("evaluation", "exact", "grids"),
    *("guidance", "likelihood", "metrics", "model", "networks", "noise", "objectives"),
    *("predictions", "process"),
    *("reports", "samplers", "schedules", "sde", "training"),
)
_NAMES = {
    "UndiffuseError": "errors",
    "Denoiser": "denoiser",
    "Learned": "denoiser",
    "Objective": "objectives.objective",
    "sample": "samplers.loop",
    "train": "training.train",
    "load": "model",
    "load_classifier": "classifier",
    "Model": "model",
}
__all__ = ["__version__", *_NAMES, *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"undiffuse.{_NAMES[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"undiffuse.{name}")
    raise AttributeError(f"module 'undiffuse' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
