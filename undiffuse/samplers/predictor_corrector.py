"""Predictor-corrector sampling: any rule, and after each of its steps some Langevin dynamics."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from undiffuse.catalogue import build, check, finite
from undiffuse.denoiser import Denoiser
from undiffuse.samplers.base import Memory, Noise, Sampler
from undiffuse.samplers.ddpm import DDPM
from undiffuse.samplers.levels import level


@dataclass(frozen=True)
class PredictorCorrector(Sampler):
    r"""A step of `predictor` to s, then `inner` Langevin steps at the noise level of s:

        x <- x + e score(x, s) + sqrt(2 e) z,    e = 2 (snr sigma_s)^2.

    The predictor moves to the next level, the corrector brings the law back to p_s. The paper has
    e = 2 (snr |z| / |score|)^2 with both norms averaged over the batch, which would let a sample
    depend on the others; here they have the values of pure noise, sqrt(D) and sqrt(D) / sigma, so
    a step is stable at every level for snr < 1. (Its factor alpha_k of one step of a chain, near 1,
    is left out.) No corrector follows the step to sigma = 0. A step costs what the predictor's
    does, and `inner` evaluations.

    Raises:
        UndiffuseError: predictor is no sampler, snr outside (0, 1), or inner not a whole number
            >= 1.

    Source: Song et al. 2021 (arXiv 2011.13456), algorithms 2 to 5; snr is their r.
    """

    name: ClassVar[str] = "predictor-corrector"
    grid: ClassVar[str] = "uniform"
    predictor: Sampler = field(default_factory=DDPM)
    snr: float = 0.16
    inner: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "predictor", build(self.predictor, "samplers"))
        check(isinstance(self.predictor, Sampler), self, "predictor", "a sampler")
        check(finite(self.snr) and 0 < self.snr < 1, self, "snr", "in (0, 1)")
        whole = finite(self.inner) and self.inner % 1 == 0
        check(whole and self.inner >= 1, self, "inner", "a whole number, at least 1")

    @property
    def stochastic(self) -> bool:
        return True

    def step(
        self, denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        predict = self.predictor.step
        x, memory = predict(denoiser, x, t, s, memory, noise)
        sigma = level(denoiser.schedule, float(s)).sigma
        if sigma > 0:
            size = 2 * (self.snr * sigma) ** 2
            for _ in range(int(self.inner)):
                x = x + size * denoiser.score(x, s) + math.sqrt(2 * size) * noise(x)
        return x, memory
