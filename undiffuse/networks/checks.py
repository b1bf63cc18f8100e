"""What networks refuse, in words: options that cannot work, and inputs of another shape or kind."""

from __future__ import annotations

import torch
from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.errors import UndiffuseError


def check_whole(network: object, field: str, least: int) -> None:
    """Refuse a field that is not a whole number of at least `least`."""
    check(whole(getattr(network, field), least), network, field, f"a whole number, {least} or more")


def whole(value: object, least: int) -> bool:
    """Whether the value is an integer (no boolean) of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def check_flag(network: object, field: str) -> None:
    """Refuse a field that is neither true nor false."""
    check(isinstance(getattr(network, field), bool), network, field, "true or false")


def check_dropout(network: object) -> None:
    """Refuse a `dropout` that is no probability below 1."""
    value = getattr(network, "dropout")  # noqa: B009
    check(finite(value) and 0 <= value < 1, network, "dropout", "at least 0 and below 1")


def check_input(x: Tensor, c_noise: Tensor, expected: tuple[str | int, ...]) -> None:
    """Refuse x of another shape than expected, such as ("B", 3, "H", "W"), or c_noise not of [B].

    Names stand for any size of at least 1, "B" for any size.
    """
    fits = x.ndim == len(expected) and all(
        n == want if isinstance(want, int) else n >= 1 or want == "B"
        for n, want in zip(x.shape, expected, strict=True)
    )
    if not fits:
        wanted = ", ".join(map(str, expected))
        raise UndiffuseError(f"this network takes x of shape [{wanted}], not {list(x.shape)}")
    if c_noise.shape != x.shape[:1]:
        raise UndiffuseError(
            f"c_noise must have one value per sample, [{len(x)}], not {list(c_noise.shape)}"
        )


def check_labels(label: Tensor, classes: int, batch: int) -> None:
    """Refuse labels that are not one integer from -1 to classes - 1 per sample.

    The range is looked at only where that makes no device wait for it.
    """
    if label.shape != (batch,) or label.is_floating_point():
        kind = f"{str(label.dtype).removeprefix('torch.')} {list(label.shape)}"
        raise UndiffuseError(f"labels must be one integer per sample, [{batch}], not {kind}")
    if label.device.type == "cpu" and label.numel() and not torch.compiler.is_compiling():
        low, high = (int(v) for v in label.aminmax())
        if low < -1 or high >= classes:
            wrong = low if low < -1 else high
            raise UndiffuseError(
                f"there is no label {wrong}; this network knows 0 to {classes - 1}, and -1 for none"
            )
