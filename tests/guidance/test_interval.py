"""Guidance in an interval of noise levels: what is asked where."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.errors import UndiffuseError
from undiffuse.guidance import ClassifierFree, Interval, Negative, StaticThreshold

LABEL = torch.tensor([0, 1, 2, 0, 1, 2])


def test_each_step_asks_one_of_the_two(labelled: Any, recording: Any) -> None:
    """As many calls for both labels as the grid has times inside, for one as it has outside."""
    plain = recording(labelled())
    guide = Interval(ClassifierFree(plain, 3.0), 0.5, 5.0)
    path = ud.sample(guide, (6, 2), "ddim", steps=20, trajectory=True, label=LABEL)
    schedule = guide.schedule
    noise = (schedule.sigma(path.times) / schedule.alpha(path.times))[:-1]
    inside = int(((noise > 0.5) & (noise <= 5.0)).sum())
    assert 0 < inside < 20
    sizes = [len(asked) for asked, _, _ in plain.asked]
    assert sizes.count(12) == inside
    assert sizes.count(6) == 20 - inside


def test_a_time_for_each_sample_splits_the_batch(labelled: Any, recording: Any, x: Tensor) -> None:
    plain = recording(labelled())
    guide = Interval(ClassifierFree(plain, 3.0), 0.5, 5.0)
    schedule = guide.schedule
    noise = torch.tensor([0.1, 0.49, 0.51, 4.9, 5.1, 50.0]).double()
    t = schedule.t_from_log_snr(-2 * noise.log())
    x0_hat = guide(x, t, label=LABEL, mask=None)
    (asked, _, condition), (outside, _, _) = plain.asked
    assert torch.equal(asked, x[[2, 3, 2, 3]])
    assert condition["label"].tolist() == [2, 0, -1, -1]
    assert condition["mask"] is None
    assert len(outside) == 4
    expected = labelled()(x, t, label=LABEL)
    expected[2:4] = ClassifierFree(labelled(), 3.0)(x, t, label=LABEL)[2:4]
    torch.testing.assert_close(x0_hat, expected, rtol=1e-12, atol=1e-12)


def test_all_noise_levels_and_none(labelled: Any, x: Tensor) -> None:
    plain, guided = labelled(), ClassifierFree(labelled(), 3.0)
    for t in (0.01, 0.4, 1.0):
        everywhere = Interval(guided, 0.0, float("inf"))
        assert torch.equal(everywhere(x, t, label=LABEL), guided(x, t, label=LABEL))
        nowhere = Interval(guided, 1e6, float("inf"))
        assert torch.equal(nowhere(x, t, label=LABEL), plain(x, t, label=LABEL))
    flow = Interval(ClassifierFree(labelled(ud.schedules.Flow()), 3.0), 0.0, float("inf"))
    x0_hat = flow(x, 1.0, label=LABEL)  # sigma / alpha is infinite, and inside
    assert bool(torch.isfinite(x0_hat).all())


def test_a_guide_with_conditions_of_its_own(labelled: Any, x: Tensor) -> None:
    """Outside, the denoiser is asked without them."""
    guide = Interval(Negative(labelled(), 4.0), 0.5, 5.0)
    x0_hat = guide(x, 0.01, label=LABEL, negative_label=LABEL.roll(1))
    torch.testing.assert_close(x0_hat, labelled()(x, 0.01, label=LABEL))


def test_what_it_is_for(labelled: Any) -> None:
    """Without guidance at high noise the samples of a label keep more of their variety."""
    mixture = ud.exact.GaussianMixture(
        torch.tensor([[-1.0, 0.0], [1.0, 0.4], [0.0, 3.0]]),
        None,
        ud.schedules.VP(),
        std=0.2,
        labels=torch.tensor([0, 0, 1]),
    )
    label, modes = torch.zeros(512, dtype=torch.int64), []
    whole = ClassifierFree(mixture, 6.0)
    for guide in (mixture, whole, Interval(whole, 0.0, 1.0)):
        x = ud.sample(guide, (512, 2), steps=30, label=label)
        modes.append(float((x[:, 0] > 0).double().mean()))
    free, guided, limited = modes
    assert abs(limited - free) < abs(guided - free)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (-0.1, 1.0, "noise_min must be at least 0"),
        (1.0, 1.0, "noise_max must be larger than noise_min"),
        (0.0, float("nan"), "noise_max must be larger"),
    ],
)
def test_empty_intervals_are_refused(low: float, high: float, message: str, labelled: Any) -> None:
    with pytest.raises(UndiffuseError, match=message):
        Interval(ClassifierFree(labelled(), 3.0), low, high)


def test_it_limits_the_guide_before_it_and_no_other(labelled: Any, x: Tensor) -> None:
    """Outside, what lies beneath is itself a guide: here the threshold under the guidance."""
    floor = StaticThreshold(labelled(), -0.1, 0.1)
    guide = Interval(ClassifierFree(floor, 4.0), 0.5, 5.0)
    outside = guide(x, 0.01, label=LABEL)
    assert torch.equal(outside, floor(x, 0.01, label=LABEL))


def test_without_a_guide_there_is_nothing_to_limit(labelled: Any) -> None:
    with pytest.raises(UndiffuseError, match="and there is none: put it around one"):
        Interval(labelled(), 0.1, 1.0)
