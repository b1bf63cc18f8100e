r"""The evidence lower bound of the reverse chain, term by term.

For times 1 = t_n > ... > t_1 > 0, x_t ~ q(x_t | x_0) and a chain p(x_s | x_t) of Gaussians with the
mean of q(x_s | x_t, x_0 = x0_hat),

    -log p(x_0) <= L_T + sum L_{t-1} + L_0,
    L_T      = KL( q(x_{t_n} | x_0) || prior ),
    L_{t-1}  = E KL( q(x_s | x_t, x_0) || p(x_s | x_t) ),
    L_0      = -E log p(x_0 | x_{t_1}).

Any falling times will do: a chain of T steps is one grid, a fast sampler's few steps another.

Sources: Sohl-Dickstein et al. 2015 (arXiv 1503.03585); Ho et al. 2020 (arXiv 2006.11239), equation
5; lectures 002, 004.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from undiffuse import process
from undiffuse.broadcast import over
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.errors import UndiffuseError, unknown
from undiffuse.likelihood.bound import Bound
from undiffuse.likelihood.decoders import discretised_log_prob, gaussian_log_prob
from undiffuse.likelihood.variance import Variance, decoder_step, reverse_step
from undiffuse.noise import Stream
from undiffuse.schedules.base import Schedule, Time, as_time

DECODERS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "gaussian": gaussian_log_prob,
    "discretised": discretised_log_prob,
}


def gaussian_kl(variance_ratio: Tensor, square: Tensor) -> Tensor:
    """KL( N(m, a) || N(m', b) ) per dimension, from a / b and (m - m')^2 / b, in nats; >= 0.

    1/2 (a/b - 1 - log(a/b) + (m - m')^2 / b); accurate where both are almost the same.
    """
    excess = variance_ratio - 1
    return ((excess - torch.log1p(excess)).clamp(min=0) + square) / 2


def prior_term(
    schedule: Schedule,
    x_0: Tensor,
    t: Time,
    mean: Tensor | float = 0.0,
    std: Tensor | float | None = None,
) -> Tensor:
    """L_T = KL( q(x_t | x_0) || N(mean, std^2 I) ) in nats, [B].

    The std defaults to sqrt(alpha^2 + sigma^2), with which sampling starts: 1 for a
    variance-preserving schedule.
    """
    centre, width = process.marginal(schedule, x_0, t)
    std = torch.hypot(schedule.alpha(t), schedule.sigma(t)) if std is None else std
    variance = over(torch.as_tensor(std).to(x_0) ** 2, x_0)
    mean = torch.as_tensor(mean).to(x_0)
    kl = gaussian_kl(width**2 / variance, (centre - mean) ** 2 / variance)
    return kl.expand_as(x_0).flatten(1).sum(1)


def step_term(
    schedule: Schedule, x_0: Tensor, x0_hat: Tensor, t: Time, s: Time, variance: Tensor
) -> Tensor:
    """L_{t-1} = KL( q(x_s | x_t, x_0) || N(mu(x_t, x0_hat), variance) ) in nats, [B]; >= 0.

    The two means differ by on_x_0 (x_0 - x0_hat), whatever x_t is.

    Args:
        schedule: the noise schedule.
        x_0: data [B, ...].
        x0_hat: its estimate from x_t, [B, ...].
        t: the later time, scalar or [B].
        s: the earlier time with sigma(s) > 0, scalar or [B].
        variance: of p(x_s | x_t), > 0, of a shape that multiplies x_0, or [B] or a scalar.
    """
    _, on_x_0, std = process.posterior_factors(schedule, t, s)
    variance = over(variance, x_0)
    square = (over(on_x_0, x_0) * (x_0 - x0_hat)) ** 2 / variance
    kl = gaussian_kl(over(std**2, x_0) / variance, square)
    return kl.expand_as(x_0).flatten(1).sum(1)


def chain_bound(
    denoiser: Denoiser,
    x_0: Tensor,
    times: Tensor | Sequence[float],
    *,
    variance: Variance = 0.0,
    decoder: str = "gaussian",
    prior_mean: Tensor | float = 0.0,
    prior_std: Tensor | float | None = None,
    draws: int = 1,
    seed: int = 0,
    noise: Tensor | None = None,
    **condition: Condition,
) -> Bound:
    r"""The bound on -log p(x_0) for a chain that stops at the given times.

    Args:
        denoiser: E[x_0 | x_t].
        x_0: data [N, ...].
        times: falling, at least one with sigma > 0; a last one with sigma = 0 is data itself.
        variance: of p(x_s | x_t): a number in [0, 1] from \tilde\beta to beta (interpolated in the
            logarithm), "own" (`denoiser.reverse_variance`: learned, or optimal if exact), or
            "optimal" (the one number for all samples that makes the bound of these lowest).
            Var[x_0 | x_t] of the decoder goes with it: (sigma/alpha)^2 for a number,
            `denoiser.posterior_variance`, or the mean of (x_0 - x0_hat)^2.
        decoder: "gaussian", a density in the data's units, or "discretised", for 8-bit data.
        prior_mean: mean of the prior at times[0].
        prior_std: its standard deviation; default: sqrt(alpha^2 + sigma^2).
        draws: how often the noise is drawn for each sample, >= 1.
        seed: of the noise.
        noise: [N, ...] to be used at every time instead.
        condition: named tensors for the denoiser.

    Raises:
        UndiffuseError: times that do not fall or hold no noise, an unknown rule or decoder, data
            that does not suit the decoder.

    >>> from undiffuse.exact.gaussian import Gaussian
    >>> from undiffuse.schedules.vp import VP
    >>> oracle = Gaussian(torch.zeros(2), VP(), std=1.0)
    >>> bound = chain_bound(oracle, oracle.draw(100), [1.0, 0.5, 0.0], variance="own")
    >>> bound.diffusion.shape
    torch.Size([1, 1, 100])
    """
    schedule, x_0 = denoiser.schedule, x_0.double()
    moments = noisy_times(schedule, times)
    if decoder not in DECODERS:
        raise unknown("decoder", decoder, DECODERS)
    drawn = draw(x_0, draws, seed, noise)
    steps, last = [], []
    with torch.no_grad():
        prior = prior_term(schedule, x_0, moments[0], prior_mean, prior_std)
        for i, (t, s) in enumerate(pairwise(moments)):
            for eps in drawn(i):
                x_t = process.noised(schedule, x_0, t, eps)
                x0_hat, width = reverse_step(variance, denoiser, x_0, x_t, t, s, **condition)
                steps.append(step_term(schedule, x_0, x0_hat, t, s, width))
        t = moments[-1]
        for eps in drawn(len(moments)):
            x_t = process.noised(schedule, x_0, t, eps)
            x0_hat, width = decoder_step(variance, denoiser, x_0, x_t, t, **condition)
            last.append(-DECODERS[decoder](x_0, x0_hat, width))
    middle = torch.stack(steps) if steps else x_0.new_zeros(0, len(x_0))
    return Bound(
        prior=prior,
        diffusion=middle.reshape(len(moments) - 1, len(last), len(x_0)),
        reconstruction=torch.stack(last),
        times=moments[:-1],
        dimensions=x_0[0].numel(),
    )


def noisy_times(schedule: Schedule, times: Tensor | Sequence[float]) -> Tensor:
    """The times with sigma > 0, float64 [n]; refuses times that do not fall."""
    moments = as_time(torch.as_tensor(times, dtype=torch.float64))
    if moments.ndim != 1 or len(moments) < 1 or not bool((moments.diff() < 0).all()):
        raise UndiffuseError("a bound needs a list of times that fall from noise to data")
    moments = moments[:-1] if bool(schedule.sigma(moments[-1]) == 0) else moments
    if len(moments) == 0 or not bool(((moments > 0) | (schedule.sigma(moments) > 0)).all()):
        raise UndiffuseError("a bound needs at least one time with noise (sigma > 0)")
    return moments


def draw(x_0: Tensor, draws: int, seed: int, noise: Tensor | None) -> Callable[[int], list[Tensor]]:
    """Step number -> the noise of that step, `draws` times [N, ...]; or the given one each time."""
    if draws < 1:
        raise UndiffuseError(f"draws must be at least 1, not {draws}")
    if noise is not None:
        given = [noise.to(x_0)]
        return lambda step: given
    stream = Stream(seed, tuple(range(len(x_0))))
    shape = x_0.shape[1:]
    return lambda step: [stream.draw(shape, step, "bound", i).to(x_0) for i in range(draws)]
