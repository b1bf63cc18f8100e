r"""The variational autoencoder and its loss, the evidence lower bound.

    p(z) = N(0, I),  p(x | z) = N(decoder(z), std^2 I),  q(z | x) = N(mean, diag exp(log_var)),
    mean, log_var = encoder(x),

    log p(x) >= ELBO(x) = E_q log p(x | z) - KL( q(z|x) || p(z) )
                          reconstruction     regularisation

The gap is KL( q(z|x) || p(z|x) ). The reconstruction is a squared error, so the best decoder is the
conditional mean E[x | z], which is why a VAE with overlapping codes blurs. A diffusion model is the
same with a fixed encoder and many small steps. Where all is linear, every term is known
(`undiffuse.exact.linear_gaussian`).

Sources: Kingma & Welling 2014 (arXiv 1312.6114); Rezende et al. 2014 (arXiv 1401.4082);
lecture 004.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from undiffuse.errors import UndiffuseError
from undiffuse.likelihood.decoders import gaussian_log_prob
from undiffuse.networks.layers import crop
from undiffuse.networks.vae import Encoder


class Elbo(NamedTuple):
    """The two terms of the bound in nats, [B] each."""

    reconstruction: Tensor  # E_q log p(x | z), from one z
    regularisation: Tensor  # KL( q(z|x) || N(0, I) ) >= 0

    @property
    def total(self) -> Tensor:
        """The ELBO, [B]: a bound on log p(x) from below, in the mean over the noise."""
        return self.reconstruction - self.regularisation


def standard_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL( N(mean, diag exp(log_var)) || N(0, I) ) in nats, [B]; mean and log_var [B, ...].

    1/2 sum (exp(log_var) - 1 - log_var + mean^2), accurate near its minimum at 0.

    Source: Kingma & Welling 2014 (arXiv 1312.6114), appendix B.

    >>> standard_kl(torch.ones(1, 2), torch.zeros(1, 2)).item()
    1.0
    """
    terms: Tensor = torch.expm1(log_var) - log_var + mean.square()
    return terms.flatten(1).sum(1) / 2


class VAE(nn.Module):
    """A variational autoencoder with a Gaussian decoder.

    Args:
        encoder: x [B, ...] -> (mean, log_var).
        decoder: z -> the mean of x, at least of x's size; what is more is cropped.
        std: standard deviation of the decoder, > 0, in the data's units.
        learn_std: train it too; its best value is the root of the mean squared error.

    Raises:
        UndiffuseError: std is not positive.

    Source: Kingma & Welling 2014 (arXiv 1312.6114); learned std: Rybkin et al. 2021
    (arXiv 2006.13202).

    >>> from undiffuse.networks.vae import VectorDecoder, VectorEncoder
    >>> vae = VAE(VectorEncoder(size=8, latent=2), VectorDecoder(size=8, latent=2))
    >>> vae.loss(torch.zeros(5, 8), torch.zeros(5, 2)).shape
    torch.Size([5])
    """

    def __init__(
        self, encoder: Encoder, decoder: nn.Module, std: float = 1.0, learn_std: bool = True
    ) -> None:
        super().__init__()
        if not std > 0:
            raise UndiffuseError(f"VAE: std must be positive, not {std}")
        self.encoder, self.decoder = encoder, decoder
        self.log_std = nn.Parameter(torch.tensor(math.log(std)), requires_grad=learn_std)

    @property
    def std(self) -> Tensor:
        """The standard deviation of p(x | z)."""
        return self.log_std.exp()

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x), [B, *latent] each."""
        return self.encoder(x)

    def decode(self, z: Tensor, size: Sequence[int] = ()) -> Tensor:
        """The mean of p(x | z), cropped to `size` positions if they are given, [B, ...]."""
        return crop(self.decoder(z), size)

    def latent_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of the code of one sample of the given shape."""
        return self.encoder.latent_shape(shape)

    def elbo(self, x: Tensor, noise: Tensor) -> Elbo:
        """Reconstruction and regularisation of each sample, with z = mean + exp(log_var / 2) noise.

        Args:
            x: data [B, ...].
            noise: standard normal numbers [B, *latent_shape].

        Raises:
            UndiffuseError: noise of another shape.
        """
        mean, log_var = self.encode(x)
        if noise.shape != mean.shape:
            raise UndiffuseError(
                f"the noise of these samples must be {list(mean.shape)}, not {list(noise.shape)}"
            )
        x_hat = self.decode(mean + (log_var / 2).exp() * noise, x.shape[2:])
        return Elbo(gaussian_log_prob(x, x_hat, self.std**2), standard_kl(mean, log_var))

    def loss(self, x: Tensor, noise: Tensor) -> Tensor:
        """-ELBO in nats per dimension, [B]; arguments and errors as `elbo`."""
        return -self.elbo(x, noise).total / x[0].numel()
