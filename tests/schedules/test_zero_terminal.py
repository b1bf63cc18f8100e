"""ZeroTerminalSNR against algorithm 1 of Lin et al. 2023."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from undiffuse.errors import UndiffuseError
from undiffuse.schedules import EDM, VP, Cosine, Discrete, Shifted, ZeroTerminalSNR
from undiffuse.schedules.base import Schedule


def rescaled(betas: Tensor) -> Tensor:
    """The paper's enforce_zero_terminal_snr, as printed; the new betas, of which the last is 1."""
    alphas_bar_sqrt = (1 - betas).cumprod(0).sqrt()
    first, last = alphas_bar_sqrt[0].clone(), alphas_bar_sqrt[-1].clone()
    alphas_bar_sqrt = (alphas_bar_sqrt - last) * first / (first - last)
    alphas_bar = alphas_bar_sqrt**2
    return 1 - torch.cat([alphas_bar[:1], alphas_bar[1:] / alphas_bar[:-1]])


@pytest.mark.parametrize(
    "chain",
    [
        Discrete.linear(1000),
        Discrete.linear(50),
        Discrete.constant(30, 0.1),
        Discrete(tuple((torch.linspace(0.00085**0.5, 0.012**0.5, 1000).double() ** 2).tolist())),
        Discrete((0.2, 0.3)),
    ],
)
def test_on_a_chain_it_is_the_algorithm_of_the_paper(chain: Discrete) -> None:
    betas = rescaled(torch.tensor(chain.betas, dtype=torch.float64))
    assert betas[-1] == 1
    alpha_bar = (1 - betas).cumprod(0)
    t = torch.arange(1, chain.steps + 1, dtype=torch.float64) / chain.steps
    schedule = ZeroTerminalSNR(chain)
    torch.testing.assert_close(schedule.alpha(t) ** 2, alpha_bar, rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(schedule.sigma(t) ** 2, 1 - alpha_bar, rtol=1e-9, atol=0)
    assert float(schedule.alpha(t[0])) == pytest.approx(float(chain.alpha(t[0])), rel=1e-13)
    assert schedule.alpha(1.0) == 0
    assert schedule.sigma(1.0) == 1


@pytest.mark.parametrize("other", [VP(), VP(0.1, 5), Shifted(VP(), 2.0), EDM(), EDM(0.5, 3.0)])
def test_in_continuous_time_it_keeps_the_start_and_ends_in_noise(other: Schedule) -> None:
    schedule, t = ZeroTerminalSNR(other), torch.linspace(0, 1, 201, dtype=torch.float64)
    assert float(schedule.log_snr(0.0)) == pytest.approx(float(other.log_snr(0.0)), rel=1e-9)
    assert schedule.alpha(1.0) == 0
    a = torch.sqrt(torch.sigmoid(other.log_snr(t)))
    torch.testing.assert_close(schedule.alpha(t), a[0] * (a - a[-1]) / (a[0] - a[-1]))
    total = schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2
    torch.testing.assert_close(total, torch.ones_like(t), rtol=1e-12, atol=0)


def test_close_to_the_data_no_digit_is_lost() -> None:
    """sigma^2 = B(t) a_f / (a_f - a_1) to first order."""
    rest = float(VP().alpha(1.0))
    expected = math.sqrt(0.1e-12 / (1 - rest))
    assert float(ZeroTerminalSNR(VP()).sigma(1e-12)) == pytest.approx(expected, rel=1e-9)


def test_what_ends_in_noise_already_stays_as_it_is() -> None:
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    for schedule in (Cosine(), ZeroTerminalSNR(VP()), ZeroTerminalSNR(Discrete.linear(100))):
        again = ZeroTerminalSNR(schedule)
        torch.testing.assert_close(again.alpha(t), schedule.alpha(t), rtol=1e-12, atol=1e-15)
        torch.testing.assert_close(again.sigma(t), schedule.sigma(t), rtol=1e-10, atol=0)


def test_a_single_step_is_refused() -> None:
    with pytest.raises(UndiffuseError, match="a chain of one step"):
        ZeroTerminalSNR(Discrete((0.3,)))
