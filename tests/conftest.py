"""What every test shares: the same examples on every run, one thread each, and the catalogue.

A test that asks for `schedule` or `prediction` runs once for every one in the catalogue, so a new
one is tested as soon as its file exists.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings

from undiffuse import catalogue
from undiffuse.predictions.base import Prediction
from undiffuse.schedules.base import Schedule

settings.register_profile("house", derandomize=True, deadline=None)
settings.load_profile("house")
torch.set_num_threads(1)

# A schedule that needs options, or is worth several examples, gets a line here.
EXAMPLES = {
    "vp": ("vp", "vp(beta_min=0, beta_max=6)"),
    "edm": ("edm", "edm(sigma_max=20, rho=1)"),
    "discrete": ("discrete.linear", "discrete.linear(steps=100)", "discrete(betas=[0.3])"),
    "shifted": ("shifted(schedule=cosine, shift=-1.4)", "shifted(schedule=edm, shift=2)"),
    "sigmoid": ("sigmoid", "sigmoid(start=0, end=3, tau=0.3)"),
    "tabulated": ("tabulated(log_snrs=[9, 5, 2, -1, -9])",),
    "truncated": ("truncated(schedule=cosine, t_min=0.01, t_max=0.98)",),
    "zero-terminal-snr": (
        "zero-terminal-snr(schedule=vp)",
        "zero-terminal-snr(schedule=discrete.linear)",
    ),
}
SCHEDULES = [text for name in catalogue.names("schedules") for text in EXAMPLES.get(name, (name,))]


@pytest.fixture(scope="session", params=SCHEDULES)
def schedule(request: pytest.FixtureRequest) -> Schedule:
    """Every schedule of the catalogue in turn."""
    made: Schedule = catalogue.parse("schedules", request.param)
    return made


@pytest.fixture(scope="session")
def schedules() -> list[Schedule]:
    """One of each family at once."""
    first = [EXAMPLES.get(name, (name,))[0] for name in catalogue.names("schedules")]
    return [catalogue.parse("schedules", text) for text in first]


@pytest.fixture(scope="session", params=catalogue.names("predictions"))
def prediction(request: pytest.FixtureRequest) -> Prediction:
    """Every kind of prediction in turn, for data of standard deviation 0.7."""
    made: Prediction = catalogue.build(
        {"name": request.param, "sigma_data": 0.7}, family="predictions"
    )
    return made
