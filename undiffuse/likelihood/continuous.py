r"""The evidence lower bound in continuous time: an integral over log-SNR.

As the steps become many, the bound tends to

    -log p(x_0) <= L_T + L_0 + 1/2 int_{log_snr_min}^{log_snr_max} E |eps - eps_hat|^2 dlog_snr,

which depends on the schedule only through its two ends. Weighted losses are this integral with a
weight w(log_snr) in it.

Sources: Kingma et al. 2021 (VDM, arXiv 2107.00630), Kingma & Gao 2023 (arXiv 2303.00848).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from undiffuse import noise as random
from undiffuse import process
from undiffuse.broadcast import over
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.errors import UndiffuseError, unknown
from undiffuse.likelihood.bound import Bound
from undiffuse.likelihood.elbo import DECODERS, draw, prior_term
from undiffuse.likelihood.variance import Variance, decoder_step
from undiffuse.schedules.base import Time, as_time

VARIABLES = ("log-snr", "t")
RULES = ("quadrature", "stratified")


def noise_error(
    denoiser: Denoiser, x_0: Tensor, t: Time, noise: Tensor, **condition: Condition
) -> Tensor:
    """|eps - eps_hat(x_t, t)|^2 = SNR |x_0 - x0_hat|^2, summed over dimensions, [B].

    x_0 and noise [B, ...], t a scalar or [B] with sigma > 0. The integrand, but for 1/2.
    """
    x_t = process.noised(denoiser.schedule, x_0, t, noise)
    ratio = denoiser.schedule.alpha(t) / denoiser.schedule.sigma(t)
    error = over(ratio, x_0) * (x_0 - denoiser(x_t, t, **condition))
    return error.flatten(1).square().sum(1)


def continuous_bound(
    denoiser: Denoiser,
    x_0: Tensor,
    log_snr_range: tuple[float, float] | None = None,
    *,
    points: int = 64,
    rule: str = "quadrature",
    variable: str = "log-snr",
    variance: Variance = 0.0,
    decoder: str = "gaussian",
    prior_mean: Tensor | float = 0.0,
    prior_std: Tensor | float | None = None,
    draws: int = 1,
    seed: int = 0,
    noise: Tensor | None = None,
    **condition: Condition,
) -> Bound:
    """The bound on -log p(x_0) of infinitely many steps between two log-SNRs.

    Each of the Bound's diffusion terms is one point of the integral with its weight, so their sum
    is the integral.

    Args:
        denoiser: E[x_0 | x_t].
        x_0: data [N, ...].
        log_snr_range: the ends (lowest, highest), within those of the schedule; default: those of
            the denoiser, cut at sigma/alpha = 160 and 0.002.
        points: how many values of the integrand, >= 1.
        rule: "quadrature" (Gauss-Legendre: exact in log_snr to rounding, with fresh noise at each
            point) or "stratified" (one random point in each of `points` equal intervals: unbiased).
        variable: what the points are even in: "log-snr", or the schedule's "t".
        variance: where Var[x_0 | x_t] of the decoder comes from, as for `chain_bound`.
        decoder: "gaussian" or "discretised".
        prior_mean: mean of the prior at the lowest log-SNR.
        prior_std: its standard deviation; default: sqrt(alpha^2 + sigma^2).
        draws: how often the noise is drawn at each point, >= 1.
        seed: of the noise and of the random points.
        noise: [N, ...] to be used at every point instead.
        condition: named tensors for the denoiser.

    Raises:
        UndiffuseError: ends that the schedule does not have, unknown words, data that does not suit
            the decoder.

    >>> from undiffuse.exact.gaussian import Gaussian
    >>> from undiffuse.schedules.flow import Flow
    >>> oracle = Gaussian(torch.zeros(2), Flow(), std=1.0)
    >>> continuous_bound(oracle, oracle.draw(100), (-10, 8), points=16).diffusion.shape
    torch.Size([16, 1, 100])
    """
    schedule, x_0 = denoiser.schedule, x_0.double()
    low, high = log_snr_range or _ends(denoiser)
    if not float(schedule.log_snr(1.0)) <= low < high <= float(schedule.log_snr(0.0)):
        raise UndiffuseError(
            f"the log-SNRs must rise within [{float(schedule.log_snr(1.0)):.5g},"
            f" {float(schedule.log_snr(0.0)):.5g}] for this schedule, not {(low, high)}"
        )
    if decoder not in DECODERS:
        raise unknown("decoder", decoder, DECODERS)
    first, last = schedule.t_from_log_snr(low), schedule.t_from_log_snr(high)
    if variable not in VARIABLES:
        raise unknown("variable", variable, VARIABLES)
    if variable == "t":
        t, weights = _points(rule, points, float(first), float(last), seed)
        weights = weights * schedule.log_snr_rate(t)  # both are negative
    else:
        log_snrs, weights = _points(rule, points, low, high, seed)
        t = schedule.t_from_log_snr(log_snrs)
    drawn = draw(x_0, draws, seed, noise)
    terms, ends = [], []
    with torch.no_grad():
        for i in range(points):
            for eps in drawn(i):
                terms.append(weights[i] / 2 * noise_error(denoiser, x_0, t[i], eps, **condition))
        for eps in drawn(points):
            x_t = process.noised(schedule, x_0, last, eps)
            x0_hat, width = decoder_step(variance, denoiser, x_0, x_t, last, **condition)
            ends.append(-DECODERS[decoder](x_0, x0_hat, width))
        prior = prior_term(schedule, x_0, first, prior_mean, prior_std)
    return Bound(
        prior=prior,
        diffusion=torch.stack(terms).reshape(points, len(ends), len(x_0)),
        reconstruction=torch.stack(ends),
        times=t,
        dimensions=x_0[0].numel(),
    )


def _ends(denoiser: Denoiser) -> tuple[float, float]:
    low, high = denoiser.log_snr_range
    noise_max, noise_min = as_time(160.0), as_time(0.002)
    return max(low, float(-2 * noise_max.log())), min(high, float(-2 * noise_min.log()))


def _points(rule: str, count: int, a: float, b: float, seed: int) -> tuple[Tensor, Tensor]:
    """Points between a and b, and weights whose sum is b - a; [count] each."""
    if count < 1:
        raise UndiffuseError(f"points must be at least 1, not {count}")
    if rule == "quadrature":
        x, w = np.polynomial.legendre.leggauss(count)
        nodes, weights = torch.from_numpy((x + 1) / 2), torch.from_numpy(w / 2)
    elif rule == "stratified":
        nodes = random.uniform(seed, "points", count).sort().values
        weights = torch.full_like(nodes, 1 / count)
    else:
        raise unknown("rule", rule, RULES)
    return a + (b - a) * nodes, (b - a) * weights
