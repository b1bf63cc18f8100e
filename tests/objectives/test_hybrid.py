r"""The hybrid loss: the variance learns from L_vlb, the mean from L_simple."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import undiffuse as ud
from undiffuse import process
from undiffuse.denoiser import Learned
from undiffuse.errors import UndiffuseError
from undiffuse.exact import Gaussian
from undiffuse.likelihood import analytic_variance, chain_bound
from undiffuse.networks import MLP
from undiffuse.objectives import Objective
from undiffuse.objectives.hybrid import Hybrid
from undiffuse.objectives.times import Uniform
from undiffuse.objectives.weights import Simple
from undiffuse.predictions import Data, Noise
from undiffuse.schedules import EDM, VP, Discrete

STEPS = 8
CHAIN = Discrete.linear(STEPS, beta_first=1e-3, beta_last=5e-3)
TIMES = torch.arange(1, STEPS + 1, dtype=torch.float64) / STEPS


class WithHead(nn.Module):
    """The exact denoiser of a Gaussian with one free v for each step of the chain."""

    def __init__(self, oracle: Gaussian) -> None:
        super().__init__()
        self.oracle = oracle
        self.v = nn.Parameter(torch.zeros(STEPS, dtype=torch.float64))
        self.shift = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x: Tensor, c_noise: Tensor, label: Tensor | None = None) -> Tensor:
        t = CHAIN.t_from_log_snr(-8 * c_noise)
        k = (t * STEPS).round().long() - 1
        v = self.v[k][:, None].expand(x.shape)
        return torch.cat([self.oracle(x, t) + self.shift, v], dim=1)


def batch(count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Gaussian data, stratified u and noise."""
    generator = torch.Generator().manual_seed(seed)
    x_0, noise = torch.randn(2, count, 2, dtype=torch.float64, generator=generator)
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return 0.3 + 0.5 * x_0, u, noise


def test_the_learned_variance_is_the_analytic_one_on_gaussian_data() -> None:
    """Minimising L_vlb over v, with the true mean and exact expectations over x_0 and eps."""
    oracle = Gaussian(torch.full((1,), 0.3), CHAIN, std=0.5)
    learned = Learned(WithHead(oracle), Data(), CHAIN)
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(3))
    a, b, t = torch.meshgrid(nodes, nodes, TIMES, indexing="ij")
    x_0, noise, u = 0.3 + 0.5 * a.reshape(-1, 1), b.reshape(-1, 1), t.flatten() - 0.5 / STEPS
    weight = torch.outer(weights, weights)[..., None].expand(a.shape).flatten()
    optimiser = torch.optim.LBFGS(
        [learned.network.v], max_iter=200, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = (weight * Hybrid(STEPS).parts(learned, x_0, u, noise)[1]).sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    for k in range(1, STEPS):  # k = 0 is the step to the data, which has no variance
        t, s = TIMES[k], TIMES[k - 1]
        spread = torch.sqrt(CHAIN.alpha(t) ** 2 * 0.25 + CHAIN.sigma(t) ** 2)
        x_t = 0.3 * CHAIN.alpha(t) + spread * torch.tensor([[-1.0], [1.0]])  # p_t's own moments
        found = learned.reverse_variance(x_t[:1], t, s)[0, 0].detach()
        assert float(found / analytic_variance(oracle, x_t, t, s)) == pytest.approx(1, abs=1e-5)
        assert float(found / oracle.reverse_variance(x_t[:1], t, s)) == pytest.approx(1, abs=1e-5)
        assert float(process.interpolated_variance(CHAIN, t, s, 0.0) / found) < 0.995


def test_a_network_learns_mean_and_variance_together() -> None:
    torch.manual_seed(0)
    oracle = Gaussian(torch.full((2,), 0.3), CHAIN, std=0.5)
    learned = Learned(MLP(size=2, width=24, depth=1, variance=True), Noise(), CHAIN)
    optimiser = torch.optim.Adam(learned.network.parameters(), 5e-3)
    losses = []
    for step in range(300):
        x_0, u, noise = (v.float() for v in batch(256, seed=step))
        loss = Hybrid(STEPS, weight=0.02).loss(learned, x_0, u.double(), noise).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])
    for k in (2, 4, 6):
        x_t = oracle.draw(200, t=float(TIMES[k]))
        found = learned.reverse_variance(x_t.float(), TIMES[k], TIMES[k - 1]).mean().detach()
        exact = oracle.reverse_variance(x_t, TIMES[k], TIMES[k - 1]).mean()
        assert float(found / exact) == pytest.approx(1, abs=0.15)


def test_it_is_L_simple_and_the_terms_of_the_bound() -> None:
    oracle = Gaussian(torch.full((2,), 0.3), CHAIN, std=0.5)
    learned = Learned(WithHead(oracle), Data(), CHAIN)
    x_0, _, noise = batch(STEPS)
    u = (TIMES - 0.5 / STEPS).clamp(max=0.9999)  # sample i is at step i
    simple, vlb = Hybrid(STEPS).parts(learned, x_0, u, noise)
    expected = Objective(Uniform(STEPS), Simple()).loss(learned, x_0, u, noise)
    torch.testing.assert_close(simple, expected)
    assert vlb[0].item() == 0
    times = [1.0, *(1 - TIMES[:-1]).tolist()]
    bound = chain_bound(learned, x_0, times, variance="own", noise=noise)
    terms = bound.diffusion[:, 0].flip(0)  # term k of sample i, from data to noise
    for i in range(1, STEPS):
        assert vlb[i].item() == pytest.approx(STEPS * float(terms[i - 1, i]) / 2)
    whole = Hybrid(STEPS, weight=0.5).loss(learned, x_0, u, noise)
    torch.testing.assert_close(whole, simple + 0.5 * vlb)


def test_the_mean_does_not_learn_from_the_bound() -> None:
    oracle = Gaussian(torch.full((2,), 0.3), CHAIN, std=0.5)
    network = WithHead(oracle)
    learned = Learned(network, Data(), CHAIN)
    simple, vlb = Hybrid(STEPS).parts(learned, *batch(64))
    inputs = (network.v, network.shift)
    on_v, on_mean = torch.autograd.grad(vlb.mean(), inputs, retain_graph=True)
    assert not bool(on_mean.any())
    assert bool(on_v[1:].ne(0).all())
    on_v, on_mean = torch.autograd.grad(simple.mean(), inputs)
    assert not bool(on_v.any())
    assert bool(on_mean.ne(0).all())


def test_where_sigma_0_is_positive_the_first_step_counts_too() -> None:
    learned = Learned(MLP(size=2, width=8, depth=1, variance=True), Data(), EDM())
    x_0, _, noise = batch(4)
    _, vlb = Hybrid(4).parts(learned, x_0, torch.tensor([0.0, 0.3, 0.6, 0.9]), noise)
    assert bool((vlb > 0).all())


def test_a_run_can_train_with_it(tmp_path: Path) -> None:
    settings = {"network.variance": True, "network.width": 8, "schedule.name": "vp"}
    data = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    options: Any = {"steps": 2, "settings": settings, "objective": Hybrid(steps=10)}
    run = ud.train(data, tmp_path / "run", "vectors", **options)
    model = ud.load(run.path)
    x = model.sample(4, sampler="ddpm(variance=own)", steps=5)
    assert bool(x.isfinite().all())


def test_mistakes() -> None:
    for options in ({"steps": 0}, {"weight": -1.0}, {"weight": float("nan")}):
        with pytest.raises(UndiffuseError, match="Hybrid: "):
            Hybrid(**options)
    plain = Learned(MLP(size=2, width=8, depth=1), Noise(), VP())
    with pytest.raises(UndiffuseError, match="variance=true"):
        Hybrid(STEPS).loss(plain, *batch(4))
