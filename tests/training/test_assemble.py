"""From a recipe and data to objects."""

from __future__ import annotations

import pytest
import torch

from undiffuse.data.dataset import InMemory
from undiffuse.errors import UndiffuseError
from undiffuse.training.assemble import (
    choose,
    difference,
    make_denoiser,
    make_objective,
    measured,
    open_any,
)
from undiffuse.training.recipe import Recipe, read


def test_data_are_measured_where_the_recipe_says_so(points: InMemory) -> None:
    recipe = Recipe().changed({"network.name": "mlp", "schedule.rho": 5})
    made = measured(recipe, points)
    std = round(float(points.values.double().std(correction=0)), 4)
    assert made.prediction == {"name": "edm", "sigma_data": std}
    assert made.weight == {"name": "edm", "sigma_data": std}
    assert made.schedule == {"name": "edm", "rho": 5}
    assert measured(made, points) == made


@pytest.mark.parametrize("unit", [1e-30, 4e-5, 1.4e-4, 0.07, 3.0, 1e6])
def test_the_measured_deviation_has_four_digits_in_any_unit(unit: float) -> None:
    data = InMemory(unit * torch.randn(500, 3, generator=torch.Generator().manual_seed(0)))
    made = measured(read("vectors"), data).prediction["sigma_data"]
    assert made == pytest.approx(float(data.facts()["std"]), rel=1e-3)


def test_what_cannot_be_done_to_the_data_given_is_refused(points: InMemory) -> None:
    with pytest.raises(UndiffuseError, match=r"data\.flip mirrors images"):
        measured(read("vectors").changed({"data.flip": True}), points)
    images = torch.zeros(4, 1, 8, 8)
    assert open_any(images, 8).shape == (1, 8, 8)
    for given in (images, InMemory(images)):
        with pytest.raises(UndiffuseError, match=r"images of 4x4, and those given are \[1, 8, 8\]"):
            open_any(given, 4)


def test_the_default_recipe_goes_by_the_kind_of_data(points: InMemory, images: InMemory) -> None:
    assert choose(points, None, {}) == read("vectors")
    assert choose(images, None, {}) == read("images")
    assert choose("digits", None, {}) == read("digits")
    assert choose("moons", None, {}) == read("vectors")
    assert choose(points, "vectors", {"training.steps": 7}).training.steps == 7
    assert choose(torch.zeros(3, 2), None, {}) == read("vectors")


def test_networks_are_fitted_to_the_data(points: InMemory, images: InMemory) -> None:
    made = make_denoiser(measured(read("vectors"), points), points, 0)
    assert (made.network.size, made.network.classes) == (2, 0)
    small = read("images").changed({"network.width": 8})
    made = make_denoiser(measured(small, images), images, 0)
    assert (made.network.channels, made.network.dims, made.network.classes) == (1, 2, 3)
    assert made.network.width == 8
    objective = make_objective(measured(small, images))
    assert made.log_snr_range == objective.times.log_snr_range(made.schedule)


def test_first_weights_are_a_function_of_the_seed(points: InMemory) -> None:
    recipe = measured(read("vectors"), points)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, same, other = (make_denoiser(recipe, points, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert any(not torch.equal(one[k], other[k]) for k in one)


def test_difference_names_the_first_setting() -> None:
    recipe = Recipe()
    assert difference(recipe, recipe) is None
    for settings, said in (
        ({"training.lr": 0.5}, "training.lr was 0.002, not 0.5"),
        ({"data.size": 8}, "data.size was None, not 8"),
        ({"network.name": "mlp"}, "network.name was 'unet', not 'mlp'"),
        ({"description": "x"}, None),  # words change nothing
    ):
        found = difference(recipe, recipe.changed(settings))
        assert found == said


def test_data_that_cannot_be_opened() -> None:
    with pytest.raises(UndiffuseError, match="did you mean 'digits'"):
        open_any("digts", None)
    with pytest.raises(UndiffuseError, match="floats"):
        open_any(torch.zeros(3, dtype=torch.int64), None)
