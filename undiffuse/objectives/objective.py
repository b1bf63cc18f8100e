r"""The training loss: a distribution of times x a weighting x a prediction.

    L = E_{t, x_0, eps}  w(log_snr_t) |eps_hat(x_t, t) - eps|^2,    x_t = alpha x_0 + sigma eps.

It is computed in the space of the network's own output F, where nothing blows up,

    L = E  w g^2 |F - target|^2,

with g and target from the prediction (see `undiffuse.predictions.base`). L_simple is
Objective(Uniform(), Simple()) with noise prediction, EDM's loss Objective(LogNormal(), EDM()) with
EDM's.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from undiffuse import process
from undiffuse.broadcast import over
from undiffuse.denoiser import Condition, Learned
from undiffuse.objectives.times.base import Times
from undiffuse.objectives.weights.base import Weight

LOG_SNR_LIMIT = 60.0  # where alpha^2 or sigma^2 is below 1e-26 weights take their limit


@dataclass(frozen=True)
class Objective:
    """A denoising loss.

    >>> from undiffuse.objectives.times.uniform import Uniform
    >>> from undiffuse.objectives.weights.simple import Simple
    >>> Objective(Uniform(), Simple())
    Objective(times=Uniform(steps=None), weight=Simple())
    """

    times: Times
    weight: Weight

    def loss(
        self, denoiser: Learned, x_0: Tensor, u: Tensor, noise: Tensor, **condition: Condition
    ) -> Tensor:
        """The loss of each sample, averaged over its dimensions, [B].

        Args:
            denoiser: the denoiser in training.
            x_0: data [B, ...].
            u: uniform numbers [B] in [0, 1) that choose the times.
            noise: standard normal numbers [B, ...].
            condition: named tensors for the network.
        """
        t = self.times.times(u, denoiser.schedule)
        return self.loss_at(denoiser, x_0, t, noise, **condition)

    def loss_at(
        self, denoiser: Learned, x_0: Tensor, t: Tensor, noise: Tensor, **condition: Condition
    ) -> Tensor:
        """The loss of each sample at given times t [B], without the density of t; [B]."""
        schedule, prediction = denoiser.schedule, denoiser.prediction
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        log_snr = schedule.log_snr(t).clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT)
        log_weight = self.weight.log_weight(log_snr) + 2 * prediction.log_gain(log_snr, sigma)
        x_t = process.noised(schedule, x_0, t, noise)
        target = prediction.target(x_0, noise, over(alpha, x_0), over(sigma, x_0))
        F = denoiser.predict(x_t, t, **condition)
        error = (F - target).flatten(1).square().mean(1)  # [B]
        return log_weight.exp().to(error) * error
