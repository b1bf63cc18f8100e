"""Langevin chains against their closed-form laws, with and without annealing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.errors import UndiffuseError
from undiffuse.exact import Energy
from undiffuse.noise import Stream
from undiffuse.samplers import AnnealedLangevin, metropolis_langevin, unadjusted_langevin
from undiffuse.samplers.loop import noise_of, walk
from undiffuse.schedules.base import Schedule


def of_variance(v: float) -> ud.exact.Energy:
    return Energy(lambda x: x.flatten(1).square().sum(1) / (2 * v))


def within(values: Tensor, expected: float) -> bool:
    """Whether the mean over independent chains, one value each, is within 4 standard errors."""
    error = float(values.std()) / len(values) ** 0.5
    return abs(float(values.mean()) - expected) < 4 * error


# ------------------------------------------------------------------ chains at one noise level


@pytest.mark.parametrize(("h", "v"), [(0.4, 1.0), (2.0, 1.0), (1.0, 0.5)])
def test_the_stationary_variance_of_the_unadjusted_scheme(h: float, v: float) -> None:
    """V = (1 - h / (2 v))^2 V + h has the solution v / (1 - h / (4 v)), not v."""
    x = torch.zeros(8, 16384, dtype=torch.float64)
    x = unadjusted_langevin(lambda x: -x / v, x, h, 40)
    expected = v / (1 - h / (4 * v))
    assert float(x.var()) == pytest.approx(expected, rel=4 * (2 / x.numel()) ** 0.5)
    assert abs(float(x.var()) - v) > 0.05 * v


def test_each_step_has_the_closed_form_mean_and_variance() -> None:
    h, v = 0.3, 0.7
    path = unadjusted_langevin(
        lambda x: -x / v, torch.full((4, 20000), 2.0), h, steps=5, trajectory=True
    )
    assert path.shape == (6, 4, 20000)
    mean, var = 2.0, 0.0
    for x in path[1:].double():
        mean, var = (1 - h / (2 * v)) * mean, (1 - h / (2 * v)) ** 2 * var + h
        assert abs(float(x.mean()) - mean) < 4 * (var / x.numel()) ** 0.5
        assert float(x.var()) == pytest.approx(var, rel=4 * (2 / x.numel()) ** 0.5)


@pytest.mark.parametrize("h", [0.5, 2.0])
def test_the_adjusted_chain_is_exact(h: float) -> None:
    """With accept and reject the variance is v at any step, where the other chain is far off."""
    v = 0.5
    energy = of_variance(v)
    start = torch.randn(128, 1, generator=torch.Generator().manual_seed(0)).double() * v**0.5
    chain = metropolis_langevin(
        lambda x: -energy(x), energy.score, start, h, steps=120, trajectory=True
    )
    assert within(chain.x.square().mean((0, 2)), v)
    assert within((chain.x**4).mean((0, 2)), 3 * v**2)
    plain = v / (1 - h / (4 * v)) if h < 4 * v else math.inf
    assert not within(chain.x.square().mean((0, 2)), plain)
    moved = (chain.x.diff(dim=0) != 0).double().mean((0, 2))
    torch.testing.assert_close(chain.acceptance, moved)
    assert 0.1 < float(chain.acceptance.mean()) < 0.999


def test_the_adjusted_chain_on_a_skewed_mixture() -> None:
    """E[x] and E[x^2] of an overlapping mixture, whose score is not linear."""
    means, weights = torch.tensor([[-0.5], [1.0]]), torch.tensor([0.7, 0.3])
    oracle = ud.exact.GaussianMixture(
        means, weights, ud.schedules.VP(), std=torch.tensor([0.3, 0.6])
    )
    start = oracle.draw(128, seed=3)
    chain = metropolis_langevin(
        lambda x: oracle.log_prob(x, 0.0),
        lambda x: oracle.score(x, 0.0),
        start,
        step_size=0.5,
        steps=120,
        trajectory=True,
    )
    assert within(chain.x.mean((0, 2)), -0.7 * 0.5 + 0.3 * 1.0)
    assert within(chain.x.square().mean((0, 2)), 0.7 * (0.25 + 0.09) + 0.3 * (1 + 0.36))


def test_small_steps_are_always_kept_and_large_ones_rarely() -> None:
    energy, x = of_variance(1.0), torch.zeros(32, 10)
    rates = [
        float(metropolis_langevin(lambda x: -energy(x), energy.score, x, h, 20).acceptance.mean())
        for h in (1e-3, 1.0, 8.0)
    ]
    assert rates[0] > 0.99
    assert rates[0] > rates[1] > rates[2]


def test_the_noise_belongs_to_the_chain_not_to_the_batch() -> None:
    energy, x = of_variance(1.0), torch.zeros(6, 3)

    def run(x: Tensor, seed: int, first: int) -> Tensor:
        kept = metropolis_langevin(
            lambda x: -energy(x), energy.score, x, 1.0, 8, seed, first_index=first
        ).x
        return torch.cat(
            [kept, unadjusted_langevin(energy.score, x, 0.5, 8, seed, first_index=first)], 1
        )

    whole = run(x, 0, 0)
    torch.testing.assert_close(run(x[:2], 0, 4), whole[4:], rtol=0, atol=1e-6)
    assert float((run(x, 1, 0) - whole).abs().amin(1).max()) > 0
    assert len(whole.unique(dim=0)) == 6
    assert not whole.requires_grad


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"step_size": 0.0}, "step_size must be a positive number, not 0.0"),
        ({"step_size": float("nan")}, "step_size must be a positive number"),
        ({"steps": 0}, "steps must be a whole number, at least 1, not 0"),
        ({"steps": 2.5}, "steps must be a whole number"),
    ],
)
def test_mistakes_are_one_sentence(options: dict[str, float], sentence: str) -> None:
    with pytest.raises(UndiffuseError, match=sentence):
        unadjusted_langevin(
            lambda x: -x, torch.zeros(2, 2), **{"step_size": 0.1, "steps": 2, **options}
        )


# ------------------------------------------------------------------ annealed


def test_it_is_algorithm_1_of_ncsn() -> None:
    """With alpha = 1: step sizes epsilon sigma_i^2 / sigma_L^2 and the score of each level."""
    schedule = ud.schedules.EDM(sigma_min=0.05, sigma_max=5.0)
    oracle = ud.exact.GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), None, schedule, 0.3)
    times = torch.linspace(1, 0, 6, dtype=torch.float64)
    x = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    stream = Stream(3, (0, 1, 2, 3))
    inner, sigma_L, epsilon = 3, float(schedule.sigma(0.0)), 2e-3
    rule = AnnealedLangevin(step_size=epsilon / sigma_L**2, inner=inner)
    found = list(walk(oracle, x, times, rule, stream))[-1]
    for i, t in enumerate(times[1:], start=1):
        size = epsilon * float(schedule.sigma(t)) ** 2 / sigma_L**2
        for k in range(inner):
            z = stream.draw((2,), i, call=k).double()
            x = x + size / 2 * oracle.score(x, t) + math.sqrt(size) * z
    torch.testing.assert_close(found.x, x, rtol=1e-10, atol=1e-10)
    assert found.evaluations == 5 * inner


@pytest.mark.parametrize(("h", "inner"), [(0.2, 5), (1.0, 1)])
def test_the_law_on_gaussian_data_follows_the_recursion(h: float, inner: int) -> None:
    """x0_hat = m + k (y - m), k = c / (c + rho^2), so each y is Gaussian with known moments."""
    schedule, m, c = ud.schedules.VP(), 0.3, 0.25
    times = schedule.t_from_log_snr(torch.linspace(-6, 5, 8, dtype=torch.float64))
    x_T = torch.full((8, 8192), 1.5, dtype=torch.float64) * schedule.alpha(times[0])
    oracle = ud.exact.Gaussian(torch.full((8192,), m), schedule, std=c**0.5)
    rule = AnnealedLangevin(h, inner)
    x = ud.sample(oracle, x_T.shape, rule, x_T=x_T, times=times)
    y = x / schedule.alpha(times[-1])
    mean, var = 1.5, 0.0
    for t in times[1:]:
        square = float((schedule.sigma(t) / schedule.alpha(t)) ** 2)
        pull = h / 2 * square / (c + square)  # h/2 (1 - k)
        for _ in range(inner):
            mean, var = mean + pull * (m - mean), (1 - pull) ** 2 * var + h * square
    assert abs(float(y.mean()) - mean) < 4 * (var / y.numel()) ** 0.5
    assert float(y.var()) == pytest.approx(var, rel=4 * (2 / y.numel()) ** 0.5)


def test_annealing_gets_the_weights_of_the_modes_right_where_plain_langevin_does_not() -> None:
    """Modes at -1 and 1 of width 0.1, a fifth and four fifths: Song & Ermon 2019, section 3.2."""
    weights = torch.tensor([0.2, 0.8])
    schedule, count = ud.schedules.EDM(sigma_min=0.02, sigma_max=10.0), 256
    oracle = ud.exact.GaussianMixture(torch.tensor([[-1.0], [1.0]]), weights, schedule, std=0.1)

    def share(x: Tensor) -> float:
        assert float((x.abs() - 1).abs().max()) < 0.6  # all are in one mode or the other
        return float((x > 0).double().mean())

    levels = ud.grids.LogSNR(noise_max=3.0, noise_min=0.2)  # where the modes part, slowly
    start = 4 * torch.rand(count, 1, generator=torch.Generator().manual_seed(0)).double() - 2
    plain = share(unadjusted_langevin(lambda x: oracle.score(x, 0.0), start, 4e-3, 120))
    annealed = share(
        ud.sample(oracle, (count, 1), AnnealedLangevin(0.5, 20), steps=15, grid=levels)
    )
    error = math.sqrt(0.2 * 0.8 / count)
    assert abs(annealed - 0.8) < 4 * error
    assert abs(plain - 0.5) < 0.1  # it stays in the half that it started in
    assert abs(plain - 0.8) > 8 * error


def test_the_schedule_is_only_a_change_of_variables(schedule: Schedule) -> None:
    """At equal log-SNRs and with equal noise, x / alpha is the same under every schedule."""
    reference = ud.schedules.VP()
    log_snr = torch.linspace(-3, 3, 6, dtype=torch.float64)
    if not schedule.log_snr(1.0) < -3 < 3 < schedule.log_snr(0.0):
        pytest.skip("the schedule does not reach these levels")
    y = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.5]])

    def last(under: Schedule) -> Tensor:
        times = under.t_from_log_snr(log_snr)
        oracle = ud.exact.GaussianMixture(means, None, under, std=0.3)
        x_T = y * under.alpha(times[0])
        x = ud.sample(oracle, y.shape, "annealed-langevin", x_T=x_T, times=times)
        return x / under.alpha(times[-1])

    torch.testing.assert_close(last(schedule), last(reference), rtol=0, atol=1e-8)


def test_it_starts_from_pure_noise_and_ends_with_the_denoised() -> None:
    schedule = ud.schedules.Flow()  # alpha(1) = 0, sigma(0) = 0
    oracle = ud.exact.FiniteSet(torch.tensor([[-1.0], [1.0]]), schedule)
    path = ud.sample(oracle, (8, 1), AnnealedLangevin(), steps=20, grid="uniform", trajectory=True)
    assert torch.equal(path.x[-1], path.x0_hat[-1])
    assert path.evaluations == 19 * 5 + 1
    torch.testing.assert_close(path.x[-1].abs(), torch.ones(8, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"step_size": 0.0}, "step_size"),
        ({"step_size": 4.0}, "step_size"),
        ({"inner": 0}, "inner"),
        ({"inner": 1.5}, "inner"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], field: str) -> None:
    with pytest.raises(UndiffuseError, match=f"{field} must be"):
        AnnealedLangevin(**options)


# ------------------------------------------------------------------ the noise of one step


def test_each_call_within_a_step_has_noise_of_its_own() -> None:
    """A function of (seed, index, step, call), for any batch; the first call is the plain draw."""
    like = torch.zeros(3, 500)
    noise = noise_of(Stream(0, (4, 5, 6)), step=2)
    drawn = torch.stack([noise(like) for _ in range(4)])
    assert torch.equal(drawn[0], Stream(0, (4, 5, 6)).draw((500,), step=2))
    correlation = torch.corrcoef(drawn.flatten(0, 1)) - torch.eye(12)
    assert float(correlation.abs().max()) < 5 / 500**0.5
    again = noise_of(Stream(0, (5,)), step=2)
    for calls in range(4):
        assert torch.equal(again(like[:1])[0], drawn[calls, 1])
    other_step = noise_of(Stream(0, (4, 5, 6)), step=3)
    other_step(like)
    assert not torch.equal(other_step(like), drawn[1])
