"""The samplers of other libraries, each through its own public interface, from noise to sigma 0.

Every entry is `run(D, z, n)`: D(y, sigma) is the denoiser with alpha = 1, z standard normal noise
in float64, n the number of calls. It starts from high z, makes its last call at sigma = low and
returns x_0. Libraries that stop at low are given n - 1 calls and one denoising call after them. A
method of two calls a step takes as many steps as fit. `make peers` installs the libraries; what is
missing is left out.

    python benchmarks/peers.py      which libraries are here
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
import types
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import NamedTuple
from unittest.mock import MagicMock

import torch
from torch import Tensor

Denoise = Callable[[Tensor, object], Tensor]
Run = Callable[[Denoise, Tensor, int], Tensor]


class Ends(NamedTuple):
    """The first noise level and the last one before 0."""

    high: float
    low: float

    def levels(self, n: int, rho: float | None = 7.0) -> Tensor:
        """n noise levels, Karras' or geometric, and 0 after them, float64."""
        along = torch.linspace(0, 1, n, dtype=torch.float64)
        if rho is None:
            made = self.high * (self.low / self.high) ** along
        else:
            first, last = self.high ** (1 / rho), self.low ** (1 / rho)
            made = (first + along * (last - first)) ** rho
        return torch.cat([made, made.new_zeros(1)])


def library(name: str, part: str) -> types.ModuleType:
    """The module `part` of a library, without what the library's __init__ imports.

    Those of k_diffusion and smalldiffusion ask for data sets and metrics that no sampler uses;
    torchvision, which k_diffusion.utils names for pictures, is a stub while the part is imported.
    """
    if name not in sys.modules:
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise ImportError(name)
        package = types.ModuleType(name)
        package.__path__ = list(spec.submodule_search_locations or ())
        sys.modules[name] = package
    stubs = ["torchvision", "torchvision.transforms"]
    stubs = [stub for stub in stubs if stub not in sys.modules]
    sys.modules.update({stub: MagicMock() for stub in stubs})
    try:
        return importlib.import_module(f"{name}.{part}")
    finally:
        for stub in stubs:
            del sys.modules[stub]


def k_diffusion(ends: Ends) -> dict[str, Run]:
    k, (high, low) = library("k_diffusion", "sampling"), ends

    def run(name: str, rho: float | None, cost: int, **options: object) -> Run:
        def go(D: Denoise, z: Tensor, n: int) -> Tensor:
            def model(x: Tensor, sigma: Tensor) -> Tensor:
                return D(x, sigma[0])

            levels = ends.levels(1 + (n - 1) // cost, rho)
            sampler = getattr(k, name)
            return sampler(model, z * levels[0], levels, disable=True, **options)

        return go

    def fast(D: Denoise, z: Tensor, n: int) -> Tensor:
        def model(x: Tensor, sigma: Tensor) -> Tensor:
            return D(x, sigma[0])

        near = k.sample_dpm_fast(model, z * high, low, high, n - 1, disable=True)
        return D(near, low)

    quiet: dict[str, object] = {"eta": 0.0, "noise_sampler": lambda a, b: 0.0}
    rules: dict[str, tuple[int, dict[str, object]]] = {
        "sample_euler": (1, {}),
        "sample_heun": (2, {}),
        "sample_dpm_2": (2, {}),
        "sample_lms": (1, {}),
        "sample_dpmpp_2s_ancestral": (2, quiet),
        "sample_dpmpp_2m": (1, {}),
        "sample_dpmpp_2m_sde": (1, quiet),
        "sample_dpmpp_3m_sde": (1, quiet),
    }
    found = {
        f"{name}{', eta 0' if options else ''}, {grid}": run(name, rho, cost, **options)
        for name, (cost, options) in rules.items()
        for grid, rho in (("karras", 7.0), ("exponential", None))
    }
    return {**found, "sample_dpm_fast + last denoise": fast}


def azula(ends: Ends) -> dict[str, Run]:
    a, (high, low) = importlib.import_module("azula"), ends

    class Karras(a.noise.Schedule):
        def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
            root = low ** (1 / 7) + t * (high ** (1 / 7) - low ** (1 / 7))
            return torch.ones_like(t), root**7

    class Given(a.denoise.Denoiser):
        def __init__(self, D: Denoise, schedule: object) -> None:
            super().__init__()
            self.D, self.schedule = D, schedule

        def forward(self, x_t: Tensor, t: Tensor, **_: object) -> object:
            alpha, sigma = self.schedule(t)
            return a.denoise.DiracPosterior(self.D(x_t / alpha, sigma / alpha))

    def run(name: str, schedule: object, cost: int, **options: object) -> Run:
        def go(D: Denoise, z: Tensor, n: int) -> Tensor:
            options.update(steps=(n - 1) // cost, silent=True, dtype=torch.float64)
            sampler = getattr(a.sample, name)(Given(D, schedule), **options)
            return D(sampler(z * high), low)

        return go

    rules = {"DDIMSampler": (0,), "HeunSampler": (0,), "zABSampler": (2, 3), "vABSampler": (2, 3)}
    rules |= {"zEABSampler": (2, 3, 4), "xEABSampler": (2, 3), "REABSampler": (3,)}
    return {
        f"{name}{f' order {p}' if p else ''}, {grid}, + last denoise": run(
            name, schedule, 2 if name == "HeunSampler" else 1, **({"order": p} if p else {})
        )
        for name, orders in rules.items()
        for p in orders
        for grid, schedule in (("VESchedule", a.noise.VESchedule(low, high)), ("karras", Karras()))
    }


def smalldiffusion(ends: Ends) -> dict[str, Run]:
    accelerator = importlib.import_module("accelerate").Accelerator(cpu=True)
    s, mixin = library("smalldiffusion", "diffusion"), library("smalldiffusion", "model").ModelMixin

    class Given(torch.nn.Module, mixin):
        def __init__(self, D: Denoise, shape: torch.Size) -> None:
            super().__init__()
            self.D, self.input_dims = D, shape

        def forward(self, x: Tensor, sigma: Tensor, cond: object = None) -> Tensor:
            return (x - self.D(x, sigma)) / sigma

    def run(rho: float | None, gam: float) -> Run:
        def go(D: Denoise, z: Tensor, n: int) -> Tensor:
            x, model = z * ends.high, Given(D, z.shape[1:])
            *_, x = s.samples(model, ends.levels(n, rho), gam, xt=x, accelerator=accelerator)
            return x

        return go

    return {
        f"samples, gam {gam}, {grid}": run(rho, gam)
        for gam in (1, 2)
        for grid, rho in (("karras", 7.0), ("exponential", None))
    }


def small_and_free(z: Tensor, n: int) -> Callable[[], list[Tensor]]:
    """smalldiffusion's loop with a network of its own kind that costs nothing, eps_hat = x / 2."""
    accelerator = importlib.import_module("accelerate").Accelerator(cpu=True)
    s, mixin = library("smalldiffusion", "diffusion"), library("smalldiffusion", "model").ModelMixin

    class Free(torch.nn.Module, mixin):
        input_dims = z.shape[1:]

        def forward(self, x: Tensor, sigma: Tensor, cond: object = None) -> Tensor:
            return x / 2

    model, levels = Free(), Ends(80.0, 0.01).levels(n)
    return lambda: list(s.samples(model, levels, xt=z, accelerator=accelerator))


def diffusers(ends: Ends) -> dict[str, Run]:
    """The denoiser is told the scheduler's own sigma, not the rounded timestep.

    The table of 1,000 levels is geometric between the ends, through `trained_betas`. Schedulers
    that end at sigma_min make their last call there: its x_0 is the end.
    """
    d, (high, low) = importlib.import_module("diffusers"), ends
    table = low * (high / low) ** torch.linspace(0, 1, 1000, dtype=torch.float64)
    kept = 1 / (1 + table**2)  # alpha^2
    betas = (1 - kept / torch.cat([kept.new_ones(1), kept[:-1]])).tolist()

    def run(name: str, cost: int = 1, **options: object) -> Run:
        edm, scaled = name.startswith("EDM"), name[:3] in {"EDM", "Eul", "Heu", "LMS"}
        span: dict[str, object] = {"sigma_min": low, "sigma_max": high}

        def go(D: Denoise, z: Tensor, n: int) -> Tensor:
            base = span if edm else {"trained_betas": betas}
            scheduler = getattr(d, name)(**base, **options)
            scheduler.set_timesteps(1 + (n - 1) // cost)
            x, x0_hat = z, z
            for i, t in enumerate(scheduler.timesteps):
                sigma = float(scheduler.sigmas[i])
                h = 1.0 if scaled else math.hypot(1.0, sigma)  # x = y / h
                if i == 0:
                    x = z * sigma / h
                scheduler.scale_model_input(x, t)
                y = x * h
                x0_hat = D(y, sigma)
                if edm:
                    data = scheduler.config.sigma_data
                    out_scale = sigma * data / math.hypot(sigma, data)
                    out = (x0_hat - data**2 / (sigma**2 + data**2) * y) / out_scale
                else:
                    out = (y - x0_hat) / sigma
                x = scheduler.step(out, t, x).prev_sample
            return x if float(scheduler.sigmas[-1]) == 0 else x0_hat

        return go

    multi, exponential = "MultistepScheduler", {"use_exponential_sigmas": True}
    karras: dict[str, object] = {"use_karras_sigmas": True}
    lu: dict[str, object] = {"use_lu_lambdas": True}
    found = {
        "EDMEuler": run("EDMEulerScheduler"),
        "Heun karras": run("HeunDiscreteScheduler", 2, **karras),
        "LMS karras": run("LMSDiscreteScheduler", **karras),
        "LMS exponential": run("LMSDiscreteScheduler", **exponential),
    }
    for p in (2, 3):
        edm = "EDMDPMSolverMultistepScheduler"
        found[f"EDM-DPM++{p}M karras"] = run(edm, solver_order=p)
        found[f"EDM-DPM++{p}M exponential"] = run(edm, solver_order=p, sigma_schedule="exponential")
        found[f"DPM++{p}M lu-lambdas"] = run(f"DPMSolver{multi}", solver_order=p, **lu)
        for grid, choice in (("karras", karras), ("exponential", exponential)):
            found[f"UniPC-{p} {grid}"] = run(f"UniPC{multi}", solver_order=p, **choice)
            found[f"DEIS-{p} {grid}"] = run(f"DEIS{multi}", solver_order=p, **choice)
    return found


def peers(
    high: float = 80.0, low: float = 0.01
) -> tuple[dict[str, Run], dict[str, str], list[str]]:
    """The samplers by "library: name", the libraries' versions, and the libraries not found."""
    makers = {"azula": azula, "diffusers": diffusers}
    makers |= {"k-diffusion": k_diffusion, "smalldiffusion": smalldiffusion}
    found: dict[str, Run] = {}
    versions, missing = {}, []
    warnings.filterwarnings("ignore")  # theirs
    for name, make in makers.items():
        try:
            found |= {f"{name}: {rule}": run for rule, run in make(Ends(high, low)).items()}
            versions[name] = version(name)
        except ImportError:
            missing.append(name)
    return found, versions, missing


if __name__ == "__main__":
    rules, present, absent = peers()
    for library_name, number in present.items():
        count = sum(rule.startswith(f"{library_name}:") for rule in rules)
        print(f"{library_name} {number}: {count} samplers")
    if absent:
        print(f"missing: {', '.join(absent)}; `make peers` installs them in .venv-peers")
