"""`undiffuse doctor`."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from tyro.conf import arg

import undiffuse
from undiffuse.cli.verb import Machine, Verb
from undiffuse.training import recipe as recipes

if TYPE_CHECKING:
    import torch

PACKAGES = ("numpy", "pillow", "safetensors", "scikit-learn", "tyro", "rich")
FAST = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "avx512_fp16", "amx_fp16", "asimd", "bf16")
THREADS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "MKL_NUM_THREADS")
VARIABLES = (*THREADS, "CUDA_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Doctor(Verb):
    """Show what a bug report needs: versions, device, threads, speed, disk, recipes."""

    name: ClassVar[str] = "doctor"
    examples: ClassVar[tuple[str, str]] = (
        "undiffuse doctor",
        "undiffuse doctor --threads 1 --precision bfloat16",
    )

    machine: Annotated[Machine, arg(name="")] = field(default_factory=Machine)

    def run(self) -> int:
        device = self.machine.ready()
        for name, value in self._facts(device):
            print(f"{name:<12}{value}")
        return 0

    def _facts(self, device: torch.device) -> Iterator[tuple[str, str]]:
        import torch

        yield "undiffuse", f"{undiffuse.__version__} in {Path(undiffuse.__file__).parent}"
        yield "python", f"{platform.python_version()}, {platform.platform()}"
        yield "torch", f"{torch.__version__}, CUDA {torch.version.cuda or 'not built in'}"
        yield "packages", ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
        count = torch.cuda.device_count()
        yield "CUDA", ", ".join(map(torch.cuda.get_device_name, range(count))) or "no device"
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        yield "CPU", f"{cores} cores, {torch.backends.cpu.get_cpu_capability()}, {_flags()}"
        yield "threads", str(torch.get_num_threads())
        precision = self.machine.precision or "float32"
        speed = _speed(device, getattr(torch, precision))
        yield "speed", f"{speed:.0f} GFLOP/s in matrix products, {precision} on {device}"
        yield "disk", f"{shutil.disk_usage('.').free / 1e9:.1f} GB free here"
        given = {name: os.environ[name] for name in VARIABLES if name in os.environ}
        yield "variables", " ".join(f"{k}={v}" for k, v in given.items()) or "none"
        yield "recipes", ", ".join(recipes.shipped())


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def _flags() -> str:
    """What the processor can do fast, where the system tells (Linux)."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "instructions unknown"
    flags = {
        flag
        for line in lines
        if line.lower().startswith(("flags", "features"))
        for flag in line.split()
    }
    return " ".join(flag for flag in FAST if flag in flags) or "no fast instructions"


def _speed(
    device: torch.device, dtype: torch.dtype, edge: int = 512, seconds: float = 0.2
) -> float:
    """Products of two matrices [edge, edge] in 10^9 operations per second."""
    import torch

    a = torch.ones(edge, edge, device=device, dtype=dtype)
    float((a @ a).sum())  # the first one also loads libraries
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        float((a @ a)[0, 0])  # waits for the device
        done += 1
    return 2 * edge**3 * done / (time.perf_counter() - begun) / 1e9
