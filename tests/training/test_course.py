"""How a run has gone so far, as a value."""

from __future__ import annotations

import dataclasses
import json

import pytest

from undiffuse.training.course import WINDOW, Course


def test_the_smoothed_loss_is_unbiased_from_the_first_step_on() -> None:
    course = Course()
    assert course.loss is None
    for step in range(1, 200):
        course = course.taken(3.0, 1.0)
        assert course.loss == pytest.approx(3.0)
        assert course.settled == (step >= WINDOW)
    assert course.taken(53.0, 1.0).loss == pytest.approx(4.0, abs=0.02)


def test_skipped_steps_are_counted_and_change_nothing_else() -> None:
    course = Course().taken(1.0, 2.0)
    missed = course.missed().missed()
    assert (missed.skipped, missed.in_a_row) == (2, 2)
    assert (missed.loss, missed.norms) == (course.loss, course.norms)
    again = missed.taken(1.0, 2.0)
    assert (again.skipped, again.in_a_row) == (2, 0)


def test_an_explosion_is_clipped_and_a_hundred_times_the_median() -> None:
    course = Course()
    for norm in [0.1] * 19:
        course = course.taken(1.0, norm)
    assert course.explosion(1e9, clip=1.0) is None  # not yet known what is usual
    course = course.taken(1.0, 1e6)  # one alone does not change it
    assert course.explosion(50.0, clip=1.0) == pytest.approx(500.0)
    assert course.explosion(9.0, clip=1.0) is None
    assert course.explosion(50.0, clip=60.0) is None  # it is not even clipped
    for _ in range(200):
        course = course.taken(1.0, 0.5)
    assert len(course.norms) == WINDOW
    assert Course(norms=(0.0,) * 30).explosion(50.0, clip=1.0) is None


def test_json_gives_the_same_back() -> None:
    course = Course().taken(1 / 3, 1e-30).missed()
    assert Course(**json.loads(json.dumps(dataclasses.asdict(course)))) == course
