"""Classifier-free guidance against mixtures whose conditional laws are known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import undiffuse as ud
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.errors import UndiffuseError
from undiffuse.guidance import ClassifierFree
from undiffuse.schedules.base import Schedule

MEANS = torch.tensor([[-1.0, 0.0], [1.0, 0.4], [0.0, 1.2]], dtype=torch.float64)
STDS = torch.tensor([0.2, 0.3, 0.4], dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2])
SCHEDULE = ud.schedules.VP()


def labelled(schedule: Schedule = SCHEDULE) -> ud.exact.GaussianMixture:
    """Three components, each with a label of its own."""
    return ud.exact.GaussianMixture(MEANS, None, schedule, std=STDS, labels=LABELS)


class Recording(Denoiser):
    """A denoiser that keeps what it was asked."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser, self.schedule = denoiser, denoiser.schedule
        self.asked: list[tuple[Tensor, Tensor, dict[str, Condition]]] = []

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        self.asked.append((x_t, t, condition))
        return self.denoiser(x_t, t, label=condition["label"])


def points(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("t", [0.05, 0.5, torch.linspace(0.1, 1.0, 6)])
def test_weight_one_is_conditional_and_weight_zero_unconditional(t: Tensor | float) -> None:
    x, label = points(6), torch.tensor([0, 1, 2, 0, 1, 2])
    given, null = (ClassifierFree(labelled(), w)(x, t, label=label) for w in (1.0, 0.0))
    torch.testing.assert_close(given, labelled()(x, t, label=label), rtol=0, atol=1e-12)
    torch.testing.assert_close(null, labelled()(x, t), rtol=0, atol=1e-12)


@given(w=st.floats(0, 20), t=st.floats(0.01, 1))
def test_linear_in_the_weight(w: float, t: float) -> None:
    x, label = points(3), torch.tensor([0, 1, 2])
    given, null = labelled()(x, t, label=label), labelled()(x, t)
    guided = ClassifierFree(labelled(), w)(x, t, label=label)
    torch.testing.assert_close(guided, null + w * (given - null), rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("view", [Denoiser.noise, Denoiser.score, Denoiser.velocity])
def test_guiding_the_noise_is_guiding_the_data(view: Callable[..., Tensor]) -> None:
    """x0_hat, eps_hat, score and velocity are affine in each other: one guide for all of them."""
    x, label, w = points(3), torch.tensor([0, 1, 2]), 2.5
    for t in (0.1, 0.6, 1.0):
        given, null = view(labelled(), x, t, label=label), view(labelled(), x, t)
        guided = view(ClassifierFree(labelled(), w), x, t, label=label)
        torch.testing.assert_close(guided, null + w * (given - null), rtol=1e-9, atol=1e-9)


def test_one_batched_call() -> None:
    model = Recording(labelled())
    x, t = points(4), torch.linspace(0.2, 0.8, 4)
    label = torch.tensor([0, 1, 2, 1])
    ClassifierFree(model, 2.0)(x, t, label=label, text=torch.arange(4.0), mask=None)
    ((asked_x, asked_t, condition),) = model.asked
    assert torch.equal(asked_x, torch.cat([x, x]))
    assert torch.equal(asked_t, torch.cat([t, t]).double())
    assert condition["label"].tolist() == [0, 1, 2, 1, -1, -1, -1, -1]
    assert condition["text"].tolist() == [0.0, 1.0, 2.0, 3.0] * 2
    assert condition["mask"] is None


def test_weights_that_need_one_answer_ask_for_one() -> None:
    for w in (0.0, 1.0):
        model = Recording(labelled())
        ClassifierFree(model, w)(points(4), 0.5, label=torch.tensor([0, 1, 2, 1]))
        assert [len(x) for x, _, _ in model.asked] == [4]


def test_one_evaluation_a_step_in_sampling() -> None:
    model = Recording(labelled())
    label = torch.tensor([0, 1])
    path = ud.sample(ClassifierFree(model, 2.0), (2, 2), steps=9, trajectory=True, label=label)
    assert path.evaluations == len(model.asked) == 9


def test_samples_of_weight_one_are_those_of_the_component() -> None:
    """The same noise through the guide and through the component alone ends at the same points."""
    for k in (0, 1, 2):
        alone = ud.exact.Gaussian(MEANS[k], SCHEDULE, std=float(STDS[k]))
        guided = ud.sample(
            ClassifierFree(labelled(), 1.0), (8, 2), steps=20, label=torch.full((8,), k)
        )
        torch.testing.assert_close(guided, ud.sample(alone, (8, 2), steps=20), rtol=0, atol=1e-5)


def test_more_weight_moves_away_from_the_other_classes() -> None:
    """log p(label | x) rises with w, and the samples draw together."""
    label, model = torch.zeros(256, dtype=torch.int64), labelled()
    log_posterior, spread = [], []
    for w in (0.0, 1.0, 3.0):
        x = ud.sample(ClassifierFree(model, w), (256, 2), steps=20, label=label).double()
        joint = model.log_prob(x, 0.0, label=label) - model.log_prob(x, 0.0)
        log_posterior.append(float(joint.mean()))
        spread.append(float(x.std(0).mean()))
    assert log_posterior[0] < log_posterior[1] < log_posterior[2]
    assert spread[0] > spread[1] > spread[2]


def test_under_another_schedule() -> None:
    """The guide of the rescheduled denoiser, equal at equal log-SNR and scaled sample."""
    edm = ud.schedules.EDM()
    guide = ClassifierFree(labelled(), 3.0)
    moved = guide.with_schedule(edm)
    assert moved.schedule == edm
    x, label = points(3), torch.tensor([0, 1, 2])
    t = torch.tensor(0.4, dtype=torch.float64)
    there = edm.t_from_log_snr(SCHEDULE.log_snr(t))
    scaled = x / SCHEDULE.alpha(t)  # alpha of EDM is 1
    torch.testing.assert_close(
        moved(scaled, there, label=label), guide(x, t, label=label), rtol=1e-9, atol=1e-9
    )
    assert guide.log_snr_range == labelled().log_snr_range


@pytest.mark.parametrize("weight", [-0.5, float("nan"), float("inf")])
def test_impossible_weights_are_refused(weight: float) -> None:
    with pytest.raises(UndiffuseError, match="must be a finite number >= 0"):
        ClassifierFree(labelled(), weight)


def test_a_guide_needs_a_label() -> None:
    for w in (0.0, 1.0, 2.0):
        with pytest.raises(UndiffuseError, match="needs a label"):
            ud.sample(ClassifierFree(labelled(), w), (2, 2), steps=2)


@pytest.mark.parametrize("w", [0.0, 0.5, 1.0, 3.0])
def test_every_condition_of_a_network_is_dropped_together(w: float) -> None:
    torch.manual_seed(0)
    network = ud.networks.MLP(size=2, width=16, depth=1, classes=3, vector=4, tokens=5)
    for parameter in network.parameters():  # the last layers start at zero
        torch.nn.init.normal_(parameter, std=0.3)
    denoiser = ud.Learned(network, ud.predictions.EDMNetwork(0.5), SCHEDULE)
    x, label = torch.randn(3, 2), torch.tensor([0, 1, 2])
    condition = {"label": label, "vector": torch.randn(3, 4), "tokens": torch.randn(3, 6, 5)}
    given, null = denoiser(x, 0.4, **condition), denoiser(x, 0.4)
    assert not torch.allclose(given, null)
    guided = ClassifierFree(denoiser, w)(x, 0.4, **condition)
    torch.testing.assert_close(guided, null + w * (given - null))


def test_a_label_that_does_not_exist() -> None:
    with pytest.raises(UndiffuseError, match="no component has one of the labels"):
        ClassifierFree(labelled(), 2.0)(points(2), 0.5, label=torch.tensor([0, 9]))
