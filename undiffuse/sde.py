r"""Stochastic differential equations as objects, and their simulation by Euler and Maruyama.

    dx = f(x, t) dt + g(x, t) dW

has a drift f, a diffusion g, and a direction in which time runs. A schedule and a denoiser have
two:

    Forward   f = (alpha'/alpha) x,  g^2 = -sigma^2 dlogSNR/dt               time from data to noise
    Reverse   f - (1 + c^2)/2 g^2 score,  c g                                time from noise to data

and c = 1 is Anderson's reverse SDE, c = 0 the probability-flow ODE; every c has the marginals p_t.
The drift of Reverse belongs to dt < 0. In time u = T - t, which runs forward, its sign is the
other one: dx = [-f + (1 + c^2)/2 g^2 score] du + c g dW at t = T - u.

A Wiener process has independent increments W_{t+h} - W_t of variance h: the standard deviation of
a step is sqrt(h), not h. Samplers (`undiffuse.samplers`) use what is known in closed form about
these equations and need far fewer steps; this is for looking at paths, and to compare with.

Sources: lecture 001; Song et al. 2021 (arXiv 2011.13456); Anderson 1982; Maruyama 1955.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from undiffuse import process
from undiffuse.broadcast import over
from undiffuse.catalogue import check, finite
from undiffuse.denoiser import Denoiser
from undiffuse.errors import UndiffuseError
from undiffuse.noise import Stream
from undiffuse.schedules.base import Schedule, Time, as_time


class SDE(ABC):
    """dx = drift(x, t) dt + diffusion(x, t) dW, for x [B, ...], also [B], and t a scalar or [B].

    Subclass it for an equation of your own; `simulate` takes any.
    """

    @property
    def direction(self) -> int:
        """The sign of dt: 1 for rising times, -1 for falling ones, 0 for either (no noise)."""
        return 1

    @abstractmethod
    def drift(self, x: Tensor, t: Time) -> Tensor:
        """f(x, t), of x's shape, per unit of time."""

    @abstractmethod
    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        """g(x, t) >= 0, a scalar, [B] or of x's shape, per square root of a unit of time."""


@dataclass(frozen=True)
class Wiener(SDE):
    """dx = dW: Brownian motion, W_t - W_s ~ N(0, t - s).

    Source: lecture 001, "Wiener process".

    >>> paths = simulate(Wiener(), torch.zeros(3), torch.linspace(0, 1, 11))
    >>> paths.shape
    torch.Size([11, 3])
    """

    def drift(self, x: Tensor, t: Time) -> Tensor:
        return torch.zeros_like(x)

    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        return torch.ones_like(as_time(t))


@dataclass(frozen=True)
class Forward(SDE):
    """dx = (alpha'/alpha) x dt + g(t) dW, the noising process of a schedule; time rises.

    For VP the drift is -1/2 beta(t) x and the diffusion sqrt(beta(t)): lecture 000 prints -beta(t)
    x, whose stationary variance would be 1/2. Started at x_0 it has the marginals
    N(alpha_t x_0, sigma_t^2); where sigma(0) > 0 it starts from x_0 + sigma(0) eps.

    Raises:
        UndiffuseError: from `drift`, at alpha(t) = 0, which the SDE reaches with an infinite drift.

    Source: lectures 000 and 001; Song et al. 2021 (arXiv 2011.13456).

    >>> from undiffuse.schedules.vp import VP
    >>> Forward(VP(2.0, 2.0)).drift(torch.ones(1), 0.5)  # -1/2 beta x
    tensor([-1.])
    """

    schedule: Schedule

    def drift(self, x: Tensor, t: Time) -> Tensor:
        _refuse_pure_noise(self.schedule, t)
        return process.drift(self.schedule, x, t)

    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        return process.diffusion(self.schedule, t)


@dataclass(frozen=True, eq=False)
class Reverse(SDE):
    """dx = [f - (1 + noise^2)/2 g^2 score] dt + noise g dW, from noise to data; time falls.

    noise = 1 is Anderson's reverse SDE, 0 the probability-flow ODE (which can run either way), and
    whatever lies between or above has the same marginals. Started from p_t it arrives at p_s.

    Args:
        denoiser: E[x_0 | x_t], from which the score comes.
        noise: the share of the forward diffusion, >= 0.

    Raises:
        UndiffuseError: noise is negative or not finite; from `drift`, at alpha(t) = 0 (the drift is
            infinite) or sigma(t) = 0 (the score is undefined).

    Source: Anderson 1982; Song et al. 2021 (arXiv 2011.13456), equations 6 and 13; Karras et al.
    2022 (arXiv 2206.00364), equation 6, for noise between.

    >>> from undiffuse.exact.gaussian import Gaussian
    >>> from undiffuse.schedules.vp import VP
    >>> unit = Gaussian(torch.zeros(1), VP(2.0, 2.0), std=1.0)  # p_t = N(0, 1) at all t
    >>> [float(Reverse(unit, noise=c).drift(torch.ones(1, 1), 0.5)) for c in (0, 1)]
    [0.0, 1.0]
    """

    denoiser: Denoiser
    noise: float = 1.0

    def __post_init__(self) -> None:
        check(finite(self.noise) and self.noise >= 0, self, "noise", "a number >= 0")

    @property
    def direction(self) -> int:
        return -1 if self.noise > 0 else 0

    def drift(self, x: Tensor, t: Time) -> Tensor:
        schedule = self.denoiser.schedule
        _refuse_pure_noise(schedule, t)
        share = (1 + self.noise**2) / 2 * process.diffusion(schedule, t) ** 2
        score = self.denoiser.score(x, t)
        return process.drift(schedule, x, t) - over(share, x) * score

    def diffusion(self, x: Tensor, t: Time) -> Tensor:
        return self.noise * process.diffusion(self.denoiser.schedule, t)


def simulate(sde: SDE, x: Tensor, times: Tensor | Sequence[float], seed: int = 0) -> Tensor:
    """Paths of an SDE by the Euler-Maruyama scheme; weak order 1, strong order 1 where g is g(t).

        x_{k+1} = x_k + f(x_k, t_k) dt + g(x_k, t_k) sqrt(|dt|) eps_k,   dt = t_{k+1} - t_k.

    Args:
        sde: drift and diffusion.
        x: where the paths start, [B, ...] or [B].
        times: [n + 1], rising or falling as the SDE runs.
        seed: path i is a function of (seed, i), whatever the batch.

    Returns:
        The paths [n + 1, B, ...] in x's dtype, computed in float64; paths[0] is x.

    Raises:
        UndiffuseError: fewer than two times, or times that do not run in the SDE's direction.

    Source: Maruyama 1955; Kloeden & Platen 1992; lecture 001, "discretizing the SDE".

    >>> from undiffuse.schedules.vp import VP
    >>> x_0 = torch.full((4,), 2.0)
    >>> simulate(Forward(VP()), x_0, torch.linspace(0, 1, 101)).shape
    torch.Size([101, 4])
    """
    times = as_time(torch.as_tensor(times))
    gaps = times.diff() if times.ndim == 1 else times.new_zeros(0)
    rises, falls = bool((gaps > 0).all()), bool((gaps < 0).all())
    if len(gaps) < 1 or not {1: rises, -1: falls, 0: rises or falls}[sde.direction]:
        way = {1: "rise", -1: "fall", 0: "rise or fall"}[sde.direction]
        raise UndiffuseError(f"{type(sde).__name__}: times must be two or more that {way}")
    stream, state = Stream(seed, tuple(range(len(x)))), x.double()
    path = [x]
    for k, (t, s) in enumerate(pairwise(times)):
        moved = state + sde.drift(state, t) * (s - t)
        if sde.direction != 0:
            width = over(sde.diffusion(state, t), state) * torch.sqrt((s - t).abs())
            moved = moved + width * stream.draw(x.shape[1:], k + 1, "path").to(state)
        state = moved
        path.append(state.to(x.dtype))
    return torch.stack(path)


def _refuse_pure_noise(schedule: Schedule, t: Time) -> None:
    if bool((schedule.alpha(t) == 0).any()):
        raise UndiffuseError(
            f"at t = {t} nothing is left of the data (alpha = 0) and the drift is infinite: stay"
            " below that time"
        )
