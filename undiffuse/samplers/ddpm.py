"""Ancestral sampling, the reverse chain of DDPM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from undiffuse import process
from undiffuse.broadcast import over
from undiffuse.catalogue import check, finite
from undiffuse.denoiser import Denoiser
from undiffuse.samplers.base import Memory, Noise, Sampler


@dataclass(frozen=True)
class DDPM(Sampler):
    r"""x_s ~ N(mu(x_t, x0_hat), std^2), mu the mean of q(x_s | x_t, x_0 = x0_hat).

    std^2 = \tilde\beta^(1 - variance) beta^variance with beta = sigma_{t|s}^2 and \tilde\beta =
    beta sigma_s^2 / sigma_t^2. `variance` 0 is \tilde\beta, optimal if the data is one point
    (lecture 000); 1 is beta, optimal for N(0, I) data (lecture 002, algorithm 2); values between
    interpolate the logarithm. "own" is the denoiser's `reverse_variance`: learned with the network,
    or optimal for an exact denoiser. No noise enters in the step to sigma = 0.

    Exact for x_0 ~ q(x_0 | x_t); with the point estimate x0_hat the law of x_s is approximate at
    finite step size.

    Raises:
        UndiffuseError: variance outside [0, 1]; in a step: the denoiser has no variance of its own.

    Source: Ho et al. 2020 (arXiv 2006.11239); Nichol & Dhariwal 2021 (arXiv 2102.09672);
    Bao et al. 2022 (arXiv 2201.06503).
    """

    name: ClassVar[str] = "ddpm"
    grid: ClassVar[str] = "uniform"
    variance: float | str = 0.0

    def __post_init__(self) -> None:
        value = self.variance
        fine = value == "own" or (finite(value) and 0 <= float(value) <= 1)
        check(fine, self, "variance", 'in [0, 1], or "own"')

    @property
    def stochastic(self) -> bool:
        return True

    def step(
        self, denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        schedule = denoiser.schedule
        if bool(schedule.sigma(s) == 0):
            return process.posterior(schedule, x, denoiser(x, t), t, s)[0], None
        if self.variance == "own":
            x0_hat, variance = denoiser.reverse(x, t, s)
        else:
            x0_hat = denoiser(x, t)
            variance = process.interpolated_variance(schedule, t, s, float(self.variance))
        mean, _ = process.posterior(schedule, x, x0_hat, t, s)
        return mean + over(variance.sqrt(), x) * noise(x), None
