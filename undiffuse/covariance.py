r"""What a denoiser does not know: the covariance of x_0 given x_t (second-order Tweedie).

Differentiating E[x_0 | x_t] = (x_t + sigma^2 grad log p_t) / alpha once more gives

    Cov[x_0 | x_t] = (sigma^2 / alpha^2) (I + sigma^2 hess log p_t)
                   = (sigma^2 / alpha) d x0_hat / d x_t,

so a denoiser's Jacobian is its own error bar. For the exact denoiser it is symmetric and positive
semi-definite; for a learned one it is an estimate that need be neither. The form with a Hessian is
`undiffuse.process.tweedie_covariance`.

Sources: Efron 2011; Meng et al. 2021 (arXiv 2111.04726); Boys et al. 2023 (arXiv 2310.06721).
"""

from __future__ import annotations

from torch import Tensor

from undiffuse.denoiser import Condition, Denoiser, time_of
from undiffuse.derivatives import divergence, hutchinson, jacobian
from undiffuse.errors import UndiffuseError
from undiffuse.schedules.base import Time


def posterior_covariance(
    denoiser: Denoiser, x_t: Tensor, t: Time, **condition: Condition
) -> Tensor:
    """Cov[x_0 | x_t] = (sigma^2 / alpha) d x0_hat / d x_t by D pulls of autograd.

    Args:
        denoiser: E[x_0 | x_t], of any kind.
        x_t: noisy samples [B, ...] of D numbers each.
        t: time, a scalar or [B].
        condition: named tensors for the denoiser.

    Returns:
        [B, D, D], in the square of the data's units; 0 at sigma = 0.

    Raises:
        UndiffuseError: alpha(t) = 0, where x_t holds nothing about x_0.

    >>> import torch
    >>> from undiffuse.exact.gaussian import Gaussian
    >>> from undiffuse.schedules.flow import Flow
    >>> oracle = Gaussian(torch.zeros(1), Flow(), std=1.0)
    >>> posterior_covariance(oracle, torch.ones(1, 1), 0.5).tolist()
    [[[0.5]]]
    """
    scale = _scale(denoiser, x_t, t)
    return scale[..., None, None] * jacobian(lambda x: denoiser(x, t, **condition), x_t)


def posterior_trace(
    denoiser: Denoiser,
    x_t: Tensor,
    t: Time,
    probes: Tensor | None = None,
    **condition: Condition,
) -> Tensor:
    """tr Cov[x_0 | x_t] = E[|x_0 - x0_hat|^2 | x_t], [B]: the expected squared error.

    Args:
        denoiser: E[x_0 | x_t], of any kind.
        x_t: noisy samples [B, ...].
        t: time, a scalar or [B].
        probes: [M, B, ...] with E[v v^T] = I, for Hutchinson's estimate, averaged over the M;
            None: exact, by D pulls.
        condition: named tensors for the denoiser.

    Raises:
        UndiffuseError: alpha(t) = 0, or probes of another shape.
    """

    def x0_hat(x: Tensor) -> Tensor:
        return denoiser(x, t, **condition)

    scale = _scale(denoiser, x_t, t)
    if probes is None:
        return scale * divergence(x0_hat, x_t)[1]
    return scale * hutchinson(x0_hat, x_t, probes)[1].mean(0)


def _scale(denoiser: Denoiser, x: Tensor, t: Time) -> Tensor:
    """sigma^2 / alpha, a scalar or [B], in the dtype of x."""
    t = time_of(x, t)
    alpha, sigma = denoiser.schedule.alpha(t), denoiser.schedule.sigma(t)
    if bool((alpha == 0).any()):
        raise UndiffuseError(f"at t = {t} there is no signal (alpha = 0): use a smaller t")
    return (sigma**2 / alpha).to(x)
