"""Every schedule of the catalogue, for the tests that must hold under all of them."""

from __future__ import annotations

import pytest

from undiffuse import catalogue
from undiffuse.schedules.base import Schedule

WITH_OPTIONS = {  # the others have defaults
    "discrete": "discrete.linear(steps=100)",
    "shifted": "shifted(schedule=cosine, shift=-1.4)",
    "tabulated": "tabulated(log_snrs=[12, 6, 2, -1, -5, -11])",
    "ve": "ve(sigma_max=100)",
    "truncated": "truncated(schedule=vp, t_min=0.001)",
    "zero-terminal-snr": "zero-terminal-snr(schedule=discrete.linear)",
}


@pytest.fixture(params=catalogue.names("schedules"))
def schedule(request: pytest.FixtureRequest) -> Schedule:
    """One schedule after the other."""
    made: Schedule = catalogue.parse("schedules", WITH_OPTIONS.get(request.param, request.param))
    return made
