"""Every form of score matching has the same minimiser: differences of losses agree.

Expectations are integrals on a grid: the trapezoidal rule is exact to rounding for smooth densities
that vanish at its ends, so the identities are seen to 1e-9 and not through Monte-Carlo noise.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from undiffuse.errors import UndiffuseError
from undiffuse.exact import Energy, GaussianMixture
from undiffuse.objectives import score_matching as sm
from undiffuse.objectives.energy import contrastive, likelihood
from undiffuse.schedules import EDM

SCHEDULE = EDM(sigma_min=0.01, sigma_max=10.0)
MEANS = torch.tensor([[-1.5], [0.5], [2.0]], dtype=torch.float64)
STDS, WEIGHTS = torch.tensor([0.6, 0.4, 0.8]), torch.tensor([0.3, 0.2, 0.5])
DATA = GaussianMixture(MEANS, WEIGHTS, SCHEDULE, std=STDS)
GRID = torch.linspace(-9, 10, 1201, dtype=torch.float64)[:, None]
FLAT = torch.cartesian_prod(*[torch.linspace(-9, 9, 181, dtype=torch.float64)] * 2)
PLANE = GaussianMixture(
    torch.tensor([[-1.0, 0.5], [1.0, -0.5]]),
    torch.tensor([0.4, 0.6]),
    SCHEDULE,
    cov=torch.tensor([[[0.5, 0.2], [0.2, 0.4]], [[0.7, -0.3], [-0.3, 0.5]]]),
)
T = float(SCHEDULE.t_from_log_snr(-2 * math.log(0.5)))  # sigma = 0.5


class Small(nn.Module):
    """A smooth network of few parameters, from [B, D] to [B, out]."""

    def __init__(self, size: int, out: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        shapes = ((6, size), (6,), (out, 6), (out,))
        self.weights = nn.ParameterList(
            [0.4 * torch.randn(s, dtype=torch.float64, generator=generator) for s in shapes]
        )

    def forward(self, x: Tensor) -> Tensor:
        a, b, c, d = self.weights
        return torch.tanh(x @ a.T + b) @ c.T + d


class Bowl(nn.Module):
    """E(x) = |x|^2 / 4 + a small network: an energy with a Z."""

    def __init__(self, size: int, seed: int) -> None:
        super().__init__()
        self.small = Small(size, 1, seed)

    def forward(self, x: Tensor) -> Tensor:
        return x.square().sum(1) / 4 + self.small(x)[:, 0]


def grid_of(oracle: GaussianMixture) -> Tensor:
    return GRID if oracle is DATA else FLAT


def over_p(oracle: GaussianMixture, t: float, loss: Tensor) -> Tensor:
    """E[loss] over p_t by the trapezoidal rule."""
    x = grid_of(oracle)
    density = oracle.log_prob(x, t).exp()
    step = float(x[1, -1] - x[0, -1]) ** x.shape[1]
    assert float(density.sum() * step) == pytest.approx(1, abs=1e-11)
    return (density * loss).sum() * step


def axes(x: Tensor) -> Tensor:
    """+- sqrt(D) e_i: directions with mean v v^T = I exactly, [2 D, B, D]."""
    unit = math.sqrt(x.shape[1]) * torch.eye(x.shape[1], dtype=x.dtype)
    return torch.cat([unit, -unit])[:, None].expand(-1, *x.shape)


def signs(x: Tensor) -> Tensor:
    """All vectors of signs: their mean v v^T is I as well, [2^D, B, D]."""
    every = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=x.shape[1])), dtype=x.dtype)
    return every[:, None].expand(-1, *x.shape)


def models(oracle: GaussianMixture, kind: str) -> list[nn.Module]:
    size = oracle.means.shape[1]
    if kind == "score":
        return [Small(size, size, seed) for seed in (0, 1)]
    return [Energy(Bowl(size, seed)) for seed in (0, 1)]


def score_of(model: nn.Module) -> sm.Field:
    return model.score if isinstance(model, Energy) else model


def agree(one: list[Tensor], other: list[Tensor], made: list[nn.Module], atol: float) -> None:
    """Losses of two models differ by the same, and so do their gradients in the parameters."""
    difference, expected = one[0] - one[1], other[0] - other[1]
    assert abs(expected.item()) > 0.01
    torch.testing.assert_close(difference, expected, rtol=0, atol=atol)
    for a, b, model in zip(one, other, made, strict=True):
        parameters = [p for p in model.parameters() if p.requires_grad]
        for g, h in zip(
            torch.autograd.grad(a, parameters, allow_unused=True, materialize_grads=True),
            torch.autograd.grad(b, parameters, allow_unused=True, materialize_grads=True),
            strict=True,
        ):
            torch.testing.assert_close(g, h, rtol=0, atol=atol)


both_kinds = pytest.mark.parametrize("kind", ["score", "energy"])
both_data = pytest.mark.parametrize("oracle", [DATA, PLANE], ids=["line", "plane"])


# ------------------------------------------------------------------ the identities


@both_kinds
@both_data
def test_implicit_is_explicit_up_to_a_constant(oracle: GaussianMixture, kind: str) -> None:
    """E[tr(ds/dx) + 1/2 |s|^2] = E[1/2 |s - grad log p|^2] - E[1/2 |grad log p|^2]."""
    x, made = grid_of(oracle), models(oracle, kind)

    def true_score(x: Tensor) -> Tensor:
        return oracle.score(x, T)

    implicit = [over_p(oracle, T, sm.implicit(score_of(m), x)) for m in made]
    explicit = [over_p(oracle, T, sm.explicit(score_of(m), true_score, x)) for m in made]
    agree(implicit, explicit, made, 1e-9)
    constant = over_p(oracle, T, true_score(x).square().sum(1) / 2)
    assert (explicit[0] - implicit[0]).item() == pytest.approx(float(constant), abs=1e-9)


@both_kinds
def test_denoising_is_explicit_on_the_noisy_marginal_up_to_a_constant(kind: str) -> None:
    """For p_sigma, not for the data itself: there the difference is another one."""
    made, sigma = models(DATA, kind), 0.5
    x_0 = torch.linspace(-7, 8, 301, dtype=torch.float64)
    noise = torch.linspace(-7, 7, 201, dtype=torch.float64)
    pairs = torch.cartesian_prod(x_0, noise)
    # EDM's p_0 is smoothed by sigma_min: take the clean components themselves
    clean = sum(
        w * torch.exp(-(((pairs[:, 0] - m) / s) ** 2) / 2) / (s * math.sqrt(2 * math.pi))
        for m, s, w in zip(MEANS[:, 0].tolist(), STDS.tolist(), WEIGHTS.tolist(), strict=True)
    )
    density = clean * torch.exp(-(pairs[:, 1] ** 2) / 2) / math.sqrt(2 * math.pi)
    weight = density * (x_0[1] - x_0[0]) * (noise[1] - noise[0])
    assert float(weight.sum()) == pytest.approx(1, abs=1e-7)  # STDS are float32
    denoising = [
        (weight * sm.denoising(score_of(m), pairs[:, :1], pairs[:, 1:], sigma)).sum() for m in made
    ]

    def noisy(t: float) -> list[Tensor]:
        return [
            over_p(DATA, t, sm.explicit(score_of(m), lambda x: DATA.score(x, t), GRID))
            for m in made
        ]

    agree(denoising, noisy(T), made, 1e-7)
    on_data = noisy(0.0)
    gap = on_data[0] - on_data[1] - denoising[0] + denoising[1]
    assert abs(gap.item()) > 1e-4  # where the identity holds to 1e-7


def test_denoising_is_the_loss_of_a_noise_prediction() -> None:
    """sigma^2 times it is 1/2 |eps_hat - eps|^2 for eps_hat = -sigma s."""
    x, noise = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)).double()
    sigma = torch.tensor([0.1, 0.5, 1.0, 2.0, 9.0], dtype=torch.float64)
    score = Small(3, 3, 0)
    eps_hat = -sigma[:, None] * score(x + sigma[:, None] * noise)
    expected = (eps_hat - noise).square().sum(1) / 2
    torch.testing.assert_close(sigma**2 * sm.denoising(score, x, noise, sigma), expected)


@both_kinds
@pytest.mark.parametrize("directions", [axes, signs], ids=["axes", "signs"])
def test_sliced_and_hutchinson_are_unbiased(kind: str, directions: sm.Field) -> None:
    """Averaged over designs with mean v v^T = I both give the exact trace, sample by sample."""
    x = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = Small(3, 3, 0) if kind == "score" else Energy(Bowl(3, 0))
    exact = sm.implicit(score_of(model), x)
    for loss in (sm.sliced, sm.implicit_hutchinson):
        torch.testing.assert_close(loss(score_of(model), x, directions(x)), exact)
        alone = torch.stack([loss(score_of(model), x, v[None]) for v in directions(x)])
        torch.testing.assert_close(alone.mean(0), exact)


def test_random_directions_are_unbiased_and_the_full_square_has_less_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 3, dtype=torch.float64, generator=generator).expand(4000, 3)
    v = torch.randn(1, 4000, 3, dtype=torch.float64, generator=generator)
    score = Small(3, 3, 0)
    with torch.no_grad():
        exact = float(sm.implicit(score, x[:1]))
        plain, reduced = sm.sliced(score, x, v), sm.implicit_hutchinson(score, x, v)
    for loss in (plain, reduced):
        assert abs(float(loss.mean()) - exact) < 4 * float(loss.std()) / 4000**0.5
    assert float(reduced.var()) < float(plain.var())


@both_kinds
def test_finite_differences_are_sliced_with_an_error_of_second_order(kind: str) -> None:
    x = torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = Small(3, 3, 0) if kind == "score" else Energy(Bowl(3, 0))
    v = torch.randn(4, 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    exact = sm.sliced(score_of(model), x, v)
    forms = [lambda e: sm.finite_difference(score_of(model), x, v, e)]
    if kind == "energy":
        forms.append(lambda e: sm.finite_difference_energy(model, x, v, e))
    for form in forms:
        errors = [(form(e) - exact).norm().item() for e in (0.1, 0.05, 0.025)]
        assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
        assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)
        parameters = [p for p in model.parameters() if p.requires_grad]
        found = torch.autograd.grad(form(1e-3).sum(), parameters[:3])
        for g, h in zip(
            found, torch.autograd.grad(exact.sum(), parameters[:3], retain_graph=True), strict=True
        ):
            torch.testing.assert_close(g, h, rtol=1e-3, atol=1e-4)


def test_an_exact_score_is_the_minimum() -> None:
    """The explicit loss vanishes there, and the implicit one is -1/2 E|grad log p|^2."""
    t = 0.3
    energy = Energy.of(DATA, t)
    assert sm.explicit(energy.score, lambda x: DATA.score(x, t), GRID).max().item() < 1e-20
    least = over_p(DATA, t, sm.implicit(energy.score, GRID))
    constant = over_p(DATA, t, DATA.score(GRID, t).square().sum(1) / 2)
    assert least.item() == pytest.approx(-constant.item(), rel=1e-9)


# ------------------------------------------------------------------ lecture 004, as printed


def test_004_implicit_score_matching_of_an_energy_has_minus_the_trace() -> None:
    """L = E[-tr(hess E) + 1/2 |grad E|^2]; with +tr it is no loss for the density at all."""
    energy = Energy(Bowl(2, 0))
    x = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    hessian = torch.func.vmap(torch.func.hessian(lambda y: energy.function(y[None])[0]))(x)
    trace = hessian.diagonal(dim1=1, dim2=2).sum(1)
    square = energy.score(x).square().sum(1) / 2
    torch.testing.assert_close(sm.implicit(energy.score, x), -trace + square)
    printed = trace + square
    assert (sm.implicit(energy.score, x) - printed).abs().min().item() > 0.1

    # E = x^2 / (2 tau) on data of variance 2: the loss is -1/tau + 1/tau^2, least at tau = 2
    data = torch.tensor([[-(2**0.5)], [2**0.5]], dtype=torch.float64)
    taus = torch.linspace(0.5, 6, 56, dtype=torch.float64).tolist()
    right = [sm.implicit(lambda x, t=t: -x / t, data).mean().item() for t in taus]
    assert taus[right.index(min(right))] == pytest.approx(2)
    as_printed = [1 / t + 1 / t**2 for t in taus]
    assert as_printed.index(min(as_printed)) == len(taus) - 1  # it only wants E to be flat


def test_004_the_likelihood_loss_of_an_energy_is_the_negative_of_the_printed() -> None:
    """E[E(x)] + log Z is least at the data's variance; -E[E(x)] - log Z, minimised, flees it."""
    tau = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)

    class Quadratic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.square().sum(1) / (2 * tau)

    energy = Energy(Quadratic())
    data = torch.tensor([[-(2**0.5)], [2**0.5]], dtype=torch.float64)  # variance 2
    log_z = torch.log(2 * math.pi * tau) / 2
    normal = torch.distributions.Normal(0, tau.detach().sqrt())
    loss = likelihood(energy, data, log_z)
    torch.testing.assert_close(loss.detach(), -normal.log_prob(data)[:, 0])
    (slope,) = torch.autograd.grad(loss.mean(), tau)
    assert float(slope) < 0  # a step down moves tau = 1.3 up, towards 2
    printed = -energy(data).mean() - torch.log(2 * math.pi * tau) / 2
    (away,) = torch.autograd.grad(printed, tau)
    torch.testing.assert_close(away, -slope)

    model_x = torch.tensor([[-1.0], [1.0]]).double() * tau.detach().sqrt()  # variance tau
    (estimate,) = torch.autograd.grad(contrastive(energy, data, model_x).mean(), tau)
    torch.testing.assert_close(estimate, slope)


# ------------------------------------------------------------------ shapes and mistakes


@pytest.mark.parametrize("shape", [(4, 2), (4, 1, 2, 3)])
def test_one_number_for_each_sample_of_any_rank(shape: tuple[int, ...]) -> None:
    x, noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    v = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))

    def score(x: Tensor) -> Tensor:
        return -x

    size = math.prod(shape[1:])
    half = x.flatten(1).square().sum(1) / 2
    torch.testing.assert_close(sm.implicit(score, x), half - size)
    torch.testing.assert_close(sm.explicit(score, torch.zeros_like, x), half)
    for loss in (sm.sliced, sm.implicit_hutchinson, sm.finite_difference):
        assert loss(score, x, v).shape == (4,)
    flat = sm.finite_difference_energy(lambda x: x.flatten(1).square().sum(1) / 2, x, v)
    torch.testing.assert_close(flat, sm.sliced(score, x, v), rtol=1e-2, atol=1e-2)
    assert sm.denoising(score, x, noise, 0.5).shape == (4,)
    for i in range(4):
        alone = sm.sliced(score, x[i : i + 1], v[:, i : i + 1])
        torch.testing.assert_close(sm.sliced(score, x, v)[i : i + 1], alone)


def test_mistakes_are_one_sentence() -> None:
    x = torch.zeros(4, 2)
    with pytest.raises(UndiffuseError, match=r"probes must be \[M, 4, 2\].*not \[4, 2\]"):
        sm.sliced(lambda x: -x, x, x)
    for sigma in (0.0, -1.0):
        with pytest.raises(UndiffuseError, match="needs sigma > 0"):
            sm.denoising(lambda x: -x, x, x, sigma)
    for epsilon in (0.0, float("nan")):
        with pytest.raises(UndiffuseError, match="epsilon must be positive"):
            sm.finite_difference(lambda x: -x, x, x[None], epsilon)
