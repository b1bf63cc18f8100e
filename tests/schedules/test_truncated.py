"""Truncated: a piece of a schedule is that schedule."""

from __future__ import annotations

import math

import pytest
import torch

from undiffuse.errors import UndiffuseError
from undiffuse.schedules import EDM, VP, Cosine, Flow, Truncated
from undiffuse.schedules.base import Schedule

T = torch.linspace(0, 1, 101, dtype=torch.float64)


def test_it_runs_through_the_piece(schedule: Schedule) -> None:
    piece = Truncated(schedule, 0.2, 0.7)
    torch.testing.assert_close(piece.alpha(T), schedule.alpha(0.2 + 0.5 * T))
    torch.testing.assert_close(piece.sigma(T), schedule.sigma(0.2 + 0.5 * T))
    assert piece.alpha(1.0) == schedule.alpha(0.7)
    assert piece.sigma(0.0) == schedule.sigma(0.2)
    inner = 0.97 * T + 0.01037  # not at the steps of a chain
    rate = 0.5 * schedule.log_snr_rate(0.2 + 0.5 * inner)
    torch.testing.assert_close(piece.log_snr_rate(inner), rate)


def test_a_range_of_log_snr() -> None:
    for schedule in (VP(), Flow(), Cosine(), EDM()):
        piece = Truncated.to_log_snr(schedule, -6.0, 7.0)
        assert float(piece.log_snr(0.0)) == pytest.approx(7, abs=1e-9)
        assert float(piece.log_snr(1.0)) == pytest.approx(-6, abs=1e-9)
    beyond = Truncated.to_log_snr(EDM(), -100.0, 100.0)
    assert (beyond.t_min, beyond.t_max) == (0, 1)
    assert Truncated.to_log_snr(VP(), -5.0, math.inf).sigma(0.0) == 0


def test_the_whole_is_the_schedule_itself() -> None:
    torch.testing.assert_close(Truncated(VP()).sigma(T), VP().sigma(T), rtol=0, atol=0)


@pytest.mark.parametrize("options", [(0.5, 0.5), (0.6, 0.5), (-0.1, 1), (0, 1.1), (math.nan, 1)])
def test_impossible_pieces_are_refused(options: tuple[float, float]) -> None:
    with pytest.raises(UndiffuseError, match="Truncated: t_"):
        Truncated(VP(), *options)


def test_log_snrs_that_the_schedule_does_not_have_are_refused() -> None:
    for lowest, highest in ((20.0, 30.0), (-40.0, -30.0), (3.0, -3.0)):
        with pytest.raises(UndiffuseError, match="has no log-SNR between"):
            Truncated.to_log_snr(EDM(), lowest, highest)
