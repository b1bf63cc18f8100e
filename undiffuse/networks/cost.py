"""What a network costs: its parameters, and the operations for one sample.

Counted are the multiplications and additions of convolutions, matrix products and attention, two
for each product, on tensors without data, so the largest network is counted in a second or two. A
training step (forward and backward) takes three times as many.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from undiffuse import catalogue
from undiffuse.errors import UndiffuseError


class Cost(NamedTuple):
    """Of one network and one sample."""

    parameters: int
    flops: int  # operations of one evaluation


def fitted(name: str, shape: Sequence[int], **options: Any) -> dict[str, Any]:
    """The description of a network ("unet", "dit.base") for samples of a shape, with options.

    >>> fitted("unet.small", (1, 28, 28))
    {'name': 'unet.small', 'channels': 1, 'dims': 2}

    Raises:
        UndiffuseError: this network is not for such shapes.
    """
    family = name.partition(".")[0]
    known = catalogue.load("networks", family)
    fields = {field.name for field in dataclasses.fields(known)}
    axes = len(shape) - 1
    if "channels" in fields and not 1 <= axes <= 3:
        raise UndiffuseError(
            f"{family} is for channels and up to three axes, such as 1x28x28, not {_written(shape)}"
        )
    if "channels" not in fields and axes != 0:
        raise UndiffuseError(f"{family} is for vectors, such as 2, not {_written(shape)}")
    facts = {"channels": shape[0], "size": shape[0], "dims": axes}
    return {"name": name, **{k: v for k, v in facts.items() if k in fields}, **options}


def cost(description: dict[str, Any], shape: Sequence[int]) -> Cost:
    """What the network of a description costs for one sample of the given shape.

    >>> cost(fitted("mlp.tiny", (2,)), (2,))
    Cost(parameters=67778, flops=131584)

    Raises:
        UndiffuseError: a network or an option that does not exist.
    """
    with torch.device("meta"):
        network = catalogue.build(description, "networks")
        x, c_noise = torch.empty(1, *shape), torch.empty(1)
    with counting() as counter:
        network(x, c_noise)
    return Cost(sum(p.numel() for p in network.parameters()), counter.get_total_flops())


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """Counts operations of products, convolutions and attention; a product and a sum are two.

    Attention is computed as two products meanwhile, since fused kernels of the CPU count nothing.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter


def _written(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
