"""The grid of equal steps in log-SNR."""

from __future__ import annotations

import pytest
import torch

from undiffuse.errors import UndiffuseError
from undiffuse.grids import LogSNR
from undiffuse.schedules import EDM, VP, Cosine, Flow
from undiffuse.schedules.base import Schedule


def noise(schedule: Schedule, times: torch.Tensor) -> torch.Tensor:
    """sigma / alpha."""
    return schedule.sigma(times) / schedule.alpha(times)


@pytest.mark.parametrize("schedule", [VP(), Cosine(), Flow(), EDM()], ids=lambda s: s.name)
def test_noise_levels_fall_geometrically(schedule: Schedule) -> None:
    """The denoiser is asked at the same `steps` noise levels under every schedule."""
    times = LogSNR(noise_max=80.0, noise_min=0.01).times(schedule, 10)
    expected = torch.logspace(torch.tensor(80.0).log10().item(), -2, 10, dtype=torch.float64)
    torch.testing.assert_close(noise(schedule, times)[:10], expected, rtol=1e-6, atol=0)


def test_ends_are_cut_to_what_the_schedule_has() -> None:
    short = EDM(sigma_min=0.1, sigma_max=10.0)
    found = noise(short, LogSNR().times(short, 5))
    assert float(found[0]) == pytest.approx(10.0, rel=1e-9)
    assert float(found[-1]) == pytest.approx(0.1, rel=1e-9)
    vp = VP()
    assert float(LogSNR(noise_max=1e6).times(vp, 5)[0]) == pytest.approx(1.0, abs=1e-12)


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(UndiffuseError, match="noise_min must be positive"):
        LogSNR(noise_min=0.0)
    with pytest.raises(UndiffuseError, match="noise_max must be larger than noise_min"):
        LogSNR(noise_max=0.01, noise_min=0.02)
    with pytest.raises(UndiffuseError, match="no noise level in common"):
        LogSNR(noise_max=4000.0, noise_min=1000.0).times(VP(), 5)
    with pytest.raises(UndiffuseError, match="no noise level in common"):
        LogSNR(noise_max=4.0, noise_min=1.0).times(EDM(sigma_min=5.0), 5)
