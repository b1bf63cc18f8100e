r"""What an evidence lower bound is made of: three terms, in nats, with their uncertainty.

    -log p(x_0)  <=  L_T  +  sum or integral of the steps  +  L_0

The numbers are kept per sample and per draw of the noise, so sums, averages, bits per dimension and
standard errors all follow from them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Bound:
    """A bound on -log p(x_0) of N samples of D dimensions, from M draws of the noise each.

    Every term is a sum over dimensions, in nats. Printed, it is a table.

    Attributes:
        prior: L_T, the samples' distance from the prior, [N].
        diffusion: the terms of the steps in between, from noise to data, [n, M, N].
        reconstruction: L_0 = -log p(x_0 | x_t) at the last noisy time, [M, N].
        times: the time t of each of the n terms, [n].
        dimensions: D.
    """

    prior: Tensor
    diffusion: Tensor
    reconstruction: Tensor
    times: Tensor
    dimensions: int

    @property
    def total(self) -> Tensor:
        """The bound of each sample in nats, averaged over the draws, [N]."""
        return self._draws().mean(0)

    @property
    def nats(self) -> float:
        """The bound in nats, averaged over the samples."""
        return float(self.total.mean())

    @property
    def bits_per_dimension(self) -> float:
        """nats / (D log 2). For a continuous decoder of a density in the data's own units."""
        return self.nats / (self.dimensions * math.log(2))

    @property
    def standard_error(self) -> float:
        """Of `nats`, over samples and noise together; nan for a single sample."""
        return _error(self.total)

    @property
    def noise_error(self) -> float:
        """Of `nats`, over the noise alone, these samples given; nan for a single draw."""
        draws = self._draws()
        if len(draws) < 2:
            return math.nan
        return float((draws.var(0) / len(draws)).sum().sqrt() / draws.shape[1])

    def _draws(self) -> Tensor:
        return self.prior + self.diffusion.sum(0) + self.reconstruction  # [M, N]

    def __repr__(self) -> str:
        steps, middle = self.diffusion.mean(1), self.diffusion.sum(0).mean(0)
        rows = [
            ("L_T", "prior", self.prior),
            *((f"t={t:.4g}", "step", row) for t, row in _few(self.times.tolist(), steps)),
            ("sum", f"{len(steps)} steps", middle),
            ("L_0", "reconstruction", self.reconstruction.mean(0)),
            ("total", "-log p <=", self.total),
        ]
        scale = self.dimensions * math.log(2)
        lines = [f"{'term':<9} {'':<15} {'nats':>12} {'error':>10} {'bits/dim':>10}"]
        for name, what, values in rows:
            mean = float(values.mean())
            error = _error(values)
            lines.append(f"{name:<9} {what:<15} {mean:12.5g} {error:10.2g} {mean / scale:10.4g}")
        return "\n".join(lines)


def _error(values: Tensor) -> float:
    if len(values) < 2:
        return math.nan
    return float(values.std() / math.sqrt(len(values)))


def _few(times: list[float], rows: Tensor) -> list[tuple[float, Tensor]]:
    """At most eight of the steps, evenly spread, both ends among them."""
    count = len(times)
    chosen = torch.linspace(0, count - 1, min(count, 8)).round().long().tolist()
    return [(times[i], rows[i]) for i in chosen]
