"""What networks refuse, in words: options that cannot work, and inputs of another shape or kind."""

from __future__ import annotations

import torch
from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.errors import UndiffuseError

MOST = 65536  # of anything that a network counts


def check_whole(network: object, field: str, least: int) -> None:
    """Refuse a field that is not a whole number from `least` to 65536."""
    rule = f"a whole number from {least} to {MOST}"
    check(whole(getattr(network, field), least), network, field, rule)


def whole(value: object, least: int) -> bool:
    """Whether the value is an integer (no boolean) from `least` to 65536."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST


def check_flag(network: object, field: str) -> None:
    """Refuse a field that is neither true nor false."""
    check(isinstance(getattr(network, field), bool), network, field, "true or false")


def check_dropout(network: object) -> None:
    """Refuse a `dropout` that is no probability below 1."""
    value = getattr(network, "dropout")  # noqa: B009
    check(finite(value) and 0 <= value < 1, network, "dropout", "at least 0 and below 1")


def check_shape(taker: str, name: str, x: Tensor, expected: tuple[str | int, ...]) -> None:
    """Refuse a tensor of integers or of another shape than expected, such as ("B", 3, "H", "W").

    Names stand for any size of at least 1, "B" for any size.
    """
    fits = x.ndim == len(expected) and all(
        n == want if isinstance(want, int) else n >= 1 or want == "B"
        for n, want in zip(x.shape, expected, strict=True)
    )
    if not fits:
        wanted = ", ".join(map(str, expected))
        raise UndiffuseError(f"this {taker} takes {name} of shape [{wanted}], not {list(x.shape)}")
    if not x.is_floating_point():
        raise UndiffuseError(f"this {taker} takes {name} of floats, not of {_kind(x.dtype)}")


def check_input(x: Tensor, c_noise: Tensor, expected: tuple[str | int, ...]) -> None:
    """Refuse x that does not fit (`check_shape`), or c_noise not of [B]."""
    check_shape("network", "x", x, expected)
    if c_noise.shape != x.shape[:1]:
        raise UndiffuseError(
            f"c_noise must have one value per sample, [{len(x)}], not {list(c_noise.shape)}"
        )


def check_numbers(
    name: str, value: Tensor, expected: tuple[str | int, ...], dtype: torch.dtype | None = None
) -> None:
    """Refuse a condition of another shape (a name stands for any size), or not of `dtype`.

    Without a dtype, any floating one will do.
    """
    fits = value.ndim == len(expected) and all(
        isinstance(want, str) or n == want for n, want in zip(value.shape, expected, strict=True)
    )
    right = value.is_floating_point() if dtype is None else value.dtype == dtype
    if not (fits and right):
        wanted = f"{_kind(dtype) if dtype else 'floating'} [{', '.join(map(str, expected))}]"
        kind = f"{_kind(value.dtype)} {list(value.shape)}"
        raise UndiffuseError(f"{name} must be {wanted}, not {kind}")


def _kind(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def check_conditions(network: object) -> None:
    """Refuse widths of conditions that are no whole numbers of at least 0, where it has them."""
    for field in ("classes", "vector", "tokens", "image"):
        if hasattr(network, field):
            check_whole(network, field, least=0)


def check_pyramid(network: object) -> None:
    """Refuse options of a U-Net that do not make one."""
    dims, multipliers = getattr(network, "dims"), getattr(network, "multipliers")  # noqa: B009
    check(whole(dims, 1) and dims <= 3, network, "dims", "1, 2 or 3")
    check_whole(network, "channels", least=1)
    check_whole(network, "width", least=2)
    rule = "one or more whole numbers, each 1 or more"
    listed = isinstance(multipliers, tuple | list) and len(multipliers) > 0
    check(listed and all(whole(m, 1) for m in multipliers), network, "multipliers", rule)
    check_whole(network, "blocks", least=1)
    attention = getattr(network, "attention")  # noqa: B009
    levels = len(multipliers)
    fits = isinstance(attention, tuple | list) and len(attention) == levels
    fits = fits and all(isinstance(flag, bool) for flag in attention)
    check(fits, network, "attention", f"true or false for each of the {levels} multipliers")
    check_whole(network, "head_channels", least=1)
    check_whole(network, "patch", least=1)
    check_conditions(network)
    blind = getattr(network, "tokens") and not any(attention)  # noqa: B009
    check(not blind, network, "tokens", "0 where no level has attention")
    check_dropout(network)
    check_flag(network, "variance")


def check_labels(label: Tensor, classes: int, batch: int) -> None:
    """Refuse labels that are not one integer from -1 to classes - 1 per sample.

    The range is looked at only where that makes no device wait for it.
    """
    if label.shape != (batch,) or label.is_floating_point():
        kind = f"{_kind(label.dtype)} {list(label.shape)}"
        raise UndiffuseError(f"labels must be one integer per sample, [{batch}], not {kind}")
    if label.device.type == "cpu" and label.numel() and not torch.compiler.is_compiling():
        low, high = (int(v) for v in label.aminmax())
        if low < -1 or high >= classes:
            wrong = low if low < -1 else high
            raise UndiffuseError(
                f"there is no label {wrong}; this network knows 0 to {classes - 1}, and -1 for none"
            )
