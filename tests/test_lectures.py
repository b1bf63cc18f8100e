"""The page about the lectures names nothing that does not exist, and two proofs it asks for."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import undiffuse
from undiffuse import process
from undiffuse.exact import GaussianMixture
from undiffuse.schedules import VP

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "lectures.md").read_text(encoding="utf-8")
IDEAS, _, MISTAKES = PAGE.partition("## What they print")


def rows(text: str) -> list[list[str]]:
    """The cells of every row of the tables in a Markdown text, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for row in cells if row[0][0].isdigit()]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@functools.cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}


def find(dotted: str) -> Any:
    """The object of a name such as schedules.Discrete.linear, opened as a user would."""
    found: Any = undiffuse
    for name in dotted.split("."):
        assert not name.startswith("_"), f"{dotted} is not public"
        try:
            found = getattr(found, name)
        except AttributeError:
            found = importlib.import_module(f"{found.__name__}.{name}")
    return found


@pytest.mark.parametrize("row", rows(IDEAS), ids=lambda row: row[0])
def test_an_idea_has_its_object_its_test_and_its_example(row: list[str]) -> None:
    _, idea, objects, tests, example = row
    assert idea
    if objects == "later":
        assert not tests
        assert not example
        return
    assert quoted(objects)
    for dotted in quoted(objects):
        assert inspect.getdoc(find(dotted)), f"{dotted} has no docstring"
    assert_tests_exist(tests)
    for name in quoted(example):
        assert (ROOT / "examples" / f"{name}.py").is_file()


@pytest.mark.parametrize("row", rows(MISTAKES), ids=lambda row: row[1][:40])
def test_a_mistake_has_the_right_form_and_its_test(row: list[str]) -> None:
    lecture, printed, here, tests = row
    assert lecture in "12345"
    assert printed
    assert here
    assert_tests_exist(tests)


def assert_tests_exist(cell: str) -> None:
    assert quoted(cell)
    for name in quoted(cell):
        file, _, test = name.partition("::")
        assert test in names_in(file), f"there is no {name}"


def test_ideas_are_numbered_in_order() -> None:
    for lecture in range(1, 6):
        _, _, section = IDEAS.partition(f"\n## {lecture}. ")
        found = [row[0] for row in rows(section.partition("\n## ")[0])]
        assert found == [f"{lecture}.{k}" for k in range(1, len(found) + 1)]
        assert len(found) > 10


def test_every_example_realises_an_idea() -> None:
    named = {name for row in rows(IDEAS) for name in quoted(row[4])}
    assert named == {f.stem for f in (ROOT / "examples").glob("[a-z]*.py")}


# ------------------------------------------------------------------ proofs without another home


def test_the_reverse_kernel_is_gaussian_only_in_the_limit_of_small_steps() -> None:
    """The distance of p(x_s | x_t), by Bayes' rule, from its best Gaussian falls with the step.

    To first order in the step, once it is smaller than what separates the modes.
    """
    schedule, t = VP(), 0.5
    data = GaussianMixture([[-1.5], [0.3], [1.4]], None, schedule, std=0.2)
    x = torch.linspace(-5, 5, 4001, dtype=torch.float64)[:, None]
    x_t = torch.full((1, 1), -0.25, dtype=torch.float64)
    distances = []
    for step in (0.42, 0.08, 0.04, 0.02, 0.01):
        s = t - step
        there, std = process.transition(schedule, x, s, t)
        joint = -(((x_t - there) / std) ** 2)[:, 0] / 2 + data.log_prob(x, s)
        exact = joint.softmax(0)
        mean, _ = process.posterior(schedule, x_t, data(x_t, t), t, s)
        variance = data.reverse_variance(x_t, t, s)
        gaussian = (-((x - mean) ** 2) / (2 * variance))[:, 0].softmax(0)
        first = (exact[:, None] * x).sum()
        assert float(first) == pytest.approx(float(mean), abs=1e-9)
        second = (exact[:, None] * (x - first) ** 2).sum()
        assert float(second) == pytest.approx(float(variance), rel=1e-9)
        distances.append(float((exact - gaussian).abs().sum()) / 2)  # in total variation
    assert distances[0] > 0.2
    assert distances[-1] < 0.01
    assert all(b < 0.7 * a for a, b in pairwise(distances))


def test_003_the_loss_goes_backward_not_the_optimiser() -> None:
    weight = torch.ones(1, requires_grad=True)
    optimiser = torch.optim.Adam([weight])
    loss = (weight**2).sum()
    with pytest.raises(AttributeError):
        optimiser.backward(loss)  # type: ignore[attr-defined]
    loss.backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [2.0]
