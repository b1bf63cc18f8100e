r"""Energy-based models: a density known up to its constant, p(x) = exp(-E(x)) / Z.

The score needs no Z:

    grad log p(x) = -grad E(x),        Z = int exp(-E(x)) dx,

so a network E_phi with one output makes a score network by autograd. One that also takes t, with
exp(-E(x, t)) proportional to p_t, makes a denoiser by Tweedie's formula,

    x0_hat = (x_t - sigma^2 grad E(x_t, t)) / alpha,

and every sampler works with it.

Sources: LeCun et al. 2006; Song & Kingma 2021 (arXiv 2101.03288); lecture 004.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn

from undiffuse import process
from undiffuse.denoiser import Condition, Denoiser, time_of
from undiffuse.derivatives import gradient
from undiffuse.errors import UndiffuseError
from undiffuse.schedules.base import Schedule, Time


class Density(Protocol):
    """What an exact denoiser offers: log p_t(x), [B]."""

    def log_prob(self, x: Tensor, t: Time) -> Tensor: ...


class Energy(nn.Module):
    """E(x) of samples [B, ...], one number each, [B], in nats.

    Args:
        function: E, a module with parameters or a plain function.

    >>> import torch
    >>> Energy(lambda x: (x**2).sum(1) / 2).score(torch.tensor([[1.0, -2.0]])).tolist()
    [[-1.0, 2.0]]
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    @classmethod
    def of(cls, exact: Density, t: Time) -> Energy:
        """E(x) = -log p_t(x) of an exact denoiser, for which Z = 1."""
        return cls(lambda x: -exact.log_prob(x, t))

    def forward(self, x: Tensor) -> Tensor:
        """E(x), [B].

        Raises:
            UndiffuseError: the function gives anything but one number per sample.
        """
        energy = self.function(x)
        if energy.shape != x.shape[:1]:
            raise UndiffuseError(
                f"an energy must be one number for each of the {len(x)} samples, [{len(x)}], not"
                f" {list(energy.shape)}"
            )
        return energy

    def score(self, x: Tensor) -> Tensor:
        """-grad E(x), of x's shape; it keeps its graph where gradients are recorded."""
        return -gradient(self, x)

    def log_prob(self, x: Tensor, log_partition: Tensor | float) -> Tensor:
        """log p(x) = -E(x) - log Z in nats, [B]; to be maximised.

        Args:
            x: samples [B, ...].
            log_partition: log Z, which only special energies give away.
        """
        return -self.forward(x) - log_partition


class EnergyDenoiser(Denoiser):
    """x0_hat = (x_t - sigma^2 grad E(x_t, t)) / alpha, from an energy for every noise level.

    Args:
        energy: E(x_t, t, **condition) -> [B], with exp(-E) proportional to p_t; a module or a plain
            function, t a float64 scalar or [B].
        schedule: the noise schedule.

    Raises:
        UndiffuseError: in a call at alpha(t) = 0, where a score says nothing about x_0.

    >>> import torch
    >>> from undiffuse.schedules.flow import Flow
    >>> def energy(x, t):  # of x_0 ~ N(0, 1)
    ...     return (x**2).sum(1) / (2 * (Flow().alpha(t) ** 2 + Flow().sigma(t) ** 2))
    >>> EnergyDenoiser(energy, Flow())(torch.ones(1, 1), 0.5).tolist()
    [[1.0]]
    """

    def __init__(self, energy: Callable[..., Tensor], schedule: Schedule) -> None:
        super().__init__()
        self.energy = energy
        self.schedule = schedule

    def at(self, t: Time, **condition: Condition) -> Energy:
        """The energy of one noise level, E( . , t)."""
        return Energy(lambda x: self.energy(x, time_of(x, t), **condition))

    def score(self, x_t: Tensor, t: Time, **condition: Condition) -> Tensor:
        """-grad E(x_t, t), of x_t's shape."""
        return self.at(t, **condition).score(x_t)

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        if bool((self.schedule.alpha(t) == 0).any()):
            raise UndiffuseError(
                f"an energy cannot tell the data at t = {t}, where alpha = 0: start below t = 1"
            )
        return process.tweedie(self.schedule, x_t, t, self.score(x_t, t, **condition))
