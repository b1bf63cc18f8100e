"""Back to noise and forth again: inversion, SDEdit and interpolation."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import undiffuse as ud
from undiffuse.errors import UndiffuseError
from undiffuse.guidance import ClassifierFree
from undiffuse.samplers import interpolate, invert, sdedit, slerp
from undiffuse.schedules.base import Schedule

VP = ud.schedules.VP()
MEANS = torch.tensor([[-1.0, 0.3, 0.0], [0.9, -0.4, 0.5], [0.2, 1.0, -0.8]]).double()
LABELS = torch.tensor([0, 1, 2])


def mixture(schedule: Schedule = VP) -> ud.exact.GaussianMixture:
    return ud.exact.GaussianMixture(MEANS, None, schedule, std=0.3, labels=LABELS)


def inner(schedule: Schedule, n: int) -> Tensor:
    """n + 1 falling times between sigma / alpha = 20 and 0.05."""
    return schedule.t_from_log_snr(
        torch.linspace(-2 * math.log(20), -2 * math.log(0.05), n + 1, dtype=torch.float64)
    )


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


# ------------------------------------------------------------------ inversion


def round_trip(sampler: str, n: int) -> float:
    """The relative error of n steps up and n steps down, between finite noise levels."""
    oracle, times = mixture(), inner(VP, n)
    x = oracle.draw(64, times[-1])
    x_T = invert(oracle, x, sampler, times=times)
    back = ud.sample(oracle, x.shape, sampler, x_T=x_T, times=times)
    assert isinstance(back, Tensor)
    return float((back - x).norm() / x.norm())


def test_the_round_trip_closes_to_a_thousandth_at_100_steps_each_way() -> None:
    errors = [round_trip("exponential-adams", n) for n in (12, 25, 50, 100)]
    assert all(fine < coarse for coarse, fine in itertools.pairwise(errors))
    assert errors[-1] <= 1e-3


@pytest.mark.parametrize("sampler", ud.catalogue.names("samplers"))
def test_every_rule_without_noise_goes_back(sampler: str) -> None:
    """First-order rules err a quarter as much with four times the steps, the others less."""
    if ud.catalogue.parse("samplers", sampler).stochastic:
        with pytest.raises(UndiffuseError, match="cannot go back to noise"):
            round_trip(sampler, 4)
    else:
        assert round_trip(sampler, 100) < 0.3 * round_trip(sampler, 25)


def test_it_finds_the_noise_of_the_exact_flow(schedule: Schedule) -> None:
    oracle = ud.exact.Gaussian(MEANS[0], schedule, cov=torch.diag(torch.tensor([0.3, 0.5, 1.0])))
    times = inner(schedule, 100)
    x = oracle.draw(16, times[-1])
    found = invert(oracle, x, times=times)
    expected = oracle.flow(x, times[-1], times[0])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("grid", ["log-snr", "uniform"])
def test_by_steps_and_back_by_one_more(grid: str, schedule: Schedule) -> None:
    """From data: the way back ends at the denoised data, near to what left."""
    oracle = ud.exact.GaussianMixture(MEANS, None, schedule, std=0.3)
    x = oracle.draw(16)
    errors = []
    for n in (25, 100):
        x_T = invert(oracle, x, "exponential-adams", steps=n, grid=grid)
        back = ud.sample(oracle, x.shape, "exponential-adams", n + 1, grid, x_T=x_T)
        assert isinstance(back, Tensor)
        errors.append(float((back - x).norm() / x.norm()))
    assert errors[1] < max(0.7 * errors[0], 0.02)
    assert errors[1] < 0.15


def test_the_encodings_of_data_are_noise() -> None:
    """Of 2,048 samples: mean 0 and covariance I, within 0.1."""
    x_T = invert(mixture(), mixture().draw(2048), steps=60)
    assert float(x_T.mean(0).abs().max()) < 0.1
    assert float((x_T.T.cov() - torch.eye(3)).abs().max()) < 0.1


def test_conditions_batches_and_types() -> None:
    x, label = mixture().draw(6, label=1), torch.full((6,), 1)
    alone = ud.exact.Gaussian(MEANS[1], VP, std=0.3)
    found = invert(mixture(), x, steps=20, label=label)
    torch.testing.assert_close(found, invert(alone, x, steps=20), rtol=1e-9, atol=1e-9)
    batched = invert(mixture(), x, steps=20, label=label, batch_size=4)
    torch.testing.assert_close(batched, found, rtol=1e-9, atol=1e-9)
    assert invert(mixture(), x.float(), steps=5).dtype == torch.float32
    guided = invert(ClassifierFree(mixture(), 1.5), x, steps=20, label=label)
    assert bool(torch.isfinite(guided).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "ddpm"}, "ddpm cannot go back to noise"),
        ({"sampler": "dimm"}, "did you mean 'ddim'"),
        ({"steps": 0}, "steps must be a whole number, at least 1, not 0"),
        ({"times": [1.0, 0.5, 0.0]}, "times that rise must start above 0"),
        ({"times": [0.5]}, "at least two times"),
    ],
)
def test_what_cannot_be_inverted(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UndiffuseError, match=message):
        invert(mixture(), mixture().draw(2), **options)


# ------------------------------------------------------------------ SDEdit


@pytest.mark.parametrize("sampler", ["exponential-adams", "ddpm"])
def test_sdedit_at_little_noise_returns_x(sampler: str) -> None:
    """The distance falls with t, as sigma(t) does, to nothing at t = 0."""
    x = mixture().draw(64)
    far = [
        float((sdedit(mixture(), x, t, sampler, 10, "uniform") - x).norm() / x.norm())
        for t in (0.5, 0.1, 0.01, 1e-4)
    ]
    assert all(b < a for a, b in itertools.pairwise(far))
    assert far[-1] < 0.01
    assert torch.equal(sdedit(mixture(), x, 0.0, sampler), x)


def test_sdedit_with_all_noise_is_sampling() -> None:
    """From t = 1 nothing of x is left, and the same noise gives nearly the same samples."""
    x = 5 * torch.ones(8, 3, dtype=torch.float64)
    flow = ud.schedules.Flow()
    edited = sdedit(mixture(flow), x, 1.0, steps=20, grid="uniform", seed=4)
    fresh = ud.sample(mixture(flow), (8, 3), "exponential-adams", 20, "uniform", seed=4)
    torch.testing.assert_close(edited, fresh.double(), rtol=0, atol=1e-5)


def test_sdedit_makes_data_of_something_like_it(schedule: Schedule) -> None:
    """What lies beside the modes comes nearer to them, and keeps its own more often than not."""
    x = (MEANS + 1.2 * torch.nn.functional.normalize(randn(3, 3, seed=1))).repeat(40, 1)
    t = float(schedule.t_from_log_snr(0.0))
    edited = sdedit(mixture(schedule), x, t, steps=15)
    distance = (edited[:, None] - MEANS).norm(dim=-1)
    own = distance.argmin(1) == (x[:, None] - MEANS).norm(dim=-1).argmin(1)
    assert float(own.double().mean()) > 0.5
    assert float(distance.amin(1).mean()) < 0.8 < float((x - MEANS.repeat(40, 1)).norm(dim=1).min())


@pytest.mark.parametrize("t", [0.2, 0.6])
def test_sdedit_of_data_is_data(t: float) -> None:
    """Noise and the exact way back leave the law of the data as it is: mean and covariance."""
    x = mixture().draw(4096)
    edited = sdedit(mixture(), x, t, steps=25)
    assert float((edited - x).norm(dim=1).mean()) > 0.1
    torch.testing.assert_close(edited.mean(0), x.mean(0), rtol=0, atol=4 * 0.8 * 2**0.5 / 64)
    torch.testing.assert_close(edited.T.cov(), x.T.cov(), rtol=0, atol=0.07)


def test_sdedit_depends_on_seed_and_index_alone() -> None:
    x = mixture().draw(5)
    whole = sdedit(mixture(), x, 0.5, "ddpm", 8, seed=3)
    assert torch.equal(sdedit(mixture(), x, 0.5, "ddpm", 8, seed=3), whole)
    batched = sdedit(mixture(), x, 0.5, "ddpm", 8, seed=3, batch_size=2)
    torch.testing.assert_close(batched, whole, rtol=1e-9, atol=1e-9)
    part = sdedit(mixture(), x[3:], 0.5, "ddpm", 8, seed=3, first_index=3)
    torch.testing.assert_close(part, whole[3:], rtol=1e-9, atol=1e-9)
    assert not torch.equal(sdedit(mixture(), x, 0.5, "ddpm", 8, seed=4), whole)


def test_sdedit_towards_a_label() -> None:
    x, label = mixture().draw(32, label=0), torch.full((32,), 2)
    edited = sdedit(mixture(), x, 0.9, steps=15, label=label)
    assert bool(((edited[:, None] - MEANS).norm(dim=-1).argmin(1) == 2).all())


@pytest.mark.parametrize("t", [-0.1, 1.1, float("nan")])
def test_sdedit_refuses_other_times(t: float) -> None:
    with pytest.raises(UndiffuseError, match=r"t must lie in \[0, 1\]"):
        sdedit(mixture(), MEANS, t)


def test_sdedit_in_one_step() -> None:
    """The answer of the denoiser; where the schedule ends in noise there is no such step."""
    x = mixture().draw(4)
    once = sdedit(mixture(), x, 0.5, "ddim", 1)
    assert bool(torch.isfinite(once).all())
    with pytest.raises(UndiffuseError, match="one step under edm is the denoising call"):
        sdedit(mixture(ud.schedules.EDM()), x, 0.5, steps=1)


# ------------------------------------------------------------------ interpolation


@given(w=st.floats(0, 1), seed=st.integers(0, 5))
def test_slerp_keeps_the_norm(w: float, seed: int) -> None:
    a, b = randn(2, 4, 3, 5, 5, seed=seed)
    a, b = (v / v.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1) for v in (a, b))
    found = slerp(3 * a, 3 * b, w).flatten(1).norm(dim=1)
    torch.testing.assert_close(found, torch.full((4,), 3.0).double())


def test_slerp_goes_at_an_even_speed_along_the_arc() -> None:
    a, b = randn(2, 6, 7, seed=2)
    a, b = (torch.nn.functional.normalize(v) for v in (a, b))
    path = torch.stack([slerp(a, b, w / 10) for w in range(11)])  # [11, 6, 7]
    angles = (path[:-1] * path[1:]).sum(-1).clamp(-1, 1).arccos()
    whole = (a * b).sum(-1).arccos()
    torch.testing.assert_close(angles, (whole / 10).expand(10, 6), rtol=1e-7, atol=1e-7)


def test_slerp_ends_where_it_should_and_takes_a_weight_per_sample() -> None:
    a, b = randn(2, 3, 4, seed=3)
    torch.testing.assert_close(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)
    each = slerp(a, b, torch.tensor([0.0, 1.0, 0.3]))
    torch.testing.assert_close(
        each, torch.stack([a[0], b[1], slerp(a, b, 0.3)[2]]), atol=1e-6, rtol=0
    )


def test_slerp_of_equal_and_nearly_equal_samples() -> None:
    a = randn(2, 4)
    torch.testing.assert_close(slerp(a, a, 0.3), a)
    near = a + 1e-9 * randn(2, 4, seed=1)
    torch.testing.assert_close(slerp(a, near, 0.3), a + 0.3 * (near - a), rtol=0, atol=1e-14)
    single = slerp(a.float(), near.float(), 0.3)
    torch.testing.assert_close(single, a.float())
    zero = torch.zeros(2, 4)
    assert torch.equal(slerp(zero, zero, 0.5), zero)


def test_slerp_refuses_opposites_and_other_shapes() -> None:
    a = randn(2, 4)
    for x in (a, a.float()):
        with pytest.raises(UndiffuseError, match="opposite"):
            slerp(x, -x, 0.5)
    with pytest.raises(UndiffuseError, match="equal shapes"):
        slerp(a, a[:, :3], 0.5)


def test_independent_noises_keep_their_norm_on_the_way_and_shrink_on_the_line() -> None:
    a, b = randn(2, 8, 4096, seed=5)
    norms = [float(v.norm(dim=1).mean()) / 64 for v in (slerp(a, b, 0.5), (a + b) / 2)]
    assert norms[0] == pytest.approx(1.0, abs=0.03)
    assert norms[1] == pytest.approx(2**-0.5, abs=0.03)


def test_interpolation(schedule: Schedule) -> None:
    """Its ends are the two samples, and all between are likely under the data."""
    oracle = ud.exact.GaussianMixture(MEANS, None, schedule, std=0.3)
    a, b = oracle.draw(4, seed=1), oracle.draw(4, seed=2)
    path = interpolate(oracle, a, b, [0, 0.25, 0.5, 0.75, 1], steps=80)
    assert path.shape == (5, 4, 3)
    torch.testing.assert_close(path[0], a, rtol=0, atol=0.06)
    torch.testing.assert_close(path[-1], b, rtol=0, atol=0.06)
    assert float((path[:, :, None] - MEANS).norm(dim=-1).amin(-1).max()) < 5 * 0.3


def test_interpolation_within_a_label() -> None:
    a, b = (mixture().draw(3, seed=s, label=1) for s in (1, 2))
    path = interpolate(mixture(), a, b, [0.5], steps=30, label=torch.full((3,), 1), batch_size=4)
    assert bool(((path[0][:, None] - MEANS).norm(dim=-1).argmin(1) == 1).all())


def test_interpolation_refuses() -> None:
    a = mixture().draw(2)
    with pytest.raises(UndiffuseError, match="at least one weight"):
        interpolate(mixture(), a, a, [])
    with pytest.raises(UndiffuseError, match="equal shapes"):
        interpolate(mixture(), a, a[:1], [0.5])
