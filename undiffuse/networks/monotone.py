r"""A learned noise schedule: a network that can only fall with t.

The variational bound does not depend on the shape of log_snr(t) between its ends, but the variance
of its estimate does; a schedule can therefore be trained beside the denoiser to lower that
variance, or fitted to any wish. A network whose weights are all positive and whose activations rise
is a rising function of its input, whatever its weights:

    gamma~(t) = l_1(t) + l_3(sigmoid(l_2(l_1(t)))),           l_i affine with positive factors,
    -log_snr(t) = gamma_0 + (gamma_1 - gamma_0) (gamma~(t) - gamma~(0)) / (gamma~(1) - gamma~(0)).

This is no network F(x, c_noise) of a denoiser: it stands here because it is trained. What has been
learned is frozen into a `Tabulated` schedule, a plain value like every other.

Source: Kingma et al. 2021 (arXiv 2107.00630), appendix H.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from undiffuse.errors import UndiffuseError
from undiffuse.networks.checks import whole
from undiffuse.schedules.tabulated import Tabulated


class MonotoneLogSNR(nn.Module):
    """log_snr(t) that falls strictly for t in [0, 1], with trainable shape and trainable ends.

    Args:
        highest: log_snr(0) before training.
        lowest: log_snr(1) before training, below `highest`.
        width: hidden units.

    Raises:
        UndiffuseError: unless lowest < highest and width is a whole number >= 1.

    Source: Kingma et al. 2021 (arXiv 2107.00630), appendix H: 1024 hidden units, ends at 13.3 and
    -5.

    >>> learned = MonotoneLogSNR(highest=8.0, lowest=-6.0, width=16)
    >>> [round(v, 3) for v in learned(torch.tensor([0.0, 1.0])).tolist()]
    [8.0, -6.0]
    """

    def __init__(self, highest: float = 13.3, lowest: float = -5.0, width: int = 1024) -> None:
        super().__init__()
        if not lowest < highest:
            raise UndiffuseError(
                f"MonotoneLogSNR: highest = {highest} must be larger than lowest = {lowest}"
            )
        if not whole(width, 1):
            raise UndiffuseError(f"MonotoneLogSNR: width must be a whole number >= 1, not {width}")
        self.linear_1 = nn.Linear(1, 1)
        self.linear_2 = nn.Linear(1, width)
        self.linear_3 = nn.Linear(width, 1)
        self.highest = nn.Parameter(torch.tensor(float(highest)))
        self.log_fall = nn.Parameter(torch.tensor(float(highest - lowest)).log())

    def _rising(self, t: Tensor) -> Tensor:
        """gamma~(t), [n, 1]; the stored weights are made positive by softplus."""
        first = linear(t, softplus(self.linear_1.weight), self.linear_1.bias)  # [n, 1]
        hidden = linear(first, softplus(self.linear_2.weight), self.linear_2.bias)  # [n, width]
        total = linear(hidden.sigmoid(), softplus(self.linear_3.weight), self.linear_3.bias)
        rising: Tensor = first + total / self.linear_2.out_features  # a mean: of order one, too
        return rising

    def forward(self, t: Tensor) -> Tensor:
        """log_snr(t), of t's shape, in the dtype of the weights; differentiable in all of them."""
        flat = t.reshape(-1, 1).to(self.highest)  # [n, 1]
        ends = self._rising(torch.tensor([[0.0], [1.0]]).to(flat))  # [2, 1]
        share: Tensor = (self._rising(flat) - ends[0]) / (ends[1] - ends[0])
        return (self.highest - self.log_fall.exp() * share).reshape(t.shape)

    @torch.no_grad()
    def freeze(self, knots: int = 1000) -> Tabulated:
        """The schedule of the values at `knots` + 1 equally spaced times, in float64.

        Raises:
            UndiffuseError: knots is no whole number >= 1.
        """
        if not whole(knots, 1):
            raise UndiffuseError(f"freeze: knots must be a whole number >= 1, not {knots}")
        exact = deepcopy(self).cpu().double()
        times = torch.linspace(0, 1, knots + 1, dtype=torch.float64)
        return Tabulated(tuple(exact(times).tolist()))
