r"""log p(x) by the probability-flow ODE: the density that travels along with a sample.

A sample that follows the flow dx/dt = velocity(x, t) takes its density along,

    d log p_t(x_t) / dt = -div velocity(x_t, t)        (instantaneous change of variables),

so log p at the data's end is a known density at the noisy end plus an integral. It is solved in
coordinates in which the flow is the same for every schedule, and smooth up to both ends:

    z = x_t / h,    h = sqrt(alpha^2 + sigma^2),    tan(theta) = sigma / alpha,
    dz/dtheta = (cos(theta) z - x0_hat) / sin(theta)  =  cos(theta) eps_hat - sin(theta) x0_hat,

the v of v-prediction; log p_t(x_t) = log p(z) - D log h. The solver is torchdiffeq's dopri5
(Dormand & Prince 1980: order 5, adaptive steps), in float64; the extra `ode` installs it.

Sources: Chen et al. 2018 (arXiv 1806.07366); Grathwohl et al. 2019 (FFJORD, arXiv 1810.01367); Song
et al. 2021 (arXiv 2011.13456), section 4.3; Salimans & Ho 2022 (arXiv 2202.00512) for theta.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.denoiser import Condition, Denoiser
from undiffuse.derivatives import Field, divergence, hutchinson
from undiffuse.errors import UndiffuseError
from undiffuse.likelihood.decoders import gaussian_log_prob
from undiffuse.samplers.adaptive import angle, integrate, unit, velocity
from undiffuse.schedules.base import Time, as_time

LogDensity = Callable[[Tensor, Time], Tensor]
Traced = Callable[[Field, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class LogLikelihood:
    """log p(x) of B samples.

    Attributes:
        log_p: in nats, [B]; the mean over the probes if there are any.
        standard_error: of log_p, by the choice of the probes, [B]; 0 where the divergence is exact,
            nan for a single probe.
        x_end: where the flow took the samples, [B, ...], float64: the noise that encodes them.
        evaluations: calls of the denoiser.
    """

    log_p: Tensor
    standard_error: Tensor
    x_end: Tensor
    evaluations: int


def log_likelihood(
    denoiser: Denoiser,
    x: Tensor,
    *,
    start: Time | None = None,
    end: Time | None = None,
    terminal: LogDensity | None = None,
    probes: Tensor | None = None,
    rtol: float = 1e-6,
    atol: float = 1e-6,
    **condition: Condition,
) -> LogLikelihood:
    """log p_start(x) = log p_end(x_end) + D log(h_end / h_start) + int div(dz/dtheta) dtheta.

    p_start is the density of samples in which the noise of the time `start` is left, and x is taken
    for one of them. Computed without a graph.

    Args:
        denoiser: E[x_0 | x_t].
        x: samples [B, ...] of D numbers each.
        start: the time of x, with sigma > 0; default: where the denoiser's log-SNRs begin, at
            sigma/alpha = 0.002 or above.
        end: the time at which a density is known; default: where they end, at sigma/alpha = 160 or
            below.
        terminal: log p_end, called as terminal(x, end), in nats, [B], such as `oracle.log_prob`;
            default: that of N(0, (alpha^2 + sigma^2) I), with which sampling starts.
        probes: v, [M, B, ...] with E[v v^T] = I, for Hutchinson's estimate of the divergence: each
            stays the same all along the way and gives one estimate of log p; None: exact, by D
            pulls in each call.
        rtol: relative tolerance of a step, for the worst sample.
        atol: absolute tolerance, in units of z and in nats.
        condition: named tensors for the denoiser.

    Raises:
        UndiffuseError: torchdiffeq is not installed; times or tolerances that cannot be; probes of
            another shape.
        RunFailed: the denoiser gives NaN or infinity, or the tolerance cannot be met.

    Source: Song et al. 2021 (arXiv 2011.13456), equation 39; Hutchinson 1989.

    >>> from undiffuse.exact.gaussian import Gaussian
    >>> from undiffuse.schedules.vp import VP
    >>> found = log_likelihood(Gaussian(torch.zeros(2), VP(), std=1.0), torch.zeros(1, 2))
    >>> round(found.log_p.item(), 5)  # -log(2 pi)
    -1.83788
    """
    v = None if probes is None else probes.double()
    flow = _Flow(denoiser, condition, _traced(v))
    first, last = _times(denoiser, start, end)
    x_end, change = flow.follow(x, first, last, rtol, atol)  # change: [M, B]
    h_first, h_last = unit(denoiser.schedule, first), unit(denoiser.schedule, last)
    if terminal is None:
        log_end = gaussian_log_prob(x_end, torch.zeros_like(x_end), h_last**2)
    else:
        log_end = terminal(x_end, last)
    return LogLikelihood(
        log_p=log_end + change.mean(0) + x[0].numel() * (h_last / h_first).log(),
        standard_error=torch.zeros_like(log_end) if v is None else _error(change),
        x_end=x_end,
        evaluations=flow.calls,
    )


def encode(
    denoiser: Denoiser,
    x: Tensor,
    *,
    start: Time | None = None,
    end: Time | None = None,
    rtol: float = 1e-6,
    atol: float = 1e-6,
    **condition: Condition,
) -> Tensor:
    """The noise that the probability-flow ODE takes x to, [B, ...], float64.

    Arguments and errors as for `log_likelihood`. The result is a sample at the time `end`, near
    N(0, (alpha^2 + sigma^2) I); `decode` takes it back.

    Source: Song et al. 2021 (arXiv 2011.13456), section 4.3.

    >>> from undiffuse.exact.gaussian import Gaussian
    >>> from undiffuse.schedules.ve import VE
    >>> oracle = Gaussian(torch.zeros(1), VE(0.01, 100.0), std=1.0)
    >>> round(encode(oracle, torch.ones(1, 1)).item(), 2)
    100.0
    """
    first, last = _times(denoiser, start, end)
    return _Flow(denoiser, condition, _untraced).follow(x, first, last, rtol, atol)[0]


def decode(
    denoiser: Denoiser,
    x_end: Tensor,
    *,
    start: Time | None = None,
    end: Time | None = None,
    rtol: float = 1e-6,
    atol: float = 1e-6,
    **condition: Condition,
) -> Tensor:
    """The sample that the probability-flow ODE makes of the noise x_end, [B, ...], float64.

    Sampling with an adaptive solver: as many steps as the tolerance takes. The noise of the time
    `start` is left in the sample. Arguments and errors as for `log_likelihood`.

    Source: Song et al. 2021 (arXiv 2011.13456), section 4.3.
    """
    first, last = _times(denoiser, start, end)
    return _Flow(denoiser, condition, _untraced).follow(x_end, last, first, rtol, atol)[0]


class _Flow:
    """dz/dtheta and its traces as one row [D + M] per sample; counts the calls of the denoiser."""

    def __init__(self, denoiser: Denoiser, condition: dict[str, Condition], traced: Traced) -> None:
        self.denoiser, self.condition, self.traced = denoiser, condition, traced
        self.calls = 0

    def follow(
        self, x: Tensor, t: Tensor, s: Tensor, rtol: float, atol: float
    ) -> tuple[Tensor, Tensor]:
        """x [B, ...] at time s, and the integrals of the traces from t to s, [M, B]."""
        for name, tolerance in (("rtol", rtol), ("atol", atol)):
            if not 0 < tolerance < 1:
                raise UndiffuseError(f"{name} must be between 0 and 1, not {tolerance}")
        size, schedule = x[0].numel(), self.denoiser.schedule
        ends = torch.stack([angle(schedule, t), angle(schedule, s)]).to(x.device)

        def rate(theta: Tensor, state: Tensor) -> Tensor:
            self.calls += 1
            z = state[:, :size].reshape(x.shape)
            value, traces = self.traced(
                lambda y: velocity(self.denoiser, y, theta, **self.condition), z
            )
            return torch.cat([value.flatten(1), traces.mT], 1)  # [B, D + M]

        def norm(error: Tensor) -> Tensor:
            """The worst sample counts, and its traces as much as its place."""
            place = error[:, :size].square().mean(1)
            return torch.cat([place, error[:, size:].square().flatten()]).max().sqrt()

        with torch.no_grad():
            z = x.detach().double() / unit(schedule, t)
            traces = self.traced(torch.zeros_like, z)[1]  # [M, B], for their number
            state = torch.cat([z.flatten(1), torch.zeros_like(traces.mT)], 1)
            state = integrate(rate, state, ends, norm, rtol, atol)
        x_s = unit(schedule, s) * state[:, :size].reshape(x.shape)
        return x_s, state[:, size:].mT


def _traced(probes: Tensor | None) -> Traced:
    """What gives a field's value and its divergence, [1, B] exact or [M, B] estimates."""
    if probes is not None:
        return lambda f, z: hutchinson(f, z, probes)

    def exact(f: Field, z: Tensor) -> tuple[Tensor, Tensor]:
        value, trace = divergence(f, z)
        return value, trace[None]

    return exact


def _untraced(f: Field, z: Tensor) -> tuple[Tensor, Tensor]:
    return f(z), z.new_zeros(0, len(z))


def _times(denoiser: Denoiser, start: Time | None, end: Time | None) -> tuple[Tensor, Tensor]:
    """The two times, or their defaults, as float64 scalars in order."""
    low, high = denoiser.log_snr_range
    schedule = denoiser.schedule
    if start is None:
        start = schedule.t_from_log_snr(min(high, -2 * math.log(0.002)))
    if end is None:
        end = schedule.t_from_log_snr(max(low, -2 * math.log(160)))
    first, last = as_time(start), as_time(end)
    if first.ndim or last.ndim or not 0 <= float(first) < float(last) <= 1:
        raise UndiffuseError(
            f"start and end must be two times, 0 <= start < end <= 1, not {start} and {end}"
        )
    if float(schedule.sigma(first)) == 0:
        raise UndiffuseError(
            f"at start = {float(first):g} there is no noise (sigma = 0), and the flow is not"
            " defined: use a later start"
        )
    return first, last


def _error(estimates: Tensor) -> Tensor:
    """The standard error of the mean of [M, B] over M, [B]."""
    if len(estimates) < 2:
        return torch.full_like(estimates[0], math.nan)
    return estimates.std(0) / math.sqrt(len(estimates))
