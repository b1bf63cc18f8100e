"""Every weight gives its paper's loss, in the paper's own words, on the same x_0, noise and t."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from undiffuse import process
from undiffuse.broadcast import over
from undiffuse.denoiser import Learned
from undiffuse.errors import UndiffuseError
from undiffuse.objectives import Objective, effective_weight, weights
from undiffuse.objectives.times import (
    Importance,
    Integral,
    LogitNormal,
    LogNormal,
    Uniform,
    UniformLogSNR,
)
from undiffuse.objectives.times.base import Times
from undiffuse.objectives.weights.base import Weight
from undiffuse.predictions import Data, EDMNetwork, FlowVelocity, Noise, Score, V
from undiffuse.predictions.base import Prediction
from undiffuse.schedules import EDM, VP, Cosine, Discrete, Flow
from undiffuse.schedules.base import Schedule

B, D = 64, 3


class Network(nn.Module):
    """A smooth random function of x and c_noise."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        weights = torch.randn(2 * D + 1, D, dtype=torch.float64, generator=generator)
        self.weights = nn.Parameter(weights)

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        return torch.tanh(torch.cat([x, x.cos(), c_noise[:, None]], 1) @ self.weights)


def mse(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean(1)


class Case:
    """x_0, eps, t and x_t, and all that a network says of them, [B, D]; alpha, sigma [B]."""

    def __init__(self, schedule: Schedule, prediction: Prediction, t: Tensor) -> None:
        generator = torch.Generator().manual_seed(1)
        self.x_0, self.eps = torch.randn(2, B, D, dtype=torch.float64, generator=generator)
        self.t, self.schedule = t, schedule
        self.denoiser = Learned(Network(), prediction, schedule, (-50.0, 50.0))
        self.alpha, self.sigma = schedule.alpha(t), schedule.sigma(t)
        self.x_t = process.noised(schedule, self.x_0, t, self.eps)
        self.F = self.denoiser.predict(self.x_t, t)
        self.x0_hat = self.denoiser(self.x_t, t)
        self.eps_hat = self.denoiser.noise(self.x_t, t)

    def check(self, weight: Weight, printed: Tensor) -> None:
        ours = Objective(Uniform(), weight).loss_at(self.denoiser, self.x_0, self.t, self.eps)
        torch.testing.assert_close(ours, printed, rtol=1e-10, atol=0)


T = 50
BETAS = torch.linspace(0.002, 0.3, T, dtype=torch.float64)
CHAIN = Discrete(tuple(BETAS.tolist()))
INNER = torch.linspace(0.02, 0.98, B, dtype=torch.float64)
ALL = [Noise(), V(), EDMNetwork(), Data(), FlowVelocity(), Score()]


@pytest.fixture(params=ALL, ids=lambda p: p.name)
def kind(request: pytest.FixtureRequest) -> Prediction:
    made: Prediction = request.param
    return made


def steps() -> Tensor:
    return torch.arange(B) % T + 1  # 1 ... T, as indices


def test_ho_2020_l_simple() -> None:
    k = steps()
    case = Case(CHAIN, Noise(), k.double() / T)
    bar = (1 - BETAS).cumprod(0)[k - 1][:, None]  # with the bar everywhere
    x_t = bar.sqrt() * case.x_0 + (1 - bar).sqrt() * case.eps
    c_noise = -(bar / (1 - bar)).log()[:, 0] / 8
    case.check(weights.Simple(), mse(case.denoiser.network(x_t, c_noise), case.eps))
    one_step = 1 - BETAS[k - 1][:, None]  # as printed in lecture 002
    wrong = one_step.sqrt() * case.x_0 + (1 - one_step).sqrt() * case.eps
    assert float((wrong - case.x_t).abs().max()) > 0.5


def test_song_2021_score_matching_weighted_by_sigma_squared() -> None:
    for schedule in (VP(), EDM()):
        case = Case(schedule, Score(), INNER)
        score = -case.eps / case.sigma[:, None]  # grad log q(x_t | x_0)
        case.check(weights.Simple(), case.sigma**2 * mse(case.F, score))


def test_choi_2022_p2(kind: Prediction) -> None:
    k, (offset, gamma) = steps(), (1.0, 0.5)
    case = Case(CHAIN, kind, k.double() / T)
    beta, bar = BETAS[k - 1], (1 - BETAS).cumprod(0)[k - 1]
    bound = beta / ((1 - beta) * (1 - bar)) * mse(case.eps_hat, case.eps)  # L_t
    scheme = (1 - beta) * (1 - bar) / beta  # lambda_t, of L_simple
    snr = bar / (1 - bar)
    case.check(weights.P2(offset, gamma), scheme / (offset + snr) ** gamma * bound)
    case.check(weights.P2(offset, 0.0), mse(case.eps_hat, case.eps))


def test_hang_2023_min_snr(kind: Prediction) -> None:
    case = Case(Cosine(), kind, INNER)
    snr = (case.alpha / case.sigma) ** 2
    of_data = snr.clamp(max=5) * mse(case.x0_hat, case.x_0)
    of_noise = snr.clamp(max=5) / snr * mse(case.eps_hat, case.eps)
    case.check(weights.MinSNR(), of_data)
    torch.testing.assert_close(of_data, of_noise, rtol=1e-10, atol=0)
    v, v_hat = (
        case.alpha[:, None] * e - case.sigma[:, None] * x
        for e, x in ((case.eps, case.x_0), (case.eps_hat, case.x0_hat))
    )
    case.check(weights.MinSNR(), snr.clamp(max=5) / (snr + 1) * mse(v_hat, v))


def test_crowson_soft_min_snr() -> None:
    """k-diffusion's form: a factor of the error of EDM's network."""
    sigma_data = 0.5
    case = Case(EDM(), EDMNetwork(sigma_data), INNER)
    s = case.sigma[:, None]
    c_skip = sigma_data**2 / (s**2 + sigma_data**2)
    c_out = s * sigma_data / (s**2 + sigma_data**2).sqrt()
    target = (case.x_0 - c_skip * (case.x_0 + s * case.eps)) / c_out
    factor = (case.sigma * sigma_data) ** 2 / (case.sigma**2 + sigma_data**2) ** 2
    case.check(weights.SoftMinSNR(1 / sigma_data**2), factor * mse(case.F, target))
    snr, gamma = case.sigma**-2, 4.0
    case.check(weights.SoftMinSNR(gamma), snr * gamma / (snr + gamma) * mse(case.x0_hat, case.x_0))


def test_karras_2022_edm(kind: Prediction) -> None:
    sigma_data = 0.5
    case = Case(EDM(), kind, INNER)
    s = case.sigma
    printed = (s**2 + sigma_data**2) / (s * sigma_data) ** 2 * mse(case.x0_hat, case.x_0)
    case.check(weights.EDM(sigma_data), printed)


def test_salimans_2022_v_and_data() -> None:
    case = Case(Cosine(), V(), INNER)
    phi = INNER[:, None] * math.pi / 2
    v = phi.cos() * case.eps - phi.sin() * case.x_0
    case.check(weights.V(), mse(case.F, v))
    snr = (case.alpha / case.sigma) ** 2
    case.check(weights.V(), (snr + 1) * mse(case.x0_hat, case.x_0))
    case.check(weights.Data(), mse(case.x0_hat, case.x_0))


def test_v_and_data_for_any_alpha(kind: Prediction) -> None:
    for schedule in (EDM(), Flow(), VP()):
        case = Case(schedule, kind, INNER)
        r = torch.hypot(case.alpha, case.sigma)
        a, s = (case.alpha / r)[:, None], (case.sigma / r)[:, None]
        v, v_hat = a * case.eps - s * case.x_0, a * case.eps_hat - s * case.x0_hat
        case.check(weights.V(), mse(v_hat, v))
        case.check(weights.Data(), mse(case.x0_hat, case.x_0))


def test_lipman_2023_conditional_flow_matching() -> None:
    u = torch.linspace(0, 1, B + 2, dtype=torch.float64)[1:-1]
    case = Case(Flow(), FlowVelocity(), 1 - u)
    cfm = mse(case.F, case.eps - case.x_0)  # E |u_theta(x_t, t) - (eps - x_0)|^2, uniform t
    objective = Objective(Uniform(), weights.Flow())
    ours = objective.loss(case.denoiser, case.x_0, u, case.eps)
    torch.testing.assert_close(ours, cfm, rtol=1e-12, atol=0)
    torch.testing.assert_close(case.denoiser.velocity(case.x_t, 1 - u), case.F)  # dx_t / dt


def test_flow_matching_for_any_prediction(kind: Prediction) -> None:
    case = Case(Flow(), kind, INNER)
    u_hat = case.eps_hat - case.x0_hat
    case.check(weights.Flow(), mse(u_hat, case.eps - case.x_0))


def test_kingma_2021_continuous_bound() -> None:
    """-1/2 E SNR'(t) |x_0 - x0_hat|^2, uniform t."""
    for schedule in (VP(), Cosine(), Flow(), CHAIN):
        case = Case(schedule, Noise(), INNER)
        snr_rate = schedule.snr(INNER) * schedule.log_snr_rate(INNER)
        objective = Objective(Integral(Uniform(), 1e-9, 1e9), weights.Simple())
        ours = objective.loss(case.denoiser, case.x_0, 1 - INNER, case.eps)
        torch.testing.assert_close(
            ours, -snr_rate / 2 * mse(case.x0_hat, case.x_0), rtol=1e-10, atol=0
        )


def test_kingma_gao_2023_sigmoid() -> None:
    """1/2 E w(lambda) (-dlambda/dt) |eps_hat - eps|^2 with uniform t, and with any other."""
    case = Case(Cosine(), V(), INNER)
    log_snr = -2 * (INNER * math.pi / 2).tan().log()
    rate = 2 * math.pi / (INNER * math.pi).sin()  # -dlambda / dt
    printed = torch.sigmoid(-log_snr + 2) * rate * mse(case.eps_hat, case.eps) / 2
    objective = Objective(Integral(Uniform(), 1e-9, 1e9), weights.Sigmoid(2.0))
    ours = objective.loss(case.denoiser, case.x_0, 1 - INNER, case.eps)
    torch.testing.assert_close(ours, printed, rtol=1e-10, atol=0)


# ------------------------------------------------------------------ every loss as one curve

LOG_SNR = torch.linspace(-8, 8, 41, dtype=torch.float64)


def test_weights_of_kingma_gao_table_1() -> None:
    def curve(times: Times, weight: Weight, schedule: Schedule) -> Tensor:
        return effective_weight(Objective(times, weight), schedule, LOG_SNR, at=0.0)

    def same(ours: Tensor, printed: Callable[[Tensor], Tensor]) -> None:
        expected = printed(LOG_SNR) / printed(torch.zeros((), dtype=torch.float64))
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=0)

    def normal(l: Tensor) -> Tensor:
        return torch.exp(-((l - 2.4) ** 2) / (2 * 2.4**2))

    same(curve(Uniform(), weights.Simple(), Cosine()), lambda l: 1 / torch.cosh(l / 2))
    same(curve(Uniform(), weights.V(), Cosine()), lambda l: torch.exp(-l / 2))
    same(curve(Uniform(), weights.Flow(), Flow()), lambda l: torch.exp(-l / 2))
    same(curve(LogNormal(), weights.EDM(), EDM()), lambda l: normal(l) * (torch.exp(-l) + 0.25))
    same(curve(Integral(), weights.Sigmoid(), VP()), lambda l: torch.sigmoid(2 - l))
    same(curve(UniformLogSNR(), weights.Simple(), Flow()), torch.ones_like)


def test_the_loss_is_the_integral_of_its_curve() -> None:
    """Against a quadrature over log-SNR of the noise error, for one pair x_0, eps."""
    case = Case(Flow(), V(), INNER)
    n = 4000
    l = torch.linspace(-9, 9, n + 1, dtype=torch.float64)
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n

    def many(x: Tensor, count: int) -> Tensor:
        return x[:1].expand(count, D)

    schedules: list[Schedule] = [Flow(), Cosine(), VP()]
    for schedule in schedules:
        denoiser = Learned(case.denoiser.network, V(), schedule, (-50.0, 50.0))
        for times in (
            LogitNormal(0.5, 0.7),
            LogNormal(0.2, 0.6),
            Importance(4, squares=(1.0, 9.0, 4.0, 2.0)),
        ):
            objective = Objective(times, weights.MinSNR())
            losses = objective.loss(denoiser, many(case.x_0, n), u, many(case.eps, n))
            t = schedule.t_from_log_snr(l)
            plain = Objective(Uniform(), weights.Simple())
            error = plain.loss_at(denoiser, many(case.x_0, n + 1), t, many(case.eps, n + 1))
            curve = effective_weight(objective, schedule, l)
            integral = float(torch.trapezoid(curve * error, l).detach()) / 2
            tails = 0.02 if isinstance(times, Importance) else 1e-3
            assert float(losses.mean().detach()) == pytest.approx(integral, rel=tails)


def test_the_bound_depends_neither_on_the_schedule_nor_on_the_times() -> None:
    """VDM's invariance: only the ends count."""
    case, n = Case(Flow(), V(), INNER), 20000
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    x_0, eps = (x[:1].expand(n, D) for x in (case.x_0, case.eps))
    drawn: list[Times] = [
        Uniform(),
        UniformLogSNR(0.05, 20.0),
        LogNormal(0.0, 2.0),
        LogitNormal(0.0, 1.5),
        Importance(4, squares=(9.0, 1.0, 2.0, 4.0)),
    ]
    schedules: list[Schedule] = [Flow(), Cosine(), VP(), EDM(), Discrete.linear(100)]
    found = []
    for schedule in schedules:
        denoiser = Learned(case.denoiser.network, V(), schedule, (-50.0, 50.0))
        for times in drawn:
            if not (schedule == EDM() and isinstance(times, LogitNormal)):
                objective = Objective(Integral(times, 0.05, 20.0), weights.Simple())
                found.append(float(objective.loss(denoiser, x_0, u, eps).mean().detach()))
    uniform = Objective(UniformLogSNR(0.05, 20.0), weights.Simple())
    mean = float(uniform.loss(case.denoiser, x_0, u, eps).mean().detach())
    assert found == pytest.approx([mean * 2 * math.log(400) / 2] * len(found), rel=2e-3)


def test_no_weight_where_the_schedule_has_no_noise() -> None:
    loss = Objective(Uniform(), weights.Simple())
    l = torch.tensor([-30.0, 0.0, 30.0], dtype=torch.float64)
    curve = effective_weight(loss, EDM(), l)
    assert curve[0] == curve[2] == 0
    assert curve[1] > 0
    assert effective_weight(loss, EDM(), 0.0, at=0.0) == 1


# ------------------------------------------------------------------ c(t) of exercise 2


def test_noise_error_is_the_snr_times_the_data_error(
    schedule: Schedule, prediction: Prediction
) -> None:
    t = torch.linspace(0.2, 0.9, B, dtype=torch.float64)
    case = Case(schedule, prediction, t)
    ratio = mse(case.eps_hat, case.eps) / mse(case.x0_hat, case.x_0)
    torch.testing.assert_close(ratio, schedule.snr(t), rtol=1e-9, atol=0)
    torch.testing.assert_close(schedule.snr(t), schedule.log_snr(t).exp(), rtol=1e-9, atol=0)


def test_the_snr_of_a_chain_has_the_bar() -> None:
    bar = (1 - BETAS).cumprod(0)
    snr = CHAIN.snr(torch.arange(1, T + 1).double() / T)
    torch.testing.assert_close(snr, bar / (1 - bar), rtol=1e-10, atol=0)
    assert not torch.allclose(snr, (1 - BETAS) / BETAS, rtol=0.1)


# ------------------------------------------------------------------ options and limits


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: weights.MinSNR(0), "MinSNR: gamma must be positive"),
        (lambda: weights.SoftMinSNR(math.inf), "SoftMinSNR: gamma"),
        (lambda: weights.P2(0.0), "P2: k must be positive"),
        (lambda: weights.P2(1.0, -1.0), "P2: gamma must be at least 0"),
        (lambda: weights.Sigmoid(math.nan), "Sigmoid: bias"),
    ],
)
def test_impossible_weights_are_refused(make: Callable[[], Weight], message: str) -> None:
    with pytest.raises(UndiffuseError, match=message):
        make()


@pytest.mark.parametrize(
    ("weight", "prediction"),
    [
        (weights.Data(), Data()),
        (weights.V(), V()),
        (weights.Flow(), FlowVelocity()),
        (weights.EDM(), EDMNetwork()),
    ],
)
def test_a_loss_of_the_network_itself_is_finite_where_there_is_no_signal(
    weight: Weight, prediction: Prediction
) -> None:
    denoiser = Learned(Network(), prediction, Flow())
    x_0, eps = torch.randn(2, 4, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([1e-9, 0.5, 1 - 1e-9, 1.0], dtype=torch.float64)
    x_t = process.noised(Flow(), x_0, t, eps)
    alpha, sigma = (over(f(t), x_0) for f in (Flow().alpha, Flow().sigma))
    F, target = denoiser.predict(x_t, t), prediction.target(x_0, eps, alpha, sigma)
    ours = Objective(Uniform(), weight).loss_at(denoiser, x_0, t, eps)
    scale = 1.0 if weight.name != "edm" else 1 / weights.EDM().sigma_data ** 2 * 0.5**2
    torch.testing.assert_close(ours, mse(F, target) * scale, rtol=1e-7, atol=0)
