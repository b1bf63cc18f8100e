"""The loss of a classifier of noisy samples: cross-entropy at all noise levels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from undiffuse import process
from undiffuse.denoiser import Condition
from undiffuse.errors import UndiffuseError
from undiffuse.guidance.noisy_classifier import NoisyClassifier
from undiffuse.objectives.times.base import Times


@dataclass(frozen=True)
class Classification:
    """E_{t, x_0, eps}  c(t) (-log p(label | x_t)),  x_t = alpha x_0 + sigma eps.

    Its minimum is the exact p(label | x_t) at every noise level that the times reach. A hidden
    label, -1, teaches nothing: its loss is 0.

    Raises:
        UndiffuseError: in a call: samples without labels.

    Source: Dhariwal & Nichol 2021 (arXiv 2105.05233), section 4.

    >>> from undiffuse.objectives.times.uniform import Uniform
    >>> Classification(Uniform())
    Classification(times=Uniform(steps=None))
    """

    times: Times

    def loss(
        self,
        classifier: NoisyClassifier,
        x_0: Tensor,
        u: Tensor,
        noise: Tensor,
        **condition: Condition,
    ) -> Tensor:
        """The loss of each sample, [B].

        Args:
            classifier: the classifier in training.
            x_0: data [B, ...].
            u: uniform numbers [B] in [0, 1) that choose the times.
            noise: standard normal numbers [B, ...].
            condition: label, int64 [B].
        """
        label = condition.get("label")
        if label is None:
            raise UndiffuseError("a classifier learns from labels, and this data has none")
        t = self.times.times(u, classifier.schedule)
        log_p = classifier(process.noised(classifier.schedule, x_0, t, noise), t)  # [B, K]
        losses = functional.nll_loss(log_p, label, ignore_index=-1, reduction="none")
        return self.times.correction(t, classifier.schedule).to(losses) * losses
