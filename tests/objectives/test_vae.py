"""The VAE's bound: its terms in closed form, its optimum on Gaussian data, and its best decoder."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from undiffuse.errors import UndiffuseError
from undiffuse.exact import LinearGaussian
from undiffuse.networks import PictureDecoder, PictureEncoder, VectorDecoder, VectorEncoder
from undiffuse.objectives import VAE, standard_kl

D, Z = 4, 2


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def linear() -> VAE:
    """All maps linear but the log-variance's exponential."""
    torch.manual_seed(0)
    return VAE(VectorEncoder(D, Z, depth=0), VectorDecoder(D, Z, depth=0)).double()


def points(mean: Tensor, cov: Tensor) -> Tensor:
    """2 D points with exactly this mean and covariance."""
    steps = math.sqrt(len(mean)) * torch.linalg.cholesky(cov).mT
    return mean + torch.cat([steps, -steps])


def test_the_regularisation_is_the_divergence_of_torch() -> None:
    mean, log_var = normal(5, 3, 2, 2), 3 * normal(5, 3, 2, 2, seed=1)
    expected = kl_divergence(Normal(mean, (log_var / 2).exp()), Normal(0, 1)).flatten(1).sum(1)
    torch.testing.assert_close(standard_kl(mean, log_var), expected, rtol=1e-10, atol=1e-10)
    near = standard_kl(torch.zeros(1, 1).double(), torch.full((1, 1), 1e-5).double())
    assert near.item() == pytest.approx(1e-10 / 4, rel=1e-4)  # no cancellation near the prior


def test_the_reconstruction_is_the_likelihood_of_the_decoder() -> None:
    vae, x, noise = linear(), normal(6, D), normal(6, Z, seed=1)
    mean, log_var = vae.encode(x)
    z = mean + (log_var / 2).exp() * noise
    expected = Normal(vae.decode(z), vae.std).log_prob(x).sum(1)
    terms = vae.elbo(x, noise)
    torch.testing.assert_close(terms.reconstruction, expected)
    torch.testing.assert_close(terms.total, expected - standard_kl(mean, log_var))
    torch.testing.assert_close(vae.loss(x, noise), -terms.total / D)


def as_exact(vae: VAE) -> LinearGaussian:
    """The linear VAE whose variance does not depend on x, in closed form."""
    weight, bias = (p.detach() for p in vae.encoder.layers.parameters())
    W, b = (p.detach() for p in vae.decoder.layers.parameters())
    return LinearGaussian(
        W, b, float(vae.std.detach()), weight[:Z], bias[:Z], bias[Z:].exp().diag()
    )


def test_a_linear_vae_is_the_closed_form() -> None:
    """Averaged over noise whose mean and covariance are exact, term by term."""
    vae, x = linear(), normal(6, D)
    with torch.no_grad():
        vae.encoder.layers.weight[Z:] = 0
        terms = [vae.elbo(x, n.expand(6, Z)) for n in points(torch.zeros(Z), torch.eye(Z)).double()]
    exact = as_exact(vae)
    reconstruction = torch.stack([t.reconstruction for t in terms]).mean(0)
    torch.testing.assert_close(reconstruction, exact.reconstruction(x), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(terms[0].regularisation, exact.regularisation(x))


def test_training_a_linear_vae_ends_at_the_optimum() -> None:
    """Probabilistic PCA: the same bound, the same principal space, and no inference error left."""
    mean = normal(D, seed=1)
    basis = torch.linalg.qr(normal(D, D, seed=2))[0]
    cov = basis @ torch.diag(torch.tensor([3.0, 1.5, 0.3, 0.1]).double()) @ basis.mT
    x, noise = points(mean, cov), points(torch.zeros(Z), torch.eye(Z)).double()
    vae = linear()
    optimiser = torch.optim.LBFGS(
        vae.parameters(), max_iter=400, line_search_fn="strong_wolfe", tolerance_change=1e-14
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        every = vae.loss(x.repeat(2 * Z, 1), noise.repeat_interleave(len(x), 0)).mean()
        every.backward()
        return every

    optimiser.step(loss)
    best = LinearGaussian.optimum(mean, cov, Z)
    assert loss().item() * D == pytest.approx(-best.log_prob(x).mean().item(), abs=1e-6)
    trained = as_exact(vae)
    assert trained.s == pytest.approx(best.s, rel=1e-3)
    torch.testing.assert_close(trained.W @ trained.W.mT, best.W @ best.W.mT, rtol=0, atol=1e-2)
    assert trained.errors(mean, cov).inference < 1e-4


def test_the_best_decoder_is_the_conditional_mean() -> None:
    """Two data points behind overlapping codes: the decoder learns sum_i P(i | z) x_i, a blur."""
    torch.manual_seed(0)
    data = torch.tensor([[-1.0], [1.0]])
    encoder = VectorEncoder(1, 1, depth=0)
    with torch.no_grad():
        encoder.layers.weight.copy_(torch.tensor([[0.7], [0.0]]))  # q(z | x) = N(0.7 x, 1)
        encoder.layers.bias.zero_()
    encoder.requires_grad_(False)
    vae = VAE(encoder, VectorDecoder(1, 1, width=32, depth=1), std=1.0, learn_std=False)
    quantiles = (torch.arange(64) + 0.5) / 64
    noise = Normal(0.0, 1.0).icdf(quantiles)[:, None].repeat_interleave(2, 0)
    x = data.repeat(64, 1)
    optimiser = torch.optim.Adam(vae.decoder.parameters(), lr=0.01)
    for _ in range(300):
        optimiser.zero_grad()
        vae.loss(x, noise).mean().backward()
        optimiser.step()
    z = torch.linspace(-2, 2, 9)[:, None]
    torch.testing.assert_close(vae.decode(z).detach(), torch.tanh(0.7 * z), rtol=0, atol=0.07)


def test_the_best_std_is_the_root_of_the_mean_squared_error() -> None:
    vae, x, noise = linear(), normal(20, D), normal(20, Z, seed=1)
    mean, log_var = vae.encode(x)
    error = (x - vae.decode(mean + (log_var / 2).exp() * noise)).square().mean().sqrt()
    with torch.no_grad():
        vae.log_std.copy_(error.log())
    vae.loss(x, noise).mean().backward()
    assert vae.log_std.grad.item() == pytest.approx(0, abs=1e-7)
    fixed = VAE(vae.encoder, vae.decoder, std=0.5, learn_std=False)
    assert not fixed.log_std.requires_grad
    assert fixed.std.item() == pytest.approx(0.5)


def test_it_learns_digits() -> None:
    """In a few steps the bound passes that of the best single Gaussian N(mean, var I)."""
    images = torch.from_numpy(load_digits().images).float()[:256, None] / 8 - 1
    options = {"channels": 1, "latent": 8, "width": 16, "multipliers": (1, 2, 2)}
    torch.manual_seed(0)
    vae = VAE(PictureEncoder(**options), PictureDecoder(**options), std=0.5)
    optimiser = torch.optim.Adam(vae.parameters(), lr=3e-3)
    for _ in range(60):
        noise = torch.randn(256, *vae.latent_shape(images.shape[1:]))
        optimiser.zero_grad()
        loss = vae.loss(images, noise).mean()
        loss.backward()
        optimiser.step()
    flat = math.log(2 * math.pi * math.e * float(images.var())) / 2
    assert loss.item() < flat - 0.1
    z = torch.randn(5, *vae.latent_shape((1, 8, 8)))
    assert vae.decode(z).shape == (5, 1, 8, 8)
    assert vae.decode(z, (7, 5)).shape == (5, 1, 7, 5)


def test_mistakes_are_one_sentence() -> None:
    vae = linear()
    with pytest.raises(UndiffuseError, match=r"noise of these samples must be \[3, 2\], not \[2\]"):
        vae.loss(normal(3, D), normal(2))
    for std in (0.0, -1.0, math.nan):
        with pytest.raises(UndiffuseError, match="std must be positive"):
            VAE(vae.encoder, vae.decoder, std=std)
