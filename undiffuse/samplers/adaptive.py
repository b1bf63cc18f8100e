r"""An embedded pair: steps of its own length along the probability-flow ODE, by a tolerance.

Two rules of neighbouring orders share their evaluations; their difference estimates the error of a
step, which is taken again, shorter, where the error is above

    atol + rtol |z|

and the next one longer where it is far below. So it cannot be asked for a number of steps, and is
no entry of the catalogue, whose rules can. The flow is followed along the angle of the noise,

    z = x_t / h,    h = sqrt(alpha^2 + sigma^2),    theta = atan(sigma / alpha),
    dz/dtheta = (cos(theta) z - x0_hat) / sin(theta),

in which z keeps the size of the data and the rate is finite up to pure noise.

Sources: Dormand & Prince 1980, order 5(4), as in torchdiffeq; Chen et al. 2018 (arXiv 1806.07366);
Song et al. 2021 (arXiv 2011.13456), section 4.3; Salimans & Ho 2022 (arXiv 2202.00512) for theta.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.broadcast import over
from undiffuse.catalogue import check, finite
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.errors import RunFailed, UndiffuseError
from undiffuse.samplers.base import Memory, Noise, Sampler
from undiffuse.samplers.levels import first_order, inner, level
from undiffuse.schedules.base import Schedule

MAX_STEPS = 10_000  # a smooth flow takes a few dozen; one of noise would never end


@dataclass(frozen=True)
class Adaptive(Sampler):
    """From t to s in as many evaluations as the tolerance takes: Dormand and Prince's pair.

    `sample` gives it two stretches, from the first noise level to the last and from there to the
    data, which is the first-order step of every rule; with `times` it stops at these, and each
    stretch meets the tolerance. The worst sample of a batch decides how long a step is, so another
    batch size changes samples within the tolerance.

        path = sample(denoiser, (16, 2), Adaptive(rtol=1e-6, atol=1e-6), trajectory=True)
        path.evaluations

    Args:
        rtol: relative tolerance of a step, in (0, 1).
        atol: absolute tolerance of a step, in units of the data, in (0, 1).

    Raises:
        UndiffuseError: a tolerance out of range; in a step: torchdiffeq is not installed.
        RunFailed: in a step: the denoiser gives NaN or infinity, or is not smooth enough.

    Source: Dormand & Prince 1980.
    """

    name = "adaptive"
    grid = "log-snr(noise_min=0.002)"
    adaptive = True
    rtol: float = 1e-5
    atol: float = 1e-5

    def __post_init__(self) -> None:
        for tolerance in ("rtol", "atol"):
            value = getattr(self, tolerance)
            check(finite(value) and 0 < value < 1, self, tolerance, "between 0 and 1")

    def step(
        self, denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        schedule = denoiser.schedule
        now, then = level(schedule, float(t)), level(schedule, float(s))
        if not inner(now, then):
            return first_order(x, denoiser(x, t), now, then), None
        ends = torch.stack([angle(schedule, t), angle(schedule, s)]).to(x.device)

        def rate(theta: Tensor, z: Tensor) -> Tensor:
            return velocity(denoiser, z, theta)

        def worst(error: Tensor) -> Tensor:
            return error.flatten(1).square().mean(1).max().sqrt()

        z = integrate(rate, x / unit(schedule, t), ends, worst, self.rtol, self.atol)
        return unit(schedule, s) * z, None


def velocity(denoiser: Denoiser, z: Tensor, theta: Tensor, **condition: Condition) -> Tensor:
    """dz/dtheta at theta in (0, pi/2], of z's shape [B, ...]."""
    a, b = theta.cos(), theta.sin()
    t = denoiser.schedule.t_from_log_snr(2 * (a.log() - b.log()))
    h = unit(denoiser.schedule, t)
    return (a * z - denoiser(over(h, z) * z, t, **condition)) / b


def unit(schedule: Schedule, t: Tensor) -> Tensor:
    """h = sqrt(alpha^2 + sigma^2)."""
    return torch.hypot(schedule.alpha(t), schedule.sigma(t))


def angle(schedule: Schedule, t: Tensor) -> Tensor:
    """theta = atan(sigma / alpha)."""
    return torch.atan2(schedule.sigma(t), schedule.alpha(t))


def integrate(
    rate: Callable[[Tensor, Tensor], Tensor],
    z: Tensor,
    ends: Tensor,
    norm: Callable[[Tensor], Tensor],
    rtol: float,
    atol: float,
) -> Tensor:
    """z at the angle ends[1], from z at ends[0], by the adaptive pair.

    Args:
        rate: dz/dtheta = rate(theta, z); asked between the two ends only.
        z: the start, [B, ...].
        ends: two angles, [2].
        norm: the size of an error of z's shape, a scalar.
        rtol: relative tolerance.
        atol: absolute tolerance.

    Raises:
        UndiffuseError: torchdiffeq is not installed.
        RunFailed: the rate is NaN or infinite, or the tolerance cannot be met.
    """
    try:
        from torchdiffeq import odeint
    except ImportError as error:
        raise UndiffuseError(
            "following the probability-flow ODE by a tolerance needs torchdiffeq: install"
            " undiffuse[ode]"
        ) from error
    low, high = ends.aminmax()

    def inside(theta: Tensor, z: Tensor) -> Tensor:
        theta = theta.clamp(low, high)  # the solver may try a point beyond the end
        value = rate(theta, z)
        if not bool(torch.isfinite(value).all()):
            raise RunFailed(
                f"the denoiser gave NaN or infinity at sigma/alpha = {float(theta.tan()):.4g}: look"
                " at its loss and weights"
            )
        return value

    options = {"norm": norm, "step_t": ends[1:], "max_num_steps": MAX_STEPS}
    try:
        path: Tensor = odeint(inside, z, ends, rtol=rtol, atol=atol, options=options)
    except AssertionError as error:
        raise RunFailed(
            f"the solver cannot keep rtol = {rtol:g}, atol = {atol:g} within {MAX_STEPS} steps: ask"
            " for less, or look at how smooth the denoiser is"
        ) from error
    return path[-1]
