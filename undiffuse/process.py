r"""The forward process and everything that follows from it by Bayes' rule and Ito's formula.

With x_t = alpha_t x_0 + sigma_t eps and, for s < t, alpha_{t|s} = alpha_t / alpha_s and
sigma_{t|s}^2 = sigma_t^2 - alpha_{t|s}^2 sigma_s^2:

    marginal     q(x_t | x_0)       = N(alpha_t x_0, sigma_t^2 I)
    transition   q(x_t | x_s)       = N(alpha_{t|s} x_s, sigma_{t|s}^2 I)
    posterior    q(x_s | x_t, x_0)  = N(mu, std^2 I)
    forward SDE  dx = f(x, t) dt + g(t) dW,   f = (alpha'/alpha) x,   g^2 = -sigma^2 dlogSNR/dt
    reverse SDE  dx = [f - g^2 score] dt + g dW      (time running from 1 to 0, dt < 0)
    flow ODE     dx = [f - g^2 score / 2] dt         (same marginals, no noise)

and in each, score = grad log p_t(x). Sources: Ho et al. 2020 (arXiv 2006.11239), Kingma et al. 2021
(arXiv 2107.00630), Song et al. 2021 (arXiv 2011.13456), Anderson 1982.
"""

from __future__ import annotations

import torch
from torch import Tensor

from undiffuse.broadcast import over
from undiffuse.errors import UndiffuseError
from undiffuse.schedules.base import Schedule, Time, as_time

BEGIN = 1e-12  # stands for t = 0 where sigma(0) = 0


def marginal(schedule: Schedule, x_0: Tensor, t: Time) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of q(x_t | x_0): alpha_t x_0 and sigma_t.

    Args:
        schedule: the noise schedule.
        x_0: data, [B, ...].
        t: time in [0, 1], a scalar or [B].

    Returns:
        mean [B, ...] and std, a scalar or [B, 1, ..., 1].
    """
    return over(schedule.alpha(t), x_0) * x_0, over(schedule.sigma(t), x_0)


def noised(schedule: Schedule, x_0: Tensor, t: Time, noise: Tensor) -> Tensor:
    """x_t = alpha_t x_0 + sigma_t eps in one shot; x_0 and noise [B, ...], t scalar or [B]."""
    mean, std = marginal(schedule, x_0, t)
    return mean + std * noise


def transition(schedule: Schedule, x_s: Tensor, s: Time, t: Time) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of one forward step q(x_t | x_s), s < t.

    mean = alpha_{t|s} x_s,  std^2 = sigma_t^2 - alpha_{t|s}^2 sigma_s^2
                                   = sigma_t^2 (1 - SNR_t / SNR_s).

    Raises:
        UndiffuseError: unless s < t.
    """
    _ordered(s, t)
    alpha_ts = schedule.alpha(t) / schedule.alpha(s)
    return over(alpha_ts, x_s) * x_s, over(transition_std(schedule, s, t), x_s)


def transition_std(schedule: Schedule, s: Time, t: Time) -> Tensor:
    """sigma_{t|s}, the std of the noise that enters between s and t; free of cancellation."""
    return schedule.sigma(t) * torch.sqrt(-torch.expm1(_gap(schedule, s, t)))


def posterior(
    schedule: Schedule, x_t: Tensor, x_0: Tensor, t: Time, s: Time
) -> tuple[Tensor, Tensor]:
    r"""Mean and standard deviation of q(x_s | x_t, x_0), s < t.

    mean = (alpha_{t|s} sigma_s^2 / sigma_t^2) x_t + (alpha_s sigma_{t|s}^2 / sigma_t^2) x_0,
    std  = sigma_{t|s} sigma_s / sigma_t.

    For one step of a discrete chain these are the lectures' \tilde\mu_t and \tilde\beta_t, with
    sqrt(alpha_t), no bar, in front of x_t. At s = 0 with sigma_0 = 0 the posterior is x_0 itself.

    Args:
        schedule: the noise schedule.
        x_t: noisy data at time t, [B, ...].
        x_0: data, or an estimate of it, [B, ...].
        t: the later time, scalar or [B].
        s: the earlier time, scalar or [B].

    Raises:
        UndiffuseError: unless s < t.

    Source: Ho et al. 2020 (arXiv 2006.11239), equations 6 and 7.
    """
    on_x_t, on_x_0, std = posterior_factors(schedule, t, s)
    return over(on_x_t, x_t) * x_t + over(on_x_0, x_0) * x_0, over(std, x_t)


def posterior_factors(schedule: Schedule, t: Time, s: Time) -> tuple[Tensor, Tensor, Tensor]:
    """The factors of x_t and of x_0 in the mean of q(x_s | x_t, x_0), and its std; s < t.

    Float64, of the shape of the times: what `posterior` lays over the samples.

    Raises:
        UndiffuseError: unless s < t.
    """
    _ordered(s, t)
    gap = _gap(schedule, s, t)
    alpha_s, sigma_s = schedule.alpha(s), schedule.sigma(s)
    on_x_t = schedule.alpha(t) / alpha_s * (sigma_s / schedule.sigma(t)) ** 2
    on_x_0 = -torch.expm1(gap) * alpha_s
    return on_x_t, on_x_0, torch.sqrt(-torch.expm1(gap)) * sigma_s


def optimal_variance(schedule: Schedule, t: Time, s: Time, variance_of_x_0: Tensor) -> Tensor:
    r"""Var[x_s | x_t] = \tilde\beta + (on_x_0)^2 Var[x_0 | x_t], the law of total variance; s < t.

    The variance of the Gaussian p(x_s | x_t) that comes nearest to the true one: with
    Var[x_0 | x_t] = 0 (a single point) it is \tilde\beta = std^2 of `posterior`, and for
    x_0 ~ N(0, I) under a variance-preserving schedule it is beta = sigma_{t|s}^2.

    Args:
        schedule: the noise schedule.
        t: the later time, scalar or [B].
        s: the earlier time, scalar or [B].
        variance_of_x_0: per dimension, [B, ...] or [B, 1, ..., 1], in the data's units squared.

    Raises:
        UndiffuseError: unless s < t.

    Source: Bao et al. 2022 (arXiv 2201.06503), theorem 1.
    """
    _, on_x_0, std = posterior_factors(schedule, t, s)
    return over(std**2, variance_of_x_0) + over(on_x_0**2, variance_of_x_0) * variance_of_x_0


def interpolated_variance(schedule: Schedule, t: Time, s: Time, fraction: Tensor | float) -> Tensor:
    r"""exp(f log beta + (1 - f) log \tilde\beta), the variance f of the way between the two; s < t.

    beta = sigma_{t|s}^2 and \tilde\beta = beta sigma_s^2 / sigma_t^2, so it is
    beta (sigma_s / sigma_t)^(2 (1 - f)). At sigma_s = 0 it is 0 for every f < 1.

    Args:
        schedule: the noise schedule.
        t: the later time, scalar or [B].
        s: the earlier time, scalar or [B].
        fraction: f, a number (the result then has the shape of the times) or [B, ...].

    Source: Nichol & Dhariwal 2021 (arXiv 2102.09672), equation 15.
    """
    _ordered(s, t)
    beta = transition_std(schedule, s, t) ** 2
    shrink = (schedule.sigma(s) / schedule.sigma(t)) ** 2
    fraction = torch.as_tensor(fraction, dtype=torch.float64, device=beta.device)
    return over(beta, fraction) * torch.pow(over(shrink, fraction), 1 - fraction)


def drift(schedule: Schedule, x: Tensor, t: Time) -> Tensor:
    """f(x, t) = (d log alpha / dt) x, the drift of the forward SDE; -1/2 beta(t) x for VP."""
    return over(schedule.alpha_rate(t) / schedule.alpha(t), x) * x


def diffusion(schedule: Schedule, t: Time) -> Tensor:
    """g(t) of the forward SDE, g^2 = -sigma^2 dlogSNR/dt; sqrt(beta(t)) for VP. Float64, as t.

    Where sigma = 0 the product is 0 times infinity and its limit is taken.
    """
    t = as_time(t)
    t = torch.where(schedule.sigma(t) == 0, BEGIN, t)
    return schedule.sigma(t) * torch.sqrt(-schedule.log_snr_rate(t))


def reverse_drift(schedule: Schedule, x: Tensor, t: Time, score: Tensor) -> Tensor:
    """f - g^2 score: the drift of the reverse SDE, for time running from 1 to 0 (dt < 0).

    A process written in forward-running time u = 1 - t has the drift with the opposite sign. As
    -log_snr_rate sigma^2 score = log_snr_rate sigma eps, it is finite wherever those are.
    """
    return drift(schedule, x, t) - over(diffusion(schedule, t) ** 2, x) * score


def flow_drift(schedule: Schedule, x: Tensor, t: Time, score: Tensor) -> Tensor:
    """f - g^2 score / 2: dx/dt of the probability-flow ODE."""
    return drift(schedule, x, t) - over(diffusion(schedule, t) ** 2 / 2, x) * score


def tweedie(schedule: Schedule, x_t: Tensor, t: Time, score: Tensor) -> Tensor:
    """E[x_0 | x_t] = (x_t + sigma_t^2 score) / alpha_t, the denoiser that belongs to a score.

    The score is that of the marginal p_t, so it is -E[eps | x_t] / sigma_t, not -eps / sigma_t.

    Source: Robbins 1956; Efron 2011; lectures 002 and 004.
    """
    return (x_t + over(schedule.sigma(t) ** 2, x_t) * score) / over(schedule.alpha(t), x_t)


def tweedie_covariance(schedule: Schedule, t: Time, hessian: Tensor) -> Tensor:
    """Cov[x_0 | x_t] = (sigma_t^2 / alpha_t^2) (I + sigma_t^2 hess log p_t): second-order Tweedie.

    Args:
        schedule: the noise schedule.
        t: time with alpha(t) > 0, a scalar or [B].
        hessian: that of log p_t at x_t, [B, D, D].

    Returns:
        [B, D, D], in the square of the data's units. From a denoiser, without the Hessian:
        `undiffuse.covariance.posterior_covariance`.

    Source: Efron 2011; Meng et al. 2021 (arXiv 2111.04726).

    >>> from undiffuse.schedules.flow import Flow  # x_0 ~ N(0, 1), so x_t ~ N(0, 1/2) at t = 1/2
    >>> tweedie_covariance(Flow(), 0.5, torch.tensor([[[-2.0]]]))
    tensor([[[0.5000]]])
    """
    unit = torch.eye(hessian.shape[-1], dtype=hessian.dtype, device=hessian.device)
    alpha, variance = schedule.alpha(t), schedule.sigma(t) ** 2
    inner = unit + over(variance, hessian) * hessian
    return over(variance / alpha**2, hessian) * inner


def _gap(schedule: Schedule, s: Time, t: Time) -> Tensor:
    """log(SNR_t / SNR_s) for s < t; at most 0, also where neighbouring times round apart."""
    return (schedule.log_snr(t) - schedule.log_snr(s)).clamp(max=0)


def _ordered(s: Time, t: Time) -> None:
    if not bool((as_time(s) < as_time(t)).all()):
        raise UndiffuseError(f"the earlier time s = {s} must lie before t = {t}")
