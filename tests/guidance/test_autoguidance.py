"""Autoguidance: the line from a bad model through a good one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import undiffuse as ud
from undiffuse.errors import UndiffuseError
from undiffuse.guidance import Autoguidance

VP = ud.schedules.VP()
GOOD = ud.exact.Gaussian(torch.tensor([0.5, 0.0]), VP, std=0.4)
BAD = ud.exact.Gaussian(torch.tensor([0.3, 0.2]), VP, std=0.8)


@given(w=st.floats(0, 10), t=st.floats(0.01, 1))
def test_linear_in_the_weight(w: float, t: float) -> None:
    x = torch.tensor([[1.0, -0.5], [0.0, 2.0]]).double()
    bad, good = BAD(x, t), GOOD(x, t)
    found = Autoguidance(GOOD, BAD, w)(x, t)
    torch.testing.assert_close(found, bad + w * (good - bad), rtol=1e-12, atol=1e-12)


def test_an_error_that_the_bad_model_has_more_of_is_taken_away() -> None:
    """Where the bad mean errs by e and the good by e / 3, w = 1.5 finds the truth exactly."""
    truth, error = torch.tensor([0.2, -0.1]).double(), torch.tensor([0.6, 0.3]).double()
    exact, good, bad = (
        ud.exact.Gaussian(truth + share * error, VP, std=0.5) for share in (0, 1 / 3, 1)
    )
    guided = ud.sample(Autoguidance(good, bad, 1.5), (64, 2), steps=10)
    torch.testing.assert_close(guided, ud.sample(exact, (64, 2), steps=10))


def test_the_bad_model_is_left_alone_where_it_has_no_say(
    labelled: Any, recording: Any, x: Tensor
) -> None:
    good, bad = recording(labelled()), recording(labelled())
    label = torch.tensor([0, 1, 2, 0, 1, 2])
    Autoguidance(good, bad, 1.0)(x, 0.5, label=label)
    assert (len(good.asked), len(bad.asked)) == (1, 0)
    Autoguidance(good, bad, 2.0)(x, 0.5, label=label)
    assert (len(good.asked), len(bad.asked)) == (2, 1)
    assert torch.equal(bad.asked[0][2]["label"], label)  # both know the condition


def test_mistakes() -> None:
    with pytest.raises(UndiffuseError, match="weight must be a finite number >= 0"):
        Autoguidance(GOOD, BAD, -1.0)
    with pytest.raises(UndiffuseError, match="use with_schedule on one of them"):
        Autoguidance(GOOD, BAD.with_schedule(ud.schedules.EDM()), 2.0)
