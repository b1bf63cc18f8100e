"""Shifted: the same schedule for images of another size."""

from __future__ import annotations

import math

import pytest
import torch

from undiffuse import catalogue
from undiffuse.errors import UndiffuseError
from undiffuse.schedules import EDM, VP, Cosine, Discrete, Shifted
from undiffuse.schedules.base import Schedule

T = torch.linspace(0, 1, 101, dtype=torch.float64)


def test_the_log_snr_moves_and_the_variance_is_kept(schedule: Schedule) -> None:
    shifted, inner = Shifted(schedule, -1.7), T[1:-1]
    expected = schedule.log_snr(inner) - 1.7
    torch.testing.assert_close(shifted.log_snr(inner), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(shifted.alpha(inner) ** 2, torch.sigmoid(expected))
    torch.testing.assert_close(shifted.sigma(inner) ** 2, torch.sigmoid(-expected))
    total = shifted.alpha(T) ** 2 + shifted.sigma(T) ** 2
    torch.testing.assert_close(total, torch.ones_like(T), rtol=1e-13, atol=0)


def test_the_ends_of_a_whole_schedule_stay_where_they_are() -> None:
    for shift in (-9.0, 9.0):
        shifted = Shifted(Cosine(), shift)
        assert shifted.alpha(torch.tensor([0.0, 1.0])).tolist() == [1, 0]
        assert shifted.sigma(torch.tensor([0.0, 1.0])).tolist() == [0, 1]


def test_the_cosine_of_hoogeboom() -> None:
    """Equation 3: log_snr = -2 log tan(pi t / 2) + 2 log(64 / d)."""
    inner = T[1:-1]
    printed = -2 * torch.tan(math.pi / 2 * inner).log() + 2 * math.log(64 / 256)
    actual = Shifted.for_size(Cosine(), 256).log_snr(inner)
    torch.testing.assert_close(actual, printed, rtol=1e-12, atol=1e-12)


def test_a_large_image_averaged_down_is_the_small_one() -> None:
    """Mean pooling d -> 64 divides the noise by d/64 and keeps smooth images as they are."""
    for size in (128, 512):
        schedule = Shifted.for_size(VP(), size)
        pooled = schedule.sigma(T) / schedule.alpha(T) / (size / 64)
        torch.testing.assert_close(pooled, VP().sigma(T) / VP().alpha(T))


def test_shifts_add_up_and_no_shift_is_the_variance_preserving_form() -> None:
    twice, once = Shifted(Shifted(VP(), 1.0), -3.0), Shifted(VP(), -2.0)
    torch.testing.assert_close(twice.alpha(T), once.alpha(T), rtol=1e-12, atol=0)
    torch.testing.assert_close(Shifted(VP(), 0.0).sigma(T), VP().sigma(T), rtol=1e-12, atol=0)
    edm = Shifted(EDM(), 0.0)
    torch.testing.assert_close(edm.sigma(T) / edm.alpha(T), EDM().sigma(T), rtol=1e-12, atol=0)


def test_in_text_in_json_and_in_other_views() -> None:
    made = Shifted(Discrete((0.1, 0.2)), 1.0)
    written = {"kind": "schedules.discrete", "betas": [0.1, 0.2]}
    assert catalogue.describe(made)["schedule"] == written
    assert catalogue.build({"name": "shifted", "schedule": written, "shift": 1.0}, "schedules") == (
        made
    )
    assert catalogue.parse("schedules", "shifted(schedule=vp, shift=1)") == Shifted(VP(), 1)
    small = catalogue.parse("schedules", "shifted.for_size(schedule=cosine, size=32)")
    assert small == Shifted.for_size(Cosine(), 32)
    nested = Shifted(Shifted(made, 2.0), 3.0)
    assert catalogue.build(catalogue.describe(nested)) == nested
    assert len({nested, made, Shifted(Discrete((0.1, 0.2)), 1.0)}) == 2


@pytest.mark.parametrize("options", [(VP(), math.nan), (VP(), 1e3), (VP(), "a"), (3, 1), (None, 1)])
def test_impossible_options_are_refused(options: tuple[Schedule, float]) -> None:
    with pytest.raises(UndiffuseError, match="Shifted: "):
        Shifted(*options)


def test_other_mistakes() -> None:
    with pytest.raises(UndiffuseError, match=r"Shifted\.for_size: .* pixels, not 0"):
        Shifted.for_size(VP(), 0)
    with pytest.raises(UndiffuseError, match="did you mean 'cosine'"):
        catalogue.parse("schedules", "shifted(schedule=cosin, shift=1)")
    with pytest.raises(UndiffuseError, match="is not one of the schedules"):
        Shifted({"kind": "grids.uniform"}, 1.0)  # type: ignore[arg-type]
