r"""The training loss: a distribution of times x a weighting x a prediction.

    L = E_{t, x_0, eps}  c(t) w(log_snr_t) |eps_hat(x_t, t) - eps|^2,  x_t = alpha x_0 + sigma eps,

where c is 1 unless t is drawn in another way than it is meant (`Times.correction`).

It is computed in the space of the network's own output F, where nothing blows up,

    L = E  w g^2 |F - target|^2,

with g and target from the prediction (see `undiffuse.predictions.base`). The papers' losses:

    paper                               times               weight      prediction    schedule
    Ho 2020, L_simple (2006.11239)      Uniform(T)          Simple      Noise         Discrete
    Song 2021, score (2011.13456)       Uniform             Simple      Score         VP, VE
    Nichol 2021, 3.3 (2102.09672)       Importance(T)       any         Noise         Cosine
    Kingma 2021, VDM (2107.00630)       Integral(Uniform)   Simple      Noise         any
    Salimans 2022, x, v (2202.00512)    Uniform             Data, V     Data, V       Cosine
    Choi 2022, P2 (2204.00227)          Uniform(T)          P2          Noise         Discrete
    Karras 2022, EDM (2206.00364)       LogNormal           EDM         EDMNetwork    EDM
    Hang 2023, min-SNR (2303.09556)     Uniform(T)          MinSNR      Data          Cosine
    Kingma & Gao 2023 (2303.00848)      Integral(Uniform)   Sigmoid     V             Cosine
    Lipman 2023, Liu 2023 (2210.02747)  Uniform             Flow        FlowVelocity  Flow
    Tong 2023, OT-CFM (2302.00482)      the same, with noise from `coupling.couple`
    Crowson 2024 (2401.11605)           any                 SoftMinSNR  EDMNetwork    EDM
    Esser 2024, SD 3 (2403.03206)       LogitNormal         Flow        FlowVelocity  Flow

`curves.effective_weight` shows each as one curve over log-SNR.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from undiffuse import process
from undiffuse.broadcast import over
from undiffuse.denoiser import Condition, Learned
from undiffuse.objectives.times.base import Times
from undiffuse.objectives.weights.base import Weight

LOG_SNR_LIMIT = 60.0  # where alpha^2 or sigma^2 is below 1e-26 weights take their limit


class Loss(Protocol):
    """What training needs of a loss; an `Objective`, a `Hybrid`, or a researcher's own."""

    @property
    def times(self) -> Times:
        """The distribution of t."""

    def loss(
        self, denoiser: Learned, x_0: Tensor, u: Tensor, noise: Tensor, **condition: Condition
    ) -> Tensor:
        """The loss of each sample, [B]; the arguments are those of `Objective.loss`."""


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
        """The loss of each sample, averaged over its dimensions, [B]: E over u is L.

        Args:
            denoiser: the denoiser in training.
            x_0: data [B, ...].
            u: uniform numbers [B] in [0, 1) that choose the times.
            noise: standard normal numbers [B, ...].
            condition: named tensors for the network.
        """
        t = self.times.times(u, denoiser.schedule)
        losses = self.loss_at(denoiser, x_0, t, noise, **condition)
        return self.times.correction(t, denoiser.schedule).to(losses) * losses

    def loss_at(
        self, denoiser: Learned, x_0: Tensor, t: Tensor, noise: Tensor, **condition: Condition
    ) -> Tensor:
        """w |eps_hat - eps|^2 of each sample at given times t [B], without the correction; [B]."""
        schedule, prediction = denoiser.schedule, denoiser.prediction
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        log_snr = schedule.log_snr(t).clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT)
        log_weight = self.weight.log_weight(log_snr) + 2 * prediction.log_gain(log_snr, sigma)
        x_t = process.noised(schedule, x_0, t, noise)
        target = prediction.target(x_0, noise, over(alpha, x_0), over(sigma, x_0))
        F = denoiser.predict(x_t, t, **condition)
        error = (F - target).flatten(1).square().mean(1)  # [B]
        return log_weight.exp().to(error) * error
