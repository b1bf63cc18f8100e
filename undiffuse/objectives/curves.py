r"""Every loss as one curve w(log_snr).

Whatever the times, the weight and the schedule, a denoising loss is

    L = 1/2 int w(lambda) E|eps_hat - eps|^2 dlambda,    lambda = log_snr,

so losses are compared by their w alone. w = 1 is the evidence lower bound; what a network predicts
does not matter.
"""

from __future__ import annotations

import torch
from torch import Tensor

from undiffuse.objectives.objective import LOG_SNR_LIMIT, Objective
from undiffuse.schedules.base import Schedule, Time, as_time


def effective_weight(
    objective: Objective, schedule: Schedule, log_snr: Time, at: float | None = None
) -> Tensor:
    """w(log_snr) of the integral above, float64 of log_snr's shape.

    w = 2 p(log_snr) weight(log_snr), with p the density of log-SNR that follows from that of t (or
    the measure that stands for it); 0 where the schedule has no such log-SNR. Per dimension, as the
    objective's loss.

    Args:
        objective: times and weight.
        schedule: the schedule under which the times are drawn.
        log_snr: where to evaluate, finite.
        at: a log-SNR at which the curve is scaled to 1, for a plot; None: as it is.

    Source: Kingma & Gao 2023 (arXiv 2303.00848), table 1.

    >>> from undiffuse.objectives.times.uniform import Uniform
    >>> from undiffuse.objectives.weights.flow import Flow as FlowMatching
    >>> from undiffuse.schedules.flow import Flow
    >>> loss = Objective(Uniform(), FlowMatching())
    >>> effective_weight(loss, Flow(), torch.tensor([-2.0, 0.0])).tolist()  # exp(-log_snr / 2)
    [2.718..., 1.0...]
    """
    log_snr = as_time(log_snr)
    t = schedule.t_from_log_snr(log_snr)
    inside = (log_snr >= schedule.log_snr(1.0)) & (log_snr <= schedule.log_snr(0.0))
    per_log_snr = objective.times.measure(t, schedule) / -schedule.log_snr_rate(t)
    log_weight = objective.weight.log_weight(log_snr.clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT))
    curve = torch.where(inside, 2 * per_log_snr * log_weight.exp(), 0.0)
    return curve if at is None else curve / effective_weight(objective, schedule, at)
