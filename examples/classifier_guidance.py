"""Classifier guidance: a denoiser that knows no labels, led by a classifier of noisy pictures.

The score of p(x | y) is the score of p(x) plus grad log p(y | x), so an unconditional denoiser and
the gradient of a classifier make a conditional one. Here the denoiser is the ideal one of the
digits, without labels; only the classifier is trained, on noisy digits. The weight w follows
p(y | x)^w. Whether a sample shows the digit asked for is told by another classifier.

Lecture: Gardos, DS542, classifier guidance; Dhariwal & Nichol 2021.
"""

from __future__ import annotations

from pathlib import Path

import torch
from _plots import GALLERY, panels, save

import undiffuse as ud
from undiffuse.evaluation.classifier import fit

WEIGHTS = (0.0, 1.0, 3.0)


def main(steps: int = 250, out: str | Path = GALLERY) -> Path:
    """Train the classifier for `steps` steps, and draw samples of each digit for three weights."""
    schedule = ud.schedules.EDM()
    digits = ud.data.open_data("digits")
    points = digits.batch(torch.arange(len(digits))).x
    denoiser = ud.exact.GaussianMixture(points, None, schedule, std=0.2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ud.networks.UNet(channels=1, width=16, blocks=1, attention=(False, False))
    follow = ud.training.fit_classifier(digits, network, schedule, steps=steps)
    judge = fit(digits, digits.held_out)

    label = torch.arange(10).repeat(min(20, steps))  # row after row of all digits
    figure, axes = panels(len(WEIGHTS), width=3.6, height=2.5)
    for axis, weight in zip(axes, WEIGHTS, strict=True):
        guide = ud.guidance.ClassifierGuided(denoiser, follow, weight)
        x = ud.sample(guide, (len(label), 1, 8, 8), steps=20, seed=0, label=label)
        share = float((judge.predict(x) == label).double().mean())
        rows = torch.nn.functional.pad(x[:50, 0], (0, 1, 0, 1), value=1.0)  # [50, 9, 9]
        sheet = rows.reshape(-1, 10, 9, 9).transpose(1, 2).reshape(-1, 90)
        axis.imshow(-sheet, cmap="gray", vmin=-1, vmax=1)
        axis.set(xticks=range(4, 90, 9), xticklabels=range(10), yticks=[])
        axis.spines[:].set_visible(False)
        axis.set_title(f"w = {weight:g}: {share:.0%} show the digit asked for")
    return save(figure, out, "classifier_guidance")


if __name__ == "__main__":
    print(main())
