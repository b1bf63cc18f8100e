"""Classifier guidance: an unconditional denoiser led by a classifier of noisy samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from undiffuse.catalogue import check, finite
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.derivatives import gradient
from undiffuse.errors import UndiffuseError
from undiffuse.guidance.base import PREPARED, Guide, tilted

LogProbabilities = Callable[[Tensor, Tensor], Tensor]


class ClassifierGuided(Guide):
    """x0_hat(x_t) + (sigma^2 / alpha) w grad log p(label | x_t), the gradient by autograd.

    With the exact classifier and w = 1 it is E[x_0 | x_t, label]; w > 1 takes p(label | x_t)^w and
    follows the label more closely. The denoiser is asked without the label, which is the
    classifier's; -1 guides nowhere. To guide a conditional model, use `LikelihoodGuide`, which
    passes conditions on.

    Args:
        denoiser: E[x_0 | x_t].
        classifier: (x_t [B, ...], t) -> log-probabilities [B, K] under the schedule of `denoiser`,
            trained on noisy samples, such as a `NoisyClassifier`; t is a float64 scalar or [B].
        weight: w >= 0.

    Raises:
        UndiffuseError: weight out of range; in a call: no label, one that the classifier does not
            know, or alpha(t) = 0.

    Source: Dhariwal & Nichol 2021 (arXiv 2105.05233), section 4.
    """

    name: ClassVar[str] = "classifier-guided"

    def __init__(
        self, denoiser: Denoiser, classifier: LogProbabilities, weight: float = 1.0
    ) -> None:
        super().__init__()
        self.denoiser, self.classifier, self.weight = denoiser, classifier, weight
        check(finite(weight) and weight >= 0, self, "weight", "a finite number >= 0")

    def prepare(self, batch: int, **condition: Condition) -> dict[str, Any]:
        """The label for the classifier, all else for the denoiser."""
        ready = self.denoiser.prepare(batch, **self.beneath(condition))
        return {**condition, PREPARED: ready}

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        label = condition.get("label")
        if label is None:
            raise UndiffuseError("classifier guidance needs a label to guide towards")

        def log_likelihood(x: Tensor) -> Tensor:
            log_p = self.classifier(x, t)  # [B, K]
            if int(label.max()) >= log_p.shape[1]:
                raise UndiffuseError(
                    f"the classifier knows labels 0 to {log_p.shape[1] - 1}, not {int(label.max())}"
                )
            chosen: Tensor = log_p.gather(1, label.clamp(min=0)[:, None])[:, 0]
            return torch.where(label >= 0, chosen, 0.0)

        x0_hat = self.denoiser(x_t, t, **condition.get(PREPARED, self.beneath(condition)))
        pull = self.weight * gradient(log_likelihood, x_t)
        return tilted(self.schedule, x0_hat, t, pull)

    def beneath(self, condition: dict[str, Condition]) -> dict[str, Condition]:
        """Without the label."""
        return {k: v for k, v in condition.items() if k != "label"}
