"""The mixture against torch.distributions, autograd and numerical integration."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from undiffuse.errors import UndiffuseError
from undiffuse.exact import GaussianMixture
from undiffuse.schedules import EDM, VP, Cosine, Flow
from undiffuse.schedules.base import Schedule

MEANS = torch.tensor([[-2.0, 0.0], [1.0, 1.5], [0.5, -1.0]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
STDS = torch.tensor([0.3, 0.7, 0.1], dtype=torch.float64)
COVS = torch.tensor(
    [[[0.5, 0.2], [0.2, 0.3]], [[1.0, -0.6], [-0.6, 0.4]], [[0.1, 0.0], [0.0, 2.0]]],
    dtype=torch.float64,
)
TIMES = (0.03, 0.3, 0.7, 0.99)


def both(schedule: Schedule) -> list[GaussianMixture]:
    return [
        GaussianMixture(MEANS, WEIGHTS, schedule, std=STDS),
        GaussianMixture(MEANS, WEIGHTS, schedule, cov=COVS),
    ]


def samples(count: int = 40, size: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.randn(count, size, dtype=torch.float64, generator=generator)


def marginal(schedule: Schedule, t: float, full: bool) -> MixtureSameFamily:
    """p_t by torch.distributions."""
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    cov = COVS if full else STDS[:, None, None] ** 2 * torch.eye(2, dtype=torch.float64)
    noisy = alpha**2 * cov + sigma**2 * torch.eye(2, dtype=torch.float64)
    return MixtureSameFamily(Categorical(WEIGHTS), MultivariateNormal(alpha * MEANS, noisy))


def test_log_prob_is_that_of_torch_distributions(schedule: Schedule) -> None:
    x = samples()
    for full, oracle in enumerate(both(schedule)):
        for t in TIMES:
            expected = marginal(schedule, t, bool(full)).log_prob(x)
            torch.testing.assert_close(oracle.log_prob(x, t), expected, rtol=1e-9, atol=1e-9)


def test_the_score_is_the_gradient_of_log_prob(schedule: Schedule) -> None:
    x = samples().requires_grad_()
    for oracle in both(schedule):
        for t in (*TIMES, 0.0):  # components with width have a density at t = 0 too
            (gradient,) = torch.autograd.grad(oracle.log_prob(x, t).sum(), x)
            torch.testing.assert_close(oracle.score(x, t), gradient, rtol=1e-9, atol=1e-9)


def test_the_denoiser_is_the_score_by_tweedie(schedule: Schedule) -> None:
    x = samples()
    for oracle in both(schedule):
        for t in TIMES:
            alpha, sigma = schedule.alpha(t), schedule.sigma(t)
            expected = (x + sigma**2 * oracle.score(x, t)) / alpha
            torch.testing.assert_close(oracle(x, t), expected, rtol=1e-8, atol=1e-8)


def test_isotropic_is_full_with_a_multiple_of_the_identity(schedule: Schedule) -> None:
    x, label = samples(), torch.arange(40) % 2
    options = {"labels": torch.tensor([0, 1, 1])}
    iso = GaussianMixture(MEANS, WEIGHTS, schedule, std=STDS, **options)
    cov = STDS[:, None, None] ** 2 * torch.eye(2, dtype=torch.float64)
    full = GaussianMixture(MEANS, WEIGHTS, schedule, cov=cov, **options)
    for t in (*TIMES, torch.linspace(0.01, 1, 40)):
        for condition in ({}, {"label": label}):
            for view in ("forward", "score", "log_prob"):
                one, other = (getattr(o, view)(x, t, **condition) for o in (iso, full))
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    one_cov = GaussianMixture(MEANS, WEIGHTS, schedule, cov=COVS[0])  # the same for all
    repeated = GaussianMixture(MEANS, WEIGHTS, schedule, cov=COVS[:1].expand(3, 2, 2))
    torch.testing.assert_close(one_cov(x, 0.3), repeated(x, 0.3))


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_the_posterior_mean_is_the_integral_over_the_posterior(
    schedule: Schedule, t: float
) -> None:
    """E[x_0 | x_t] = int x_0 p(x_0) q(x_t | x_0) dx_0 / p_t(x_t), in one dimension."""
    means, weights, stds = (-1.0, 0.5, 2.0), (0.5, 0.2, 0.3), (0.2, 0.5, 0.1)
    oracle = GaussianMixture(
        torch.tensor(means)[:, None], torch.tensor(weights), schedule, std=torch.tensor(stds)
    )
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    x_0 = np.linspace(-8, 8, 40_001)
    density = sum(
        w * np.exp(-(((x_0 - m) / s) ** 2) / 2) / s
        for m, w, s in zip(means, weights, stds, strict=True)
    )
    for x_t in (-1.5 * alpha, 0.0, 0.3, 2 * alpha + sigma / 2):
        joint = density * np.exp(-(((x_t - alpha * x_0) / sigma) ** 2) / 2)
        expected = np.trapezoid(x_0 * joint, x_0) / np.trapezoid(joint, x_0)
        denoised = oracle(torch.tensor([[x_t]], dtype=torch.float64), t)
        assert float(denoised) == pytest.approx(expected, rel=1e-6, abs=1e-6)


# ------------------------------------------------------------------ labels


def test_a_label_restricts_to_its_components(schedule: Schedule) -> None:
    x = samples()
    oracle = GaussianMixture(MEANS, WEIGHTS, schedule, cov=COVS, labels=torch.tensor([5, 2, 5]))
    free = GaussianMixture(MEANS, WEIGHTS, schedule, cov=COVS)
    fives = GaussianMixture(MEANS[[0, 2]], WEIGHTS[[0, 2]], schedule, cov=COVS[[0, 2]])
    twos = GaussianMixture(MEANS[[1]], None, schedule, cov=COVS[[1]])
    label = torch.tensor([5, 2, -1, 5] * 10)
    for view in ("forward", "score", "log_prob", "noise", "velocity"):
        together = getattr(oracle, view)(x, 0.4, label=label)
        for k, part in ((5, fives), (2, twos), (-1, free)):
            alone = getattr(part, view)(x[label == k], 0.4)
            torch.testing.assert_close(together[label == k], alone, rtol=1e-9, atol=1e-9)
        unconditional = getattr(oracle, view)(x, 0.4, label=None)
        torch.testing.assert_close(unconditional, getattr(free, view)(x, 0.4))


def test_labels_that_do_not_exist_and_conditions_that_are_unknown() -> None:
    oracle = GaussianMixture(MEANS, None, VP(), std=0.1, labels=torch.tensor([0, 1, 1]))
    plain = GaussianMixture(MEANS, None, VP(), std=0.1)
    x = samples(2)
    for view in ("forward", "score", "log_prob"):
        with pytest.raises(UndiffuseError, match=r"no component has one of the labels .*7"):
            getattr(oracle, view)(x, 0.5, label=torch.tensor([0, 7]))
        with pytest.raises(UndiffuseError, match="no labels"):
            getattr(plain, view)(x, 0.5, label=torch.tensor([0, 0]))
        with pytest.raises(UndiffuseError, match=r"'label', not.*text"):
            getattr(oracle, view)(x, 0.5, text=torch.tensor([0, 0]))


# ------------------------------------------------------------------ samples


@pytest.mark.parametrize("t", [0.0, 0.4, 1.0])
def test_draws_have_the_moments_of_p_t(t: float) -> None:
    for schedule in (VP(), Flow(), EDM(sigma_max=5)):
        for full, oracle in enumerate(both(schedule)):
            x = oracle.draw(3000, t, seed=1)
            p = marginal(schedule, t, bool(full))
            count, std = len(x), p.variance.sqrt()
            assert bool(((x.mean(0) - p.mean).abs() < 4 * std / math.sqrt(count)).all())
            torch.testing.assert_close(x.var(0), p.variance, rtol=0.12, atol=0)


def test_draws_have_the_log_density_of_p_t() -> None:
    """The mean of log p_t over draws is that over an independent sampler's draws."""
    torch.manual_seed(0)
    for full, oracle in enumerate(both(VP())):
        p = marginal(VP(), 0.2, bool(full))
        mine, theirs = p.log_prob(oracle.draw(4000, 0.2, seed=2)), p.log_prob(p.sample((4000,)))
        error = math.sqrt(float(mine.var() + theirs.var()) / 4000)
        assert abs(float(mine.mean() - theirs.mean())) < 4 * error


def test_draws_are_a_sequence_that_belongs_to_the_seed() -> None:
    oracle = both(VP())[1]
    long = oracle.draw(30, 0.3, seed=4)
    assert long.dtype == torch.float64
    torch.testing.assert_close(oracle.draw(7, 0.3, seed=4), long[:7], rtol=0, atol=0)
    assert not torch.equal(oracle.draw(7, 0.3, seed=5), long[:7])


def test_draws_of_a_label_come_from_its_components() -> None:
    labels = torch.tensor([0, 1, 0])
    oracle = GaussianMixture(MEANS, WEIGHTS, VP(), std=1e-6, labels=labels)
    drawn = oracle.draw(2000, label=0)
    nearest = torch.cdist(drawn, MEANS).argmin(1)
    share = nearest.bincount(minlength=3) / 2000
    torch.testing.assert_close(
        share.double(), torch.tensor([0.4, 0, 0.6]).double(), rtol=0, atol=0.05
    )
    shares = torch.cdist(oracle.draw(4000), MEANS).argmin(1).bincount() / 4000
    torch.testing.assert_close(shares.double(), WEIGHTS, rtol=0, atol=0.04)


# ------------------------------------------------------------------ shapes and mistakes


@pytest.mark.parametrize("shape", [(6,), (3, 2), (1, 3, 2), (1, 1, 2, 3)])
def test_any_rank_of_data(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(4, 6, dtype=torch.float64, generator=generator)
    x, t = samples(5, 6), torch.linspace(0.1, 0.9, 5)
    flat = GaussianMixture(means, None, Cosine(), std=0.3)
    oracle = GaussianMixture(means.reshape(4, *shape), None, Cosine(), std=0.3)
    shaped = x.reshape(5, *shape)
    for view in ("forward", "score", "noise", "velocity"):
        expected = getattr(flat, view)(x, t).reshape(5, *shape)
        torch.testing.assert_close(getattr(oracle, view)(shaped, t), expected)
    torch.testing.assert_close(oracle.log_prob(shaped, t), flat.log_prob(x, t))
    assert oracle.draw(3, 0.5).shape == (3, *shape)
    assert oracle.with_schedule(Flow())(shaped, t).shape == shaped.shape


def test_float32_comes_back_as_float32() -> None:
    for oracle in both(VP()):
        x = samples().float()
        assert oracle(x, 0.5).dtype == oracle.score(x, 0.5).dtype == torch.float32
        torch.testing.assert_close(
            oracle(x, 0.5).double(), oracle(x.double(), 0.5), rtol=1e-4, atol=1e-4
        )


def test_lists_are_taken_at_full_precision() -> None:
    oracle = GaussianMixture([[0.1], [0.7]], [0.1, 0.9], VP(), std=0.1)  # type: ignore[arg-type]
    assert oracle.means.flatten().tolist() == [0.1, 0.7]
    assert oracle.log_weights.exp().tolist() == pytest.approx([0.1, 0.9], rel=1e-15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either std or cov"),
        ({"std": 1.0, "cov": torch.eye(2)}, "either std or cov"),
        ({"std": -1.0}, "std must be"),
        ({"std": torch.ones(2)}, "std must be a number >= 0 or 3"),
        ({"std": math.nan}, "std must be"),
        ({"cov": torch.eye(3)}, r"cov must have shape \[2, 2\] or \[3, 2, 2\]"),
        ({"cov": torch.tensor([[1.0, 0.5], [0.0, 1.0]])}, "symmetric"),
        ({"cov": torch.tensor([[1.0, 2.0], [2.0, 1.0]])}, "positive semi-definite"),
        ({"std": 1.0, "weights": torch.tensor([1.0, -1.0, 1.0])}, "3 positive numbers"),
        ({"std": 1.0, "weights": torch.ones(2)}, "3 positive numbers"),
        ({"std": 1.0, "labels": torch.zeros(2)}, "3 integers"),
        ({"std": 1.0, "means": torch.ones(3)}, r"shape \[K, \.\.\.\]"),
        ({"std": 1.0, "means": torch.ones(0, 2)}, r"shape \[K, \.\.\.\]"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Tensor], message: str) -> None:
    given = {"means": MEANS, "weights": None, "schedule": VP(), **options}
    with pytest.raises(UndiffuseError, match=message):
        GaussianMixture(**given)  # type: ignore[arg-type]


def test_points_have_no_density_without_noise() -> None:
    singular = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    for options in ({"std": 0.0}, {"std": torch.tensor([0.1, 0, 0.1])}, {"cov": singular}):
        oracle = GaussianMixture(MEANS, None, VP(), **options)  # type: ignore[arg-type]
        for view in (oracle.log_prob, oracle.score):
            with pytest.raises(UndiffuseError, match="no density"):
                view(MEANS, 0.0)
        assert bool(oracle.log_prob(MEANS, 0.01).isfinite().all())
