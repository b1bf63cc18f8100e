"""One Gaussian: Wiener's filter, and the exact map of the probability-flow ODE."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from undiffuse.errors import UndiffuseError
from undiffuse.exact import Gaussian
from undiffuse.schedules import EDM, VP, Flow
from undiffuse.schedules.base import Schedule

MEAN = torch.tensor([0.5, -1.0], dtype=torch.float64)
COV = torch.tensor([[0.5, 0.2], [0.2, 0.3]], dtype=torch.float64)
EYE = torch.eye(2, dtype=torch.float64)


def samples(count: int = 5) -> Tensor:
    return torch.randn(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_the_denoiser_is_the_filter_of_wiener(schedule: Schedule) -> None:
    oracle, x = Gaussian(MEAN, schedule, cov=COV), samples()
    for t in (0.1, 0.5, 0.9):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        gain = alpha * COV @ torch.linalg.inv(alpha**2 * COV + sigma**2 * EYE)
        expected = MEAN + (x - alpha * MEAN) @ gain.T
        torch.testing.assert_close(oracle(x, t), expected, rtol=1e-9, atol=1e-9)


def test_std_and_cov_say_the_same(schedule: Schedule) -> None:
    one, other = Gaussian(MEAN, schedule, std=0.6), Gaussian(MEAN, schedule, cov=0.36 * EYE)
    x = samples()
    for t in (0.1, 0.9):
        torch.testing.assert_close(one(x, t), other(x, t))
        torch.testing.assert_close(one.score(x, t), other.score(x, t))
        torch.testing.assert_close(one.log_prob(x, t), other.log_prob(x, t))
        torch.testing.assert_close(one.flow(x, t, 0.5), other.flow(x, t, 0.5))


def test_the_flow_composes_and_inverts(schedule: Schedule) -> None:
    oracle, x = Gaussian(MEAN, schedule, cov=COV), samples()
    for t, u, s in ((1.0, 0.4, 0.0), (0.9, 0.95, 0.2), (0.0, 1.0, 0.5)):
        once = oracle.flow(x, t, s)
        torch.testing.assert_close(
            oracle.flow(oracle.flow(x, t, u), u, s), once, rtol=1e-9, atol=1e-9
        )
        torch.testing.assert_close(oracle.flow(once, s, t), x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(oracle.flow(x, 0.3, 0.3), x)


def test_the_flow_carries_p_t_to_p_s(schedule: Schedule) -> None:
    """Change of variables: log p_t(x) = log p_s(y) + log |det dy/dx|, for an affine map."""
    oracle, x = Gaussian(MEAN, schedule, cov=COV), samples()
    zero = torch.zeros(1, 2, dtype=torch.float64)
    for t, s in ((0.9, 0.1), (0.2, 0.7), (1.0, 0.0)):
        columns = oracle.flow(EYE, t, s) - oracle.flow(zero, t, s)
        log_det = torch.linalg.slogdet(columns)[1]
        arrived = oracle.log_prob(oracle.flow(x, t, s), s) + log_det
        torch.testing.assert_close(arrived, oracle.log_prob(x, t), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("other", [VP(), Flow(), EDM(sigma_max=20)])
def test_the_flow_solves_the_ode_of_the_velocity(other: Schedule) -> None:
    oracle, x = Gaussian(MEAN, other, cov=COV), samples(1)

    def velocity(t: float, y: np.ndarray) -> np.ndarray:
        return oracle.velocity(torch.from_numpy(y)[None], t)[0].numpy()

    solved = solve_ivp(velocity, (0.9, 0.1), x[0].numpy(), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(solved.y[:, -1], oracle.flow(x, 0.9, 0.1)[0].numpy(), rtol=1e-6)


def test_draws_have_its_moments() -> None:
    x = Gaussian(MEAN, VP(), cov=COV).draw(8000, seed=3)
    torch.testing.assert_close(x.mean(0), MEAN, rtol=0, atol=4 * 0.7 / 8000**0.5)
    torch.testing.assert_close(x.T.cov(), COV, rtol=0, atol=0.03)


def test_any_rank_of_data() -> None:
    image = Gaussian(torch.zeros(1, 2, 3), Flow(), std=0.5)
    x = torch.randn(4, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    assert image(x, 0.5).shape == image.flow(x, 0.5, 0.1).shape == x.shape
    assert image.flow(x, 0.5, 0.1).dtype == torch.float32
    assert image.draw(3).shape == (3, 1, 2, 3)


def test_mistakes() -> None:
    x = samples()
    with pytest.raises(UndiffuseError, match="no width to flow from"):
        Gaussian(MEAN, VP(), std=0.0).flow(x, 0.0, 1.0)
    with pytest.raises(UndiffuseError, match="no labels"):
        Gaussian(MEAN, VP(), std=1.0)(x, 0.5, label=torch.zeros(5, dtype=torch.int64))
    with pytest.raises(UndiffuseError, match="either std or cov"):
        Gaussian(MEAN, VP())
    with pytest.raises(UndiffuseError, match="means must have shape"):
        Gaussian(torch.tensor(0.0), VP(), std=1.0)
