"""All the losses side by side: each is one curve w(log-SNR) in the same integral.

L = 1/2 int w(lambda) E|eps - eps_hat|^2 dlambda, whatever the times, the weight, the prediction and
the schedule are. w = 1 is the likelihood; the others look less at noise that no eye can see.

Lecture: Design note and Huang, U Tokyo, simplified losses; Kingma & Gao 2023, figure 2.
"""

from __future__ import annotations

from pathlib import Path

import torch
from _plots import GALLERY, GREY, panels, save

import undiffuse as ud
from undiffuse.objectives import times, weights

uniform = times.Uniform()
cosine, chain = ud.schedules.Cosine(), ud.schedules.Discrete.linear(1000)
FAMILIES = {
    "Noise, data and v prediction": {
        "Ho 2020, $L_{simple}$": (uniform, weights.Simple(), chain),
        "Nichol 2021, cosine": (uniform, weights.Simple(), cosine),
        "Salimans 2022, $x_0$": (uniform, weights.Data(), cosine),
        "Salimans 2022, v": (uniform, weights.V(), cosine),
    },
    "Weights made for images": {
        "Choi 2022, P2": (uniform, weights.P2(), chain),
        "Hang 2023, min-SNR-5": (uniform, weights.MinSNR(), cosine),
        "Crowson 2024, soft min-SNR": (uniform, weights.SoftMinSNR(), cosine),
        "Kingma & Gao 2023, sigmoid": (times.Integral(), weights.Sigmoid(), cosine),
    },
    "Distributions of noise levels": {
        "Karras 2022, EDM": (times.LogNormal(), weights.EDM(), ud.schedules.EDM()),
        "Lipman 2023, flow matching": (uniform, weights.Flow(), ud.schedules.Flow()),
        "Esser 2024, logit-normal": (times.LogitNormal(), weights.Flow(), ud.schedules.Flow()),
    },
}


def main(steps: int = 400, out: str | Path = GALLERY) -> Path:
    """Draw every curve, scaled to 1 at log-SNR 0, at `steps` log-SNRs."""
    log_snr = torch.linspace(-8, 8, steps, dtype=torch.float64)
    figure, axes = panels(3, width=3.7, height=4.2, sharey=True)
    for axis, (title, losses) in zip(axes, FAMILIES.items(), strict=True):
        for i, (name, (drawn, weight, schedule)) in enumerate(losses.items()):
            loss = ud.Objective(drawn, weight)
            curve = ud.objectives.effective_weight(loss, schedule, log_snr, at=0.0)
            inside = curve > 0  # the others lie outside the schedule
            style = ("-", "--", "-.", ":")[i]
            axis.semilogy(log_snr[inside], curve[inside], style, color=f"C{i}", label=name, lw=1.8)
        axis.axhline(1, color=GREY, lw=1)
        axis.text(7.8, 1.12, "likelihood, $w = 1$", ha="right", color=GREY, fontsize=8.5)
        axis.set(
            title=title, xlabel="log-SNR (noise to data)", ylim=(3e-3, 60), xticks=[-8, -4, 0, 4, 8]
        )
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), fontsize=9)
    axes[0].set_ylabel("$w$, scaled to 1 at log-SNR 0")
    return save(figure, out, "loss_weights")


if __name__ == "__main__":
    print(main())
