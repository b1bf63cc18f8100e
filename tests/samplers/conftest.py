"""Every schedule of the catalogue, for the tests that must hold under all of them."""

from __future__ import annotations

import pytest

from undiffuse import catalogue
from undiffuse.schedules.base import Schedule

WITH_OPTIONS = {"discrete": "discrete.linear(steps=100)"}  # the others have defaults


@pytest.fixture(params=catalogue.names("schedules"))
def schedule(request: pytest.FixtureRequest) -> Schedule:
    """One schedule after the other."""
    made: Schedule = catalogue.parse("schedules", WITH_OPTIONS.get(request.param, request.param))
    return made
