"""The denoiser: its ends, its views, and the same denoiser under every schedule."""

from __future__ import annotations

import json
import math
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from undiffuse import process
from undiffuse.broadcast import over
from undiffuse.denoiser import Denoiser, Learned, Rescheduled
from undiffuse.errors import UndiffuseError
from undiffuse.exact import FiniteSet, Gaussian, GaussianMixture
from undiffuse.networks import MLP
from undiffuse.predictions import Data, EDMNetwork, FlowVelocity, Noise, Score, V
from undiffuse.predictions.base import Prediction
from undiffuse.schedules import EDM, VP, Cosine, Flow
from undiffuse.schedules.base import Schedule

INNER = torch.tensor([0.05137, 0.2137, 0.5137, 0.8137, 0.97137], dtype=torch.float64)


class Network(nn.Module):
    """A smooth random function of (x, c_noise, label) that remembers what it was asked."""

    def __init__(self, size: int = 2) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        weights = torch.randn(2 * size + 1, size, dtype=torch.float64, generator=generator)
        self.weights = nn.Parameter(weights)
        self.asked: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, c_noise: Tensor, label: Tensor | None = None) -> Tensor:
        self.asked.append((x.detach(), c_noise.detach()))
        flat = x.flatten(1)
        inputs = torch.cat([flat, flat.cos(), c_noise[:, None]], 1)
        shift = 0 if label is None else label[:, None]
        return (torch.tanh(inputs @ self.weights) + shift).reshape(x.shape)


class Silent(nn.Module):
    """A network that must not be asked."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        raise AssertionError("the network was called")


class Bare(Denoiser):
    """The least that a denoiser can be: x0_hat = x / 2, with all views from the base."""

    name: ClassVar[str] = "bare"

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Tensor | None) -> Tensor:
        return x_t / 2


def samples(count: int = 5, size: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, dtype=torch.float64, generator=generator)


def oracles(schedule: Schedule) -> list[Denoiser]:
    means, labels = samples(4, seed=3), torch.tensor([0, 0, 1, 1])
    cov = torch.tensor([[0.5, 0.2], [0.2, 0.3]])
    return [
        Gaussian(means[0], schedule, std=0.6),
        GaussianMixture(means, torch.tensor([1, 2, 3, 4.0]), schedule, std=0.4, labels=labels),
        GaussianMixture(means, None, schedule, cov=cov),
        FiniteSet(means, schedule, labels),
    ]


def shared_times(
    one: Schedule, other: Schedule, low: float = -9, high: float = 9
) -> tuple[Tensor, Tensor]:
    """Times of equal log-SNR under both schedules, 7 of them."""
    low = max(low, float(one.log_snr(1.0)), float(other.log_snr(1.0)))
    high = min(high, float(one.log_snr(0.0)), float(other.log_snr(0.0)))
    log_snr = torch.linspace(low, high, 7, dtype=torch.float64)[1:-1]
    return one.t_from_log_snr(log_snr), other.t_from_log_snr(log_snr)


def at(schedule: Schedule, unit: Tensor, t: Tensor) -> Tensor:
    """The unit sample on the scale that x_t has under a schedule."""
    return over(torch.hypot(schedule.alpha(t), schedule.sigma(t)), unit) * unit


# ------------------------------------------------------------------ the clean end


def test_without_noise_nobody_is_asked(schedule: Schedule, prediction: Prediction) -> None:
    denoiser, x = Learned(Silent(), prediction, schedule), samples()
    if schedule.sigma(0.0) > 0:
        with pytest.raises(AssertionError, match="called"):
            denoiser(x, 0.0)
        return
    for t in (0.0, torch.zeros(()), torch.zeros(5)):
        torch.testing.assert_close(denoiser(x, t), x, rtol=0, atol=0)  # alpha(0) = 1
    for view in (denoiser.noise, denoiser.score, denoiser.velocity):
        for t in (0.0, torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4])):
            with pytest.raises(UndiffuseError, match="no noise"):
                view(x, t)


def test_clean_and_noisy_samples_in_one_batch(schedule: Schedule, prediction: Prediction) -> None:
    denoiser, x = Learned(Network(), prediction, schedule), samples()
    t = torch.tensor([0.0, 0.5, 0.0, 0.7, 0.0], dtype=torch.float64)
    together = denoiser(x, t)
    for i in range(5):
        alone = denoiser(x[i : i + 1], t[i])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-12, atol=1e-12)
    assert bool(together.isfinite().all())


def test_a_clean_sample_is_divided_by_alpha() -> None:
    class Dim(Flow):
        def alpha(self, t: Tensor | float) -> Tensor:
            return super().alpha(t) / 2

    x = samples()
    torch.testing.assert_close(Learned(Silent(), V(), Dim())(x, 0.0), 2 * x)


# ------------------------------------------------------------------ the end without signal


@pytest.mark.parametrize("schedule_without_signal", [Cosine(), Flow()])
def test_where_there_is_no_signal(schedule_without_signal: Schedule) -> None:
    x = samples()
    for kind in (V(), Data(), EDMNetwork(), FlowVelocity()):
        denoiser = Learned(Network(), kind, schedule_without_signal)
        assert bool(denoiser(x, 1.0).isfinite().all())
        assert bool(denoiser.velocity(x, 1.0).isfinite().all())
    for kind in (Noise(), Score()):
        denoiser = Learned(Network(), kind, schedule_without_signal)
        assert bool(denoiser(x, 0.999).isfinite().all())
        for t in (1.0, torch.tensor([0.1, 0.2, 0.3, 0.4, 1.0])):
            with pytest.raises(UndiffuseError, match=f"{kind.name} prediction .* alpha = 0"):
                denoiser(x, t)
    for oracle in oracles(schedule_without_signal):
        assert bool(oracle(x, 1.0).isfinite().all())


@pytest.mark.parametrize("kind", [Noise(), Score(), V(), EDMNetwork(), Data(), FlowVelocity()])
@pytest.mark.parametrize("base", [VP(), EDM(), Cosine()])
def test_a_learned_denoiser_seen_where_there_is_no_signal(kind: Prediction, base: Schedule) -> None:
    """The log-SNR of -inf is clipped to the lowest one of training."""
    denoiser, x = Learned(Network(), kind, base), samples()
    seen = denoiser.with_schedule(Flow())
    lowest = base.t_from_log_snr(denoiser.log_snr_range[0])
    torch.testing.assert_close(seen(x, 1.0), denoiser(at(base, x, lowest), lowest))
    assert bool(seen(x, torch.tensor([0.0, 1e-9, 0.5, 0.9999, 1.0])).isfinite().all())


# ------------------------------------------------------------------ the views


def test_noise_score_and_velocity_are_views_of_one_thing(schedule: Schedule) -> None:
    x = samples()
    a, b = over(schedule.alpha(INNER), x), over(schedule.sigma(INNER), x)
    for denoiser in [*oracles(schedule), Learned(Network(), V(), schedule), Bare(schedule)]:
        x0_hat, eps_hat = denoiser(x, INNER), denoiser.noise(x, INNER)
        torch.testing.assert_close(a * x0_hat + b * eps_hat, x, rtol=1e-12, atol=1e-12)
        score = denoiser.score(x, INNER)
        torch.testing.assert_close(score, -eps_hat / b, rtol=1e-8, atol=1e-8)
        flow = process.flow_drift(schedule, x, INNER, score)
        torch.testing.assert_close(denoiser.velocity(x, INNER), flow, rtol=1e-7, atol=1e-7)
        tweedie = process.tweedie(schedule, x, INNER, score)
        torch.testing.assert_close(tweedie, x0_hat, rtol=1e-8, atol=1e-8)


def test_velocity_is_the_time_derivative_of_the_flow(schedule: Schedule) -> None:
    oracle = Gaussian(torch.tensor([0.5, -1]), schedule, cov=torch.tensor([[0.5, 0.2], [0.2, 0.3]]))
    x, h = samples(), 1e-5
    for t in INNER.tolist():
        difference = (oracle.flow(x, t, t + h) - oracle.flow(x, t, t - h)) / (2 * h)
        torch.testing.assert_close(oracle.velocity(x, t), difference, rtol=1e-6, atol=1e-6)


# ------------------------------------------------------------------ other schedules


def test_exact_denoisers_under_another_schedule_and_back(
    schedule: Schedule, schedules: list[Schedule]
) -> None:
    unit, exact = samples(), oracles(schedule)
    for i, other in enumerate(schedules):
        here, there = shared_times(schedule, other)
        x, y = at(schedule, unit, here), at(other, unit, there)
        oracle = exact[i % len(exact)]
        moved, expected = oracle.with_schedule(other), oracle(x, here)
        assert moved.schedule == other
        assert type(moved) is type(oracle)  # rebuilt: exact at every log-SNR
        torch.testing.assert_close(moved(y, there), expected, rtol=1e-9, atol=1e-9)
        back = moved.with_schedule(schedule)
        torch.testing.assert_close(back(x, here), expected, rtol=1e-12, atol=1e-12)
        seen = Rescheduled(Rescheduled(oracle, other), schedule)
        torch.testing.assert_close(seen(x, here), expected, rtol=1e-9, atol=1e-9)


def same_there_and_back(denoiser: Learned, other: Schedule) -> None:
    unit, schedule = samples(), denoiser.schedule
    here, there = shared_times(schedule, other)
    x, y = at(schedule, unit, here), at(other, unit, there)
    expected, moved = denoiser(x, here), denoiser.with_schedule(other)
    assert moved.schedule == other
    assert moved.log_snr_range == denoiser.log_snr_range
    torch.testing.assert_close(moved(y, there), expected, rtol=1e-9, atol=1e-9)
    back = moved.with_schedule(schedule)
    torch.testing.assert_close(back(x, here), expected, rtol=1e-9, atol=1e-9)
    seen = Rescheduled(moved, schedule)
    torch.testing.assert_close(seen(x, here), expected, rtol=1e-9, atol=1e-9)
    if denoiser.prediction.name != "score":  # whose F changes with the scale of x_t
        same = Learned(denoiser.network, denoiser.prediction, other, denoiser.log_snr_range)
        torch.testing.assert_close(same(y, there), expected, rtol=1e-9, atol=1e-9)


def test_learned_denoisers_under_another_schedule_and_back(
    schedule: Schedule, schedules: list[Schedule]
) -> None:
    for other in schedules:
        same_there_and_back(Learned(Network(), EDMNetwork(), schedule), other)


@pytest.mark.parametrize(("here", "there"), [(VP(), Flow()), (Flow(), EDM()), (EDM(), VP())])
def test_whatever_is_predicted_under_another_schedule_and_back(
    here: Schedule, there: Schedule, prediction: Prediction
) -> None:
    same_there_and_back(Learned(Network(), prediction, here), there)


def test_outside_the_trained_range_the_network_sees_its_edge(
    schedule: Schedule, schedules: list[Schedule]
) -> None:
    network, x = Network(), samples()
    denoiser = Learned(network, V(), schedule, log_snr_range=(1.0, 2.0))
    assert denoiser.log_snr_range == (1.0, 2.0)
    t = torch.tensor([1e-9, 1e-3, 0.5, 0.999, 1.0])
    for seen in (denoiser, *(denoiser.with_schedule(other) for other in schedules)):
        assert bool(seen(x, t).isfinite().all())
    asked = torch.cat([c_noise for _, c_noise in network.asked])
    assert float(asked.min()) >= -2 / 8 - 1e-12
    assert float(asked.max()) <= -1 / 8 + 1e-12


def test_the_default_range_is_what_the_schedule_has() -> None:
    assert Learned(Network(), V(), VP()).log_snr_range == pytest.approx(
        (-10.04996, 12.43), abs=0.01
    )
    assert Learned(Network(), V(), Flow()).log_snr_range == pytest.approx(
        (-2 * math.log(160), -2 * math.log(0.002)), abs=0.01
    )
    assert FiniteSet(samples(), Flow()).log_snr_range == (-math.inf, math.inf)


# ------------------------------------------------------------------ what the network is asked


def test_the_network_sees_unit_variance_and_a_quarter_of_log_sigma_over_alpha(
    schedule: Schedule,
) -> None:
    network, generator = Network(), torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(2, 4000, 2, dtype=torch.float64, generator=generator)
    x_t = process.noised(schedule, 0.5 * x_0, 0.4, eps)
    Learned(network, EDMNetwork(sigma_data=0.5), schedule)(x_t, 0.4)
    x, c_noise = network.asked[0]
    assert float(x.var()) == pytest.approx(1, abs=0.05)
    expected = torch.log(schedule.sigma(0.4) / schedule.alpha(0.4)) / 4
    torch.testing.assert_close(c_noise, expected.expand(4000))


def test_network_and_sample_keep_their_own_dtype() -> None:
    network = Network().float()
    denoiser = Learned(network, V(), VP())
    for dtype in (torch.float32, torch.float64):
        assert denoiser(samples().to(dtype), 0.5).dtype == dtype
    assert all(x.dtype == c.dtype == torch.float32 for x, c in network.asked)


def test_any_rank_and_conditions_reach_the_network() -> None:
    x = samples(3, 8).reshape(3, 2, 1, 4)
    denoiser = Learned(Network(8), Data(), VP())
    assert denoiser(x, torch.tensor([0.1, 0.5, 0.9])).shape == x.shape
    shift = denoiser(x, 0.5, label=torch.tensor([0, 1, 2])) - denoiser(x, 0.5)
    torch.testing.assert_close(
        shift, torch.arange(3.0).double()[:, None, None, None].expand(x.shape)
    )
    moved = denoiser.with_schedule(Flow())
    shift = moved(x, 0.5, label=torch.tensor([0, 1, 2])) - moved(x, 0.5)
    torch.testing.assert_close(shift[2], torch.full_like(shift[2], 2))


def test_a_time_of_another_shape_is_refused(schedule: Schedule) -> None:
    x = samples(2)
    for denoiser in [*oracles(schedule), Learned(Network(), V(), schedule), Bare(schedule)]:
        for t in (torch.ones(3) / 2, torch.ones(1) / 2, torch.ones(2, 1) / 2, torch.ones(0)):
            for call in (denoiser, denoiser.noise, denoiser.score, denoiser.velocity):
                with pytest.raises(UndiffuseError, match=r"one time per sample.* 2 samples"):
                    call(x, t)


def test_gradients_flow_to_the_network_and_to_x() -> None:
    network, x = Network(), samples().requires_grad_()
    Learned(network, V(), VP())(x, INNER).sum().backward()
    assert network.weights.grad is not None
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def test_a_learned_denoiser_survives_json() -> None:
    network = MLP(size=2, width=16, depth=1)
    denoiser = Learned(network, EDMNetwork(sigma_data=0.4), Cosine(), (-5.0, 7.0))
    again = Learned.from_config(json.loads(json.dumps(denoiser.config())))
    again.load_state_dict(denoiser.state_dict())
    assert again.config() == denoiser.config()
    x = samples().float()
    torch.testing.assert_close(again(x, 0.3), denoiser(x, 0.3), rtol=0, atol=0)
