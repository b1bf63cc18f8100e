r"""The denoiser: E[x_0 | x_t], the one interface between what is learned and what is done with it.

    denoiser(x_t, t, **condition) -> x0_hat

has a `.schedule`, and the other names of the same thing are views of it:

    noise      eps_hat = (x_t - alpha x0_hat) / sigma        = E[eps | x_t]
    score      -eps_hat / sigma                              = grad log p_t(x_t)   (Tweedie)
    velocity   alpha' x0_hat + sigma' eps_hat                = dx/dt of the probability-flow ODE

Some denoisers also know how sure they are, which gives the reverse step p(x_s | x_t) its variance
(`reverse_variance`): exact ones in closed form, learned ones from a second half of the network's
output.

At sigma = 0 a denoiser returns x / alpha and asks nobody; noise and score are undefined there.
A denoiser is known by its log-SNR: under another schedule it is the same function of the scaled
sample (`with_schedule`).

Sources: Karras et al. 2022 (arXiv 2206.00364), Kingma et al. 2021 (arXiv 2107.00630).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from undiffuse import process
from undiffuse.broadcast import over
from undiffuse.catalogue import build, describe
from undiffuse.errors import UndiffuseError
from undiffuse.predictions.base import Prediction
from undiffuse.schedules.base import Schedule, Time, as_time
from undiffuse.schedules.levels import level

Condition = Tensor | None


def time_of(x: Tensor, t: Time) -> Tensor:
    """t as float64, a scalar or [B], for samples x [B, ...].

    Raises:
        UndiffuseError: t is neither a scalar nor one time per sample.
    """
    t = as_time(t)
    if t.ndim > 1 or (t.ndim == 1 and len(t) != len(x)):
        raise UndiffuseError(
            f"t must be a scalar or one time per sample: got shape {tuple(t.shape)} for"
            f" {len(x)} samples"
        )
    return t


class Denoiser(nn.Module, ABC):
    """E[x_0 | x_t] under `schedule`, for x_t [B, ...] of any rank and t a scalar or [B]."""

    schedule: Schedule
    if TYPE_CHECKING:  # nn.Module.__call__ has no types

        def __call__(self, x_t: Tensor, t: Time, **condition: Condition) -> Tensor: ...

    @abstractmethod
    def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        """x0_hat where sigma(t) > 0; t is a float64 scalar or [B]."""

    def forward(self, x_t: Tensor, t: Time, **condition: Condition) -> Tensor:
        """x0_hat = E[x_0 | x_t], of x_t's shape and dtype.

        Raises:
            UndiffuseError: t is neither a scalar nor one time per sample.
        """
        t = time_of(x_t, t)
        if t.ndim == 0:
            now = level(self.schedule, t.item())
            return x_t / now.alpha if now.sigma == 0 else self.denoise(x_t, t, **condition)
        clean = self.schedule.sigma(t) == 0
        if not bool(clean.any()):
            return self.denoise(x_t, t, **condition)
        exact = x_t / over(self.schedule.alpha(t), x_t)
        if bool(clean.all()):
            return exact
        inside = torch.where(clean, torch.full_like(t, 0.5), t)
        return torch.where(over(clean, x_t).bool(), exact, self.denoise(x_t, inside, **condition))

    def prepare(self, batch: int, **condition: Condition) -> dict[str, Any]:
        """The conditions of `batch` samples, made ready once for many calls with equal answers."""
        return condition

    def noise(self, x_t: Tensor, t: Time, **condition: Condition) -> Tensor:
        """eps_hat = (x_t - alpha x0_hat) / sigma = E[eps | x_t], of x_t's shape.

        Raises:
            UndiffuseError: sigma(t) = 0, where the noise is undefined.
        """
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        if bool((sigma == 0).any()):
            raise UndiffuseError(f"at t = {t} there is no noise (sigma = 0): use t > 0")
        return (x_t - over(alpha, x_t) * self(x_t, t, **condition)) / over(sigma, x_t)

    def score(self, x_t: Tensor, t: Time, **condition: Condition) -> Tensor:
        """grad log p_t(x_t) = -eps_hat / sigma, of x_t's shape. Raises as `noise` does."""
        return -self.noise(x_t, t, **condition) / over(self.schedule.sigma(t), x_t)

    def velocity(self, x_t: Tensor, t: Time, **condition: Condition) -> Tensor:
        """dx/dt = alpha'(t) x0_hat + sigma'(t) eps_hat of the probability-flow ODE."""
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        if bool((sigma == 0).any()):
            raise UndiffuseError(f"at t = {t} there is no noise (sigma = 0): use t > 0")
        x0_hat = self(x_t, t, **condition)
        eps_hat = (x_t - over(alpha, x_t) * x0_hat) / over(sigma, x_t)
        rate_0, rate_eps = self.schedule.alpha_rate(t), self.schedule.sigma_rate(t)
        return over(rate_0, x_t) * x0_hat + over(rate_eps, x_t) * eps_hat

    def posterior_variance(self, x_t: Tensor, t: Time, **condition: Condition) -> Tensor:
        """Var[x_0 | x_t], averaged over the dimensions, [B, 1, ..., 1].

        Here sigma^2 / alpha^2, the error of x_t / alpha as an estimate: for any data, a bound on
        the average over x_t. Exact denoisers have the truth.
        """
        noise = (self.schedule.sigma(t) / self.schedule.alpha(t)) ** 2
        return over(noise, x_t).expand(len(x_t), *(1,) * (x_t.ndim - 1))

    def reverse_variance(self, x_t: Tensor, t: Time, s: Time, **condition: Condition) -> Tensor:
        """The variance of p(x_s | x_t), s < t, per dimension or for all; it multiplies x_t's shape.

        Raises:
            UndiffuseError: this denoiser knows none.
        """
        raise _no_variance(self)

    def reverse(
        self, x_t: Tensor, t: Time, s: Time, **condition: Condition
    ) -> tuple[Tensor, Tensor]:
        """x0_hat and `reverse_variance` together, in one call of a network; raises as the latter.

        The mean of p(x_s | x_t) is that of `process.posterior` with x_0 = x0_hat.
        """
        variance = self.reverse_variance(x_t, t, s, **condition)
        return self(x_t, t, **condition), variance

    def with_schedule(self, schedule: Schedule) -> Denoiser:
        """The same denoiser under another schedule: equal where the log-SNRs are equal."""
        return Rescheduled(self, schedule)

    @property
    def log_snr_range(self) -> tuple[float, float]:
        """The log-SNRs for which this denoiser can be asked: those of its schedule."""
        return float(self.schedule.log_snr(1.0)), float(self.schedule.log_snr(0.0))


def _no_variance(denoiser: Denoiser) -> UndiffuseError:
    return UndiffuseError(
        f"{type(denoiser).__name__} knows no reverse variance: use a number in [0, 1] instead of"
        " 'own', or a network with variance=true"
    )


class Learned(Denoiser):
    r"""A network that predicts, wrapped into a denoiser: x0_hat = skip x_t + out F(scale x_t).

    The network sees a sample of unit variance and c_noise = -log_snr / 8 (= log(sigma/alpha) / 4),
    never a step number, so it belongs to no particular schedule. Log-SNRs outside the range it was
    trained on are clipped to that range.

    A network that returns twice the channels, F and v, also predicts the variance of the reverse
    step, between \tilde\beta (v = -1) and beta (v = 1):

        log variance = f log beta + (1 - f) log \tilde\beta,    f = (v + 1) / 2.

    Args:
        network: F(x, c_noise, **condition), x [B, ...] and c_noise [B].
        prediction: what F predicts.
        schedule: the schedule of the x_t that come in.
        log_snr_range: the log-SNRs seen in training (lowest, highest); default: from sigma/alpha
            = 0.002 to 160, cut to what the schedule has.

    Raises:
        UndiffuseError: in a call at alpha(t) = 0 if the prediction cannot work there.

    Source of v: Nichol & Dhariwal 2021 (arXiv 2102.09672), equation 15, where v is in [0, 1].
    """

    def __init__(
        self,
        network: nn.Module,
        prediction: Prediction,
        schedule: Schedule,
        log_snr_range: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.prediction = prediction
        self.schedule = schedule
        low, high = float(schedule.log_snr(1.0)), float(schedule.log_snr(0.0))
        self._range = log_snr_range or (max(low, -10.15), min(high, 12.43))

    @property
    def log_snr_range(self) -> tuple[float, float]:
        """The log-SNRs seen in training."""
        return self._range

    def config(self) -> dict[str, Any]:
        """All but the weights, as JSON: network, prediction, schedule and log-SNR range."""
        parts = {k: describe(getattr(self, k)) for k in ("network", "prediction", "schedule")}
        return {**parts, "log_snr_range": list(self._range)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Learned:
        """The denoiser that `config` describes, with fresh weights."""
        low, high = config["log_snr_range"]
        network = build(config["network"], "networks")
        prediction = build(config["prediction"], "predictions")
        return cls(network, prediction, build(config["schedule"], "schedules"), (low, high))

    def prepare(self, batch: int, **condition: Condition) -> dict[str, Any]:
        """{"encoded": network.encode(batch, ...)} if the network's forward takes `encoded`."""
        if "encoded" not in signature(self.network.forward).parameters:
            return condition
        return {"encoded": self.network.encode(batch, **condition)}  # type: ignore[operator]

    def predict(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        """F(scale x_t, c_noise), the network's own output, of x_t's shape; t scalar or [B]."""
        return self._ask(x_t, t, condition)[:, : x_t.shape[1]]

    def _ask(self, x_t: Tensor, t: Tensor, condition: dict[str, Condition]) -> Tensor:
        """All that the network says: F, or F and v behind it, [B, C or 2C, ...]."""
        scale = self.prediction.scale(self.schedule.alpha(t), self.schedule.sigma(t))
        log_snr = self.schedule.log_snr(t).clamp(*self._range)
        weight = next(self.network.parameters())
        x = (over(scale, x_t) * x_t).to(weight)  # dtype and device of the network
        c_noise = (-log_snr / 8).to(x).expand(len(x))
        F: Tensor = self.network(x, c_noise, **condition)
        return F.to(x_t.dtype)

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        return self._denoised(x_t, t, self.predict(x_t, t, **condition))

    def _denoised(self, x_t: Tensor, t: Tensor, F: Tensor) -> Tensor:
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        if self.prediction.needs_signal and bool((alpha == 0).any()):
            raise UndiffuseError(
                f"{self.prediction.name} prediction cannot tell the data at t = {t}, where alpha ="
                " 0: start below t = 1, or train with v, edm, flow or data prediction"
            )
        skip = over(self.prediction.skip(alpha, sigma), x_t)
        out = over(self.prediction.out(alpha, sigma), x_t)
        return skip * x_t + out * F

    def reverse_variance(self, x_t: Tensor, t: Time, s: Time, **condition: Condition) -> Tensor:
        """The learned variance of p(x_s | x_t), of x_t's shape, float64; 0 at sigma(s) = 0.

        Raises:
            UndiffuseError: the network has no variance=true; s is not before t.
        """
        return self.reverse(x_t, t, s, **condition)[1]

    def reverse(
        self, x_t: Tensor, t: Time, s: Time, **condition: Condition
    ) -> tuple[Tensor, Tensor]:
        t = time_of(x_t, t)
        asked = self._ask(x_t, t, condition)
        if asked.shape[1] != 2 * x_t.shape[1]:
            raise _no_variance(self)
        F, v = asked.chunk(2, dim=1)
        variance = process.interpolated_variance(self.schedule, t, s, (v + 1) / 2)
        return self._denoised(x_t, t, F), variance


class Rescheduled(Denoiser):
    r"""A denoiser D of another schedule, seen under `schedule`.

    D'(x, t') = D(c x, tau) with log_snr(tau) = log_snr'(t') and c = alpha(tau) / alpha'(t'), where
    c is written sqrt(alpha^2 + sigma^2) / sqrt(alpha'^2 + sigma'^2), which is the same and finite
    at alpha' = 0. Exact wherever log_snr' lies in `denoiser.log_snr_range`; outside, log_snr' is
    clipped to that range.
    """

    def __init__(self, denoiser: Denoiser, schedule: Schedule) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.schedule = schedule

    @property
    def log_snr_range(self) -> tuple[float, float]:
        """The range of the denoiser underneath."""
        return self.denoiser.log_snr_range

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        tau, scale = self._there(t)
        return self.denoiser(over(scale, x_t) * x_t, tau, **condition)

    def _there(self, t: Time) -> tuple[Tensor, Tensor]:
        """tau, and the factor c of the samples."""
        base = self.denoiser.schedule
        tau = base.t_from_log_snr(self.schedule.log_snr(t).clamp(*self.denoiser.log_snr_range))
        there = torch.hypot(base.alpha(tau), base.sigma(tau))
        return tau, there / torch.hypot(self.schedule.alpha(t), self.schedule.sigma(t))

    def prepare(self, batch: int, **condition: Condition) -> dict[str, Any]:
        return self.denoiser.prepare(batch, **condition)

    def posterior_variance(self, x_t: Tensor, t: Time, **condition: Condition) -> Tensor:
        """That of the denoiser underneath."""
        tau, scale = self._there(t)
        return self.denoiser.posterior_variance(over(scale, x_t) * x_t, tau, **condition)

    def reverse_variance(self, x_t: Tensor, t: Time, s: Time, **condition: Condition) -> Tensor:
        """That of the same step underneath, with x_s on this schedule's scale.

        Raises:
            UndiffuseError: the step leaves `log_snr_range`; the denoiser underneath knows none.
        """
        (tau, scale), (tau_s, scale_s) = self._there(t), self._there(s)
        low, high = self.denoiser.log_snr_range
        log_snrs = torch.cat([self.schedule.log_snr(u).reshape(-1) for u in (t, s)])
        if not bool(((log_snrs >= low) & (log_snrs <= high)).all()):
            raise UndiffuseError(
                f"the reverse variance is known for log-SNRs in [{low:.4g}, {high:.4g}] only, and"
                f" the step from t = {t} to s = {s} leaves it: use other times"
            )
        variance = self.denoiser.reverse_variance(over(scale, x_t) * x_t, tau, tau_s, **condition)
        return variance / over(scale_s**2, variance)

    def with_schedule(self, schedule: Schedule) -> Denoiser:
        return self.denoiser.with_schedule(schedule)
