"""The optimisers of a run: who moves which parameter, and what is kept of them in a checkpoint.

"adamw" moves everything. With "muon" it moves what is not a matrix (biases, scales of norms), and
Muon the rest. Both go by the one rate of the recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from undiffuse.training.muon import Muon
from undiffuse.training.recipe import TrainingOptions

Optimizers = tuple[torch.optim.Optimizer, ...]
KEPT: dict[type[torch.optim.Optimizer], tuple[str, ...]] = {
    torch.optim.AdamW: ("step", "exp_avg", "exp_avg_sq"),
    Muon: ("momentum",),
}


def make(network: nn.Module, options: TrainingOptions) -> Optimizers:
    """New optimisers that together own every parameter once."""
    parameters = list(network.parameters())
    matrices = [p for p in parameters if p.ndim >= 2] if options.optimizer == "muon" else []
    owned = {id(p) for p in matrices}
    others = [p for p in parameters if id(p) not in owned]
    first, second = options.betas
    shares: list[
        tuple[list[nn.Parameter], Callable[..., torch.optim.Optimizer], dict[str, Any]]
    ] = [
        (matrices, Muon, {"momentum": first}),
        (others, torch.optim.AdamW, {"betas": (first, second), "fused": True}),
    ]
    return tuple(
        kind(share, lr=options.lr, weight_decay=options.weight_decay, **more)
        for share, kind, more in shares
        if share
    )


def moments(optimizers: Sequence[torch.optim.Optimizer], network: nn.Module) -> dict[str, Tensor]:
    """What the optimisers remember, by "kind/parameter"; nothing of a parameter never moved."""
    return {
        f"{key}/{name}": torch.as_tensor(value)
        for optimizer, name, parameter in _owned(optimizers, network)
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore(
    optimizers: Sequence[torch.optim.Optimizer], network: nn.Module, stored: Mapping[str, Tensor]
) -> None:
    """Put back what `moments` gave.

    Raises:
        KeyError: something of a parameter is there, and something is missing.
        RuntimeError: a shape is another.
    """
    for optimizer, name, parameter in _owned(optimizers, network):
        kept = KEPT[type(optimizer)]
        if any(f"{key}/{name}" in stored for key in kept):
            optimizer.state[parameter] = {
                key: _laid_out(stored[f"{key}/{name}"], parameter) for key in kept
            }


def _owned(
    optimizers: Sequence[torch.optim.Optimizer], network: nn.Module
) -> Iterator[tuple[torch.optim.Optimizer, str, nn.Parameter]]:
    owners = {id(p): o for o in optimizers for group in o.param_groups for p in group["params"]}
    for name, parameter in network.named_parameters():
        if id(parameter) in owners:
            yield owners[id(parameter)], name, parameter


def _laid_out(value: Tensor, parameter: Tensor) -> Tensor:
    """`value` in the parameter's memory format: fused AdamW goes through both by address."""
    if value.ndim == 0:  # the number of steps
        return value.to(parameter.device)
    return torch.empty_like(parameter, requires_grad=False).copy_(value)
