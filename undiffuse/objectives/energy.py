r"""Maximum likelihood for energy-based models, the loss that score matching avoids.

For p(x) = exp(-E(x)) / Z the loss is the negative log-likelihood

    L = E_data[E(x)] + log Z,        grad L = E_data[grad E(x)] - E_p[grad E(x)],

whose second term asks for samples of the model itself. (The lecture prints -E[E(x)] - log Z, which
is the log-likelihood and is to be maximised.)

Sources: Hinton 2002; Song & Kingma 2021 (arXiv 2101.03288); lecture 004.
"""

from __future__ import annotations

from torch import Tensor

from undiffuse.exact.energy import Energy


def likelihood(energy: Energy, x: Tensor, log_partition: Tensor | float) -> Tensor:
    """E(x) + log Z = -log p(x) in nats, for data x [B, ...]; [B].

    Args:
        energy: the model.
        x: data.
        log_partition: log Z, a function of the energy's parameters where they are trained.
    """
    return -energy.log_prob(x, log_partition)


def contrastive(energy: Energy, x: Tensor, model_x: Tensor) -> Tensor:
    """E(x) - E(model_x), [B]: its gradient is that of `likelihood`, without Z.

    Args:
        energy: the model.
        x: data [B, ...].
        model_x: samples of the model [B, ...], as Langevin dynamics gives them; held fixed.
    """
    difference: Tensor = energy(x) - energy(model_x.detach())
    return difference
