r"""Which variance the reverse steps p(x_s | x_t) have, when a bound is computed.

    a number f    exp(f log beta + (1 - f) log \tilde\beta), f in [0, 1]
    "own"         what the denoiser knows, learned or exact: `denoiser.reverse_variance`
    "optimal"     the one number for all samples that makes the bound lowest

The last step p(x_0 | x_t) takes Var[x_0 | x_t] from the same source.
"""

from __future__ import annotations

from torch import Tensor

from undiffuse import process
from undiffuse.broadcast import over
from undiffuse.catalogue import finite
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.errors import UndiffuseError
from undiffuse.schedules.base import Time

Variance = float | str


def analytic_variance(
    denoiser: Denoiser, x_t: Tensor, t: Time, s: Time, **condition: Condition
) -> Tensor:
    r"""The optimal variance of p(x_s | x_t) that is the same for all x_t: a float64 scalar.

    \tilde\beta + on_x_0^2 (sigma_t^2 / alpha_t^2) (1 - E |eps_hat|^2 / D)

    with E over the given x_t: E |eps - eps_hat|^2 = D - E |eps_hat|^2 needs no x_0. It is right for
    the true denoiser; for a learned one it is an estimate, kept at or above \tilde\beta.

    Args:
        denoiser: E[x_0 | x_t].
        x_t: samples of p_t, [B, ...]; the more, the better.
        t: the later time with alpha(t) > 0, a scalar.
        s: the earlier time, a scalar.
        condition: named tensors for the denoiser.

    Raises:
        UndiffuseError: unless s < t.

    Source: Bao et al. 2022 (arXiv 2201.06503), theorem 1.
    """
    schedule, x0_hat = denoiser.schedule, denoiser(x_t, t, **condition)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    eps_hat = (x_t - over(alpha, x_t) * x0_hat) / over(sigma, x_t)
    spread = (sigma / alpha) ** 2 * (1 - eps_hat.double().square().mean()).clamp(min=0)
    return process.optimal_variance(schedule, t, s, spread)


def reverse_step(
    rule: Variance,
    denoiser: Denoiser,
    x_0: Tensor,
    x_t: Tensor,
    t: Time,
    s: Time,
    **condition: Condition,
) -> tuple[Tensor, Tensor]:
    r"""x0_hat and the variance of p(x_s | x_t) under a rule, for x_t that came of x_0, [B, ...].

    "optimal" is \tilde\beta + on_x_0^2 E |x_0 - x0_hat|^2 / D over these samples: right also where
    the denoiser is not.

    Raises:
        UndiffuseError: there is no such rule; the denoiser has no variance of its own.

    Source: Bao et al. 2022b (arXiv 2206.07309), for an imperfect mean.
    """
    if rule == "own":
        return denoiser.reverse(x_t, t, s, **condition)
    x0_hat = denoiser(x_t, t, **condition)
    if rule == "optimal":
        spread = (x_0 - x0_hat).square().mean()
        return x0_hat, process.optimal_variance(denoiser.schedule, t, s, spread)
    return x0_hat, process.interpolated_variance(denoiser.schedule, t, s, _fraction(rule))


def decoder_step(
    rule: Variance, denoiser: Denoiser, x_0: Tensor, x_t: Tensor, t: Time, **condition: Condition
) -> tuple[Tensor, Tensor]:
    """x0_hat and Var[x_0 | x_t] under a rule; for a number it is sigma^2 / alpha^2.

    Raises:
        UndiffuseError: there is no such rule.
    """
    x0_hat = denoiser(x_t, t, **condition)
    if rule == "own":
        return x0_hat, denoiser.posterior_variance(x_t, t, **condition)
    if rule == "optimal":
        return x0_hat, (x_0 - x0_hat).square().mean()
    _fraction(rule)
    return x0_hat, Denoiser.posterior_variance(denoiser, x_t, t)


def _fraction(rule: Variance) -> float:
    if not finite(rule) or not 0 <= float(rule) <= 1:
        raise UndiffuseError(
            f"the variance must be a number in [0, 1], 'own' or 'optimal', not {rule!r}"
        )
    return float(rule)
