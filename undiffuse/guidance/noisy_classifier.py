"""A classifier of noisy samples, p(label | x_t): what classifier guidance follows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from undiffuse.broadcast import over
from undiffuse.catalogue import build, describe
from undiffuse.errors import UndiffuseError
from undiffuse.schedules.base import Schedule, Time, as_time


class NoisyClassifier(nn.Module):
    """log p(label | x_t), [B, K], by a network of the catalogue and a linear layer.

    The network sees samples of about unit variance and c_noise = -log_snr / 8, as in a denoiser;
    its output, of the shape of a sample, is read by the linear layer. So it belongs to no
    particular schedule. A recipe with kind = "classifier" trains it, or `training.fit_classifier`.

    Args:
        body: F(x, c_noise) of x's shape.
        shape: that of one sample.
        classes: K >= 2.
        schedule: the schedule of the x_t that come in.

    Raises:
        UndiffuseError: fewer than two classes.

    Source: Dhariwal & Nichol 2021 (arXiv 2105.05233), section 4.

    >>> from undiffuse.networks.mlp import MLP
    >>> from undiffuse.schedules.vp import VP
    >>> judge = NoisyClassifier(MLP(size=2, width=8, depth=1), (2,), 3, VP())
    >>> judge(torch.zeros(4, 2), 0.5).shape
    torch.Size([4, 3])
    """

    def __init__(
        self, body: nn.Module, shape: tuple[int, ...], classes: int, schedule: Schedule
    ) -> None:
        super().__init__()
        if classes < 2:
            raise UndiffuseError(f"a classifier needs two classes or more, not {classes}")
        self.body, self.shape, self.classes, self.schedule = body, shape, classes, schedule
        self.head = nn.Linear(math.prod(shape), classes)

    @property
    def network(self) -> nn.Module:
        """What is trained: body and head, all of it."""
        return self

    def forward(self, x_t: Tensor, t: Time) -> Tensor:
        t = as_time(t)
        scale = 1 / torch.hypot(self.schedule.alpha(t), self.schedule.sigma(t))
        c_noise = (-self.schedule.log_snr(t) / 8).clamp(-1.6, 1.6)  # log-SNRs within +-12.8
        x = (over(scale, x_t) * x_t).to(self.head.weight)
        features = self.body(x, c_noise.to(x).expand(len(x)))
        log_p: Tensor = self.head(features.flatten(1)).log_softmax(1)
        return log_p.to(x_t.dtype)

    def under(self, schedule: Schedule) -> NoisyClassifier:
        """The same classifier, sharing its weights, for x_t of another schedule."""
        made = NoisyClassifier(self.body, self.shape, self.classes, schedule)
        made.head = self.head
        return made.train(self.training)

    def config(self) -> dict[str, Any]:
        """All but the weights, as JSON."""
        parts = {"body": describe(self.body), "schedule": describe(self.schedule)}
        return {**parts, "shape": list(self.shape), "classes": self.classes}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> NoisyClassifier:
        """The classifier that `config` describes, with fresh weights."""
        body, schedule = build(config["body"], "networks"), build(config["schedule"], "schedules")
        return cls(body, tuple(config["shape"]), int(config["classes"]), schedule)
