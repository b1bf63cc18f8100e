"""Networks compiled by `torch.compile`: the same weights and options, a quicker forward."""

from __future__ import annotations

import copy
import functools
import importlib.util
import os
import shutil
import sys
from typing import Any, TypeVar

import torch
from torch import nn

from undiffuse.errors import RunFailed, UndiffuseError

Network = TypeVar("Network", bound=nn.Module)
Owner = TypeVar("Owner", bound=nn.Module)


def compiled(network: Network, backend: str = "inductor") -> Network:
    """A copy of the network, with the same weights in the same memory, whose forward is compiled.

    Compiling happens in the first call, and in later ones of other shapes; it takes seconds to
    minutes. The copy has the options, weights and `encode` of the original.

    Args:
        network: any network.
        backend: of `torch.compile`: "inductor" makes kernels; "aot_eager" and "eager" make none,
            and show whether a network can be traced.

    Raises:
        UndiffuseError: "inductor" has no compiler here: C++ for the CPU, triton for CUDA.
        RunFailed: in a call, if compiling fails.

    Source: Ansel et al. 2024, "PyTorch 2" (ASPLOS).
    """
    if backend == "inductor":
        _check_compiler(next(network.parameters()).device)
    run = torch.compile(network.forward, backend=backend)

    @functools.wraps(network.forward)
    def forward(*arguments: Any, **options: Any) -> Any:
        try:
            return run(*arguments, **options)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().partition("\n")[0]
            raise RunFailed(
                f"torch could not compile {type(network).__name__}: {reason}; go on without it"
            ) from error

    made = copy.copy(network)
    made.forward = forward
    return made


def with_compiled(owner: Owner, backend: str = "inductor") -> Owner:
    """A copy of a module that has a `network`, with that network `compiled`; weights are shared.

    Where a module is its own network, as a classifier is, the whole of it is compiled.

    Raises:
        UndiffuseError, RunFailed: as `compiled` does.
    """
    network = owner.get_submodule("network")
    if network is owner:
        return compiled(owner, backend)
    made = copy.copy(owner)
    made._modules = dict(owner._modules)  # else the original would get the compiled one too
    made.network = compiled(network, backend)
    return made


def _check_compiler(device: torch.device) -> None:
    """Refuse to begin where inductor would fail with a page of its own words."""
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise UndiffuseError(
                "compiling for CUDA needs triton, which is not installed; go on without it"
            )
        return
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    name = os.environ.get("CXX") or usual
    if not shutil.which(name):
        raise UndiffuseError(
            f"compiling needs a C++ compiler, and there is no {name} here; install one, name"
            " another in CXX, or go on without it"
        )
