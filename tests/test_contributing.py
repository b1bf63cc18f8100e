"""The files that CONTRIBUTING.md shows are complete, and do what it says."""

from __future__ import annotations

import doctest
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

TEXT = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
SCHEDULE, SAMPLER, TEST = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def module(folder: Path, name: str, text: str, patch: pytest.MonkeyPatch) -> ModuleType:
    """`text` as the module `name`, for as long as the test runs."""
    file = folder / f"{name.rpartition('.')[2]}.py"
    file.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    patch.setitem(sys.modules, name, made)
    spec.loader.exec_module(made)
    return made


def test_the_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = module(tmp_path, "undiffuse.schedules.polynomial", SCHEDULE, monkeypatch)
    outcome = doctest.testmod(shown)
    assert outcome.attempted > 0
    assert outcome.failed == 0
    schedule = shown.Polynomial(power=3.0)
    t = torch.linspace(1e-3, 1, 50, dtype=torch.float64)
    torch.testing.assert_close(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones_like(t))
    torch.testing.assert_close(schedule.t_from_log_snr(schedule.log_snr(t)), t, rtol=0, atol=1e-9)


def test_the_sampler_passes_the_test_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = module(tmp_path, "undiffuse.samplers.log_midpoint", SAMPLER, monkeypatch)
    module(tmp_path, "test_log_midpoint", TEST, monkeypatch).test_log_midpoint_is_of_second_order()
    from undiffuse.exact import Gaussian
    from undiffuse.samplers.loop import sample
    from undiffuse.schedules import Flow

    whole = sample(Gaussian(torch.zeros(2), Flow(), std=0.5), (8, 2), shown.LogMidpoint(), steps=5)
    assert bool(torch.isfinite(whole).all())  # alpha = 0 and sigma = 0 at the ends
