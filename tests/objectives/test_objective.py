r"""The loss in the space of F is the weighted loss of the noise; papers' losses are rows of it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from undiffuse import noise, process
from undiffuse.denoiser import Learned
from undiffuse.objectives.objective import Objective
from undiffuse.objectives.times.base import Times
from undiffuse.objectives.times.log_normal import LogNormal
from undiffuse.objectives.times.uniform import Uniform
from undiffuse.objectives.weights.base import Weight
from undiffuse.objectives.weights.edm import EDM
from undiffuse.objectives.weights.simple import Simple
from undiffuse.predictions.base import Prediction
from undiffuse.predictions.edm import EDMNetwork
from undiffuse.predictions.noise import Noise
from undiffuse.schedules.base import Schedule
from undiffuse.schedules.discrete import Discrete
from undiffuse.schedules.edm import EDM as EDMSchedule


def draws(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """x_0 of standard deviation 0.7, u inside (0, 1), and noise; float64."""
    x_0 = 0.7 * noise.normal(0, "data", shape).double()
    u = 0.03 + 0.94 * noise.uniform(0, "u", shape[0])
    return x_0, u, noise.normal(0, "noise", shape).double()


def inside(schedule: Schedule, count: int) -> Tensor:
    """Times at log-SNRs evenly from -10 to 10, as far as the schedule has them."""
    log_snr = torch.linspace(-10, 10, count, dtype=torch.float64)
    t = schedule.t_from_log_snr(log_snr)
    return t[(t > 0) & (t < 1)]


def test_loss_is_the_weighted_noise_loss(
    toy: nn.Module, schedule: Schedule, prediction: Prediction, weights: list[Weight]
) -> None:
    denoiser = Learned(toy, prediction, schedule)
    t = inside(schedule, 16)
    x_0, _, eps = draws((len(t), 3, 2))
    eps_hat = denoiser.noise(process.noised(schedule, x_0, t, eps), t)
    error = (eps_hat - eps).square().mean((1, 2))
    for weight in weights:
        loss = Objective(Uniform(), weight).loss_at(denoiser, x_0, t, eps)
        expected = weight.log_weight(schedule.log_snr(t)).exp() * error
        torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)


def test_times_choose_where_and_correct_how_much(
    toy: nn.Module, schedule: Schedule, times: Times
) -> None:
    denoiser = Learned(toy, EDMNetwork(0.7), schedule, times.log_snr_range(schedule))
    x_0, u, eps = draws((8, 2))
    t = times.times(u, schedule)
    objective = Objective(times, Simple())
    expected = times.correction(t, schedule) * objective.loss_at(denoiser, x_0, t, eps)
    torch.testing.assert_close(objective.loss(denoiser, x_0, u, eps), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("t", [0.0, 1.0])
def test_loss_and_gradient_are_finite_at_both_ends(
    toy: nn.Module, schedule: Schedule, prediction: Prediction, weights: list[Weight], t: float
) -> None:
    if prediction.name == "score" and t == 0.0 and float(schedule.sigma(0.0)) == 0:
        return  # a point without noise has no score; no distribution of times draws t = 0
    denoiser = Learned(toy, prediction, schedule)
    x_0, _, eps = draws((4, 2))
    end = torch.full((4,), t, dtype=torch.float64)
    for weight in weights:
        loss = Objective(Uniform(), weight).loss_at(denoiser, x_0, end, eps)
        (gradient,) = torch.autograd.grad(loss.sum(), list(toy.parameters()))
        assert bool(loss.isfinite().all()), weight
        assert math.isfinite(float(gradient)), weight


def test_edm_is_table_1(toy: nn.Module) -> None:
    """Karras et al. 2022, table 1: ln sigma ~ N(-1.2, 1.2^2), lambda |D(y + n; sigma) - y|^2."""
    sigma_data, shape = 0.5, (32, 5)
    y, _, unit = draws(shape)
    u = noise.uniform(1, "u", len(y))
    normal = math.sqrt(2) * torch.erfinv(2 * u - 1)
    sigma = torch.exp(-1.2 + 1.2 * normal)[:, None]
    n = sigma * unit
    c_skip = sigma_data**2 / (sigma**2 + sigma_data**2)
    c_out = sigma * sigma_data / torch.sqrt(sigma_data**2 + sigma**2)
    c_in = 1 / torch.sqrt(sigma**2 + sigma_data**2)
    c_noise = sigma.log() / 4
    D = c_skip * (y + n) + c_out * toy(c_in * (y + n), c_noise[:, 0])
    weight = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
    expected = (weight * (D - y) ** 2).mean(1)

    denoiser = Learned(toy, EDMNetwork(sigma_data), EDMSchedule())
    loss = Objective(LogNormal(), EDM(sigma_data)).loss(denoiser, y, u, unit)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)


def test_simple_is_algorithm_1_of_ddpm(toy: nn.Module) -> None:
    """t uniform in {1, ..., T}; |eps - eps_theta(sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, t)|^2."""
    steps, schedule = 100, Discrete.linear(100)
    x_0, u, eps = draws((64, 3))
    k = torch.floor(u * steps).long()  # t - 1
    a_bar = (1 - torch.tensor(schedule.betas, dtype=torch.float64)).cumprod(0)[k][:, None]
    x_t = a_bar.sqrt() * x_0 + (1 - a_bar).sqrt() * eps
    c_noise = -(a_bar / (1 - a_bar)).log()[:, 0] / 8
    expected = (eps - toy(x_t, c_noise)).square().mean(1)  # of unit variance: nothing to scale

    objective = Objective(Uniform(steps), Simple())
    loss = objective.loss(Learned(toy, Noise(), schedule), x_0, u, eps)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)


def test_edm_weight_makes_all_levels_equal_at_the_start(schedule: Schedule) -> None:
    """With F = 0 and data of std sigma_data, E loss = 1 at every noise level."""

    class Zero(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1, dtype=torch.float64))

        def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
            return torch.zeros_like(x)

    denoiser = Learned(Zero(), EDMNetwork(0.7), schedule)
    x_0, _, eps = draws((9, 40_000))
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    loss = Objective(Uniform(), EDM(0.7)).loss_at(denoiser, x_0, t, eps)
    error = math.sqrt(2 / 40_000)  # standard error of a mean of squares
    torch.testing.assert_close(loss, torch.ones_like(loss), rtol=0, atol=4 * error)


def test_conditions_reach_the_network() -> None:
    class Labelled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = nn.Parameter(torch.tensor([0.0, 1.0, 2.0]))

        def forward(self, x: Tensor, c_noise: Tensor, label: Tensor) -> Tensor:
            return torch.zeros_like(x) + self.rows[label][:, None]

    denoiser = Learned(Labelled(), Noise(), Discrete.linear(100))
    still = torch.zeros(3, 4)
    loss = Objective(Uniform(), Simple()).loss(
        denoiser, still, torch.full((3,), 0.5), still, label=torch.tensor([0, 1, 2])
    )
    torch.testing.assert_close(loss, torch.tensor([0.0, 1.0, 4.0]))
