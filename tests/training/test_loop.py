"""A step is a function of (seed, step, state): the order of the data, its times, its noise."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from undiffuse import noise
from undiffuse.data.dataset import Batch, InMemory
from undiffuse.training.assemble import make_denoiser, make_objective, measured
from undiffuse.training.batches import Order, prepare
from undiffuse.training.loop import Record, State, learning_rate, steps_for, train_steps
from undiffuse.training.recipe import DataOptions, Recipe, TrainingOptions


@given(
    count=st.integers(1, 40), batch_size=st.integers(1, 100), seed=st.integers(0, 3), data=st.data()
)
def test_each_sample_comes_once_per_epoch(
    count: int, batch_size: int, seed: int, data: st.DataObject
) -> None:
    order = Order(count, batch_size, seed)
    steps = -(-3 * count // batch_size)  # of three epochs
    sequence = torch.cat([order.indices(step) for step in range(steps)])
    assert len(sequence) == steps * batch_size
    for epoch in range(3):
        part = sequence[epoch * count : (epoch + 1) * count]
        assert part.sort().values.tolist() == list(range(count))
    step = data.draw(st.integers(0, steps - 1))  # without having gone through the others
    alone = Order(count, batch_size, seed).indices(step)
    assert torch.equal(alone, sequence[step * batch_size : (step + 1) * batch_size])


def test_epochs_and_seeds_have_their_own_orders() -> None:
    orders = [Order(1000, 1000, seed).indices(step) for seed in (0, 1) for step in (0, 1)]
    for i, one in enumerate(orders):
        for other in orders[:i]:
            assert int((one == other).sum()) < 20  # one position in a thousand agrees by chance


def test_images_are_mirrored_and_labels_hidden_by_counters() -> None:
    x = noise.normal(0, "x", (400, 1, 2, 3))
    batch = Batch(x, torch.arange(400) % 7)
    options = TrainingOptions(label_dropout=0.25)
    flipped, hidden = prepare(batch, 5, 9, DataOptions(flip=True), options)
    assert hidden is not None
    assert batch.label is not None
    mirrored = (flipped == x.flip(-1)).flatten(1).all(1)
    assert bool((mirrored | (flipped == x).flatten(1).all(1)).all())
    assert int(mirrored.sum()) == 200  # stratified: exactly half
    assert int((hidden == -1).sum()) == 100
    assert bool(((hidden == batch.label) | (hidden == -1)).all())
    again, same = prepare(batch, 5, 9, DataOptions(flip=True), options)
    assert torch.equal(again, flipped)
    assert same is not None
    assert torch.equal(same, hidden)
    for seed, step in ((6, 9), (5, 10)):
        assert not torch.equal(
            prepare(batch, seed, step, DataOptions(flip=True), options)[0], again
        )
    plain, labels = prepare(Batch(x, None), 5, 9, DataOptions(), options)
    assert torch.equal(plain, x)
    assert labels is None


def test_the_learning_rate_warms_up_and_decays() -> None:
    options = TrainingOptions(lr=0.1, warmup=4, decay_to=0.1)
    rates = [learning_rate(step, 12, options) for step in range(12)]
    assert rates[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert rates[4] == pytest.approx(0.1)
    assert rates[8] == pytest.approx(0.055)  # half way
    assert learning_rate(12, 12, options) == pytest.approx(0.01)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert learning_rate(0, 1, TrainingOptions(warmup=0)) == TrainingOptions().lr


def made(data: InMemory, recipe: Recipe) -> tuple[State, list[Record]]:
    recipe = measured(recipe, data)
    state = State.new(make_denoiser(recipe, data, 0), recipe.training)
    objective = make_objective(recipe)
    records = list(train_steps(state, data, objective, 5, 0, recipe.training, recipe.data))
    return state, records


def test_records_tell_what_happened(points: InMemory, short: Recipe) -> None:
    state, records = made(points, short)
    assert state.step == 5
    assert [record.step for record in records] == [1, 2, 3, 4, 5]
    assert [record.images for record in records] == [4, 8, 12, 16, 20]
    for record in records:
        assert record.steps == 5
        assert math.isfinite(record.loss)
        assert record.gradient_norm > 0
        assert record.seconds > 0
        assert record.lr == learning_rate(record.step - 1, 5, short.training)


def test_training_neither_reads_nor_moves_the_global_generator(
    images: InMemory, recipe: Recipe
) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    _, first = made(images, recipe)  # with dropout in the network
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    _, second = made(images, recipe)
    assert [record.loss for record in first] == [record.loss for record in second]


def test_steps_for() -> None:
    assert steps_for(2, 0.1, 20) == 1200
    assert steps_for(0.001, 1.0, 20) == 21  # never fewer than are done
