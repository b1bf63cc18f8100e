"""UniPC: a predictor and a corrector that share one evaluation per step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from undiffuse.catalogue import check
from undiffuse.denoiser import Denoiser
from undiffuse.samplers.base import Memory, Noise, Sampler
from undiffuse.samplers.levels import first_order, inner, level
from undiffuse.samplers.multistep import Choices, coefficients, combine


class _Past(NamedTuple):
    """The corrected sample at times[0], where the last step began, and the last x0_hat."""

    x: Tensor
    times: tuple[float, ...]
    fields: tuple[Tensor, ...]


@dataclass(frozen=True)
class UniPC(Sampler):
    r"""Predict x_s from the last `order` x0_hat; at s, correct with x0_hat(x_s) through one more.

    Both integrate a polynomial in log-SNR as the multistep kernel does with x0_hat. The corrector
    costs nothing: x0_hat at the predicted sample corrects the step before and predicts the next.
    The paper's B(h), "bh1" or "bh2", matters where it puts 1/2 for the mean of a line: in the
    predictor of two values (with "bh2" DPM-Solver++ (2M)) and in the first corrector; the other
    coefficients solve equations from which B(h) cancels.

    Order p + 1 with exact values to remember, 3 from a cold start, one evaluation a step. A step
    from or to alpha = 0 or to sigma = 0 is first order and is not corrected.

    Raises:
        UndiffuseError: order outside 1 ... 3, another variant.

    Source: Zhao et al. 2023 (arXiv 2302.04867), algorithms 1 and 2, in data prediction.
    """

    name: ClassVar[str] = "unipc"
    order: int = 2
    variant: str = "bh2"

    def __post_init__(self) -> None:
        check(type(self.order) is int and self.order in {1, 2, 3}, self, "order", "1, 2 or 3")
        check(self.variant in {"bh1", "bh2"}, self, "variant", '"bh1" or "bh2"')

    def step(
        self, denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        schedule, t_now, t_then = denoiser.schedule, float(t), float(s)
        now, then = level(schedule, t_now), level(schedule, t_then)
        x0_hat = denoiser(x, t)
        past: _Past = memory or _Past(x, (), ())
        if past.times:
            times = (*past.times, t_now)
            factors = coefficients(self._choices(times), schedule, times, past.times[0], t_now)
            x = combine(past.x, factors, (*past.fields, x0_hat))
        if not inner(now, then):
            return first_order(x, x0_hat, now, then), None
        times = (t_now, *past.times)[: self.order]
        fields = (x0_hat, *past.fields)[: self.order]
        factors = coefficients(self._choices(times), schedule, times, t_now, t_then)
        return combine(x, factors, fields), _Past(x, times, fields)

    def _choices(self, times: tuple[float, ...]) -> Choices:
        """Two values, whichever, are the line for which the paper puts 1/2."""
        return Choices("data", "log-snr", self.variant if len(times) == 2 else "exact", len(times))
