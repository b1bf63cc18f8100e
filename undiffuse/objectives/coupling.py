r"""Which noise goes with which sample: the pairing of least squared distance within a batch.

Training pairs data and noise at random, and then the paths from noise to data cross. Any pairing in
which both keep their distributions gives the flow ODE the same ends; the one with the shortest way,

    min over permutations pi of  sum_i |x_0^i - eps^{pi(i)}|^2,

makes its paths straighter, so fewer steps follow them. Given x_0, eps is then no longer N(0, I):
x0_hat, noise and velocity are still those of the flow ODE, for deterministic samplers, but
-noise / sigma is not the score.
"""

from __future__ import annotations

import torch
from torch import Tensor

from undiffuse.errors import UndiffuseError


def couple(x_0: Tensor, noise: Tensor, label: Tensor | None = None) -> Tensor:
    """The noise in the order of the optimal transport to x_0, of noise's shape.

    Only samples with the same label change places, so that the noise given a label stays N(0, I).
    The cost of B samples of one label grows like B^3 at worst; 1024 take less than a second.

    Args:
        x_0: data [B, ...].
        noise: standard normal numbers of the same shape.
        label: the labels that a network sees, [B], or None.

    Raises:
        UndiffuseError: x_0 and noise differ in shape.

    Source: Tong et al. 2023 (arXiv 2302.00482), OT-CFM; Pooladian et al. 2023 (arXiv
    2304.14772).

    >>> couple(torch.tensor([[0.0], [5.0]]), torch.tensor([[4.0], [-1.0]])).tolist()
    [[-1.0], [4.0]]
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, and used only here

    if x_0.shape != noise.shape:
        raise UndiffuseError(
            f"data and noise must have one shape to be paired, not {tuple(x_0.shape)} and"
            f" {tuple(noise.shape)}"
        )
    group = torch.zeros(len(x_0)) if label is None else label.cpu()
    order = torch.arange(len(x_0))
    for value in group.unique():
        members = (group == value).nonzero()[:, 0]
        a = x_0.detach()[members].flatten(1).double()
        b = noise.detach()[members].flatten(1).double()
        gain = (a @ b.T).cpu().numpy()  # the squares of a and b are in every pairing
        order[members] = members[torch.from_numpy(linear_sum_assignment(gain, maximize=True)[1])]
    return noise[order.to(noise.device)]
